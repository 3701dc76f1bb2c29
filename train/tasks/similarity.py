"""The task of training a network of the Siamese family: draw images, embed them, form pairs or triplets, loss."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracker.backbones import MobileNetV2
from tracker.errors import ConfigError, DataError, InputError
from tracker.similarity import IMAGENET, SimilarityNet
from train.checkpoint import read_imagenet
from train.logistic import fit
from train.run import Batch, Validation
from train.similarity import losses
from train.similarity.config import (
    ContrastiveLoss,
    CrossEntropyLoss,
    LayerwiseConfig,
    NWayLoss,
    OptimConfig,
    TrainConfig,
    TripletLoss,
)
from train.similarity.data import ImageSet, fingerprint, seen_groups
from train.similarity.evaluate import (
    auc,
    best_threshold,
    classes_to_choose,
    draw_pairs,
    far_thresholds,
    one_shot,
    roc,
    score_pairs,
)
from train.similarity.sampling import make_batch, pairs, triplets
from train.similarity.widen import begin_from


def init_koch(net: nn.Module) -> None:
    """The initialisation of Koch et al. 2015, section 3.2; mutates net.

    Convolutions N(0, 0.01), fully-connected layers N(0, 0.2), all biases N(0.5, 0.01).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01 if isinstance(module, nn.Conv2d) else 0.2)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.5, 0.01)


def init_he(net: SimilarityNet) -> None:
    """Convolutions that keep the variance through ReLUs (He et al. 2015), without bias; mutates net.

    A logistic reader begins as a Manhattan distance: with weights of both signs, half of the features would at first
    speak for the wrong answer.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if net.config.reader == "logistic":
        reader: Any = net.reader
        nn.init.constant_(reader.weight, -20 / net.config.embedding)
        nn.init.constant_(reader.bias, 3.2)  # untrained sigmoids of two images differ by 0.16


def make_optimiser(net: nn.Module, cfg: OptimConfig) -> torch.optim.Optimizer:
    """Weights of convolutions and of fully-connected layers, each with its L2 term, and the rest.

    Each is two groups, with its factor on the learning rate: a mobilenet trunk, and what was not trained before.
    With cfg.layers, each layer is a group, and its biases another: with its factor and the momentum that it ends with.
    Raises ConfigError: cfg.layers are not as many as the layers of net.
    """
    if cfg.layers:
        return _layerwise(net, cfg, cfg.layers)
    layers = list(net.modules())
    l2 = {id(m.weight): cfg.conv_l2 for m in layers if isinstance(m, nn.Conv2d)}
    l2 |= {id(m.weight): cfg.dense_l2 for m in layers if isinstance(m, nn.Linear)}
    trunk = {id(p) for m in layers if isinstance(m, MobileNetV2) for p in m.parameters()}
    kinds: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for p in net.parameters():
        if p.requires_grad:
            factor = 1.0 if id(p) not in trunk or cfg.trunk_lr is None else cfg.trunk_lr
            kinds[l2.get(id(p), 0.0), factor].append(p)
    groups = [{"params": some, "weight_decay": decay, "factor": factor} for (decay, factor), some in kinds.items()]
    if cfg.optimiser == "asgd":
        return torch.optim.ASGD(groups, lr=cfg.lr)
    if cfg.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum)
    return torch.optim.Adam(groups, lr=cfg.lr)


def _layerwise(net: nn.Module, cfg: OptimConfig, own: LayerwiseConfig) -> torch.optim.SGD:
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if len(layers) != len(own.lr) or sum(len(list(m.parameters())) for m in layers) != len(list(net.parameters())):
        raise ConfigError(
            f"optim.layers: this network has {len(layers)} convolutions and fully-connected layers, got {len(own.lr)};"
            " and it must consist of such layers"
        )
    groups = []
    for layer, lr, momentum, l2 in zip(layers, own.lr, own.momentum, own.l2, strict=True):
        for parameter, decay in ((layer.weight, l2), (layer.bias, 0.0)):
            group = {"params": [parameter], "weight_decay": decay, "factor": lr, "last_momentum": momentum}
            groups += [group] if parameter is not None else []
    return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum)


def set_rates(optimiser: torch.optim.Optimizer, cfg: OptimConfig, progress: float) -> float:
    """Set learning rates and momenta after a share `progress` in [0, 1] of the run; returns the learning rate."""
    lr = cfg.lr * (cfg.lr_end / cfg.lr) ** progress
    for group in optimiser.param_groups:
        group["lr"] = lr * group["factor"]
        if "last_momentum" in group:
            group["momentum"] = losses.growing(cfg.momentum, group["last_momentum"], progress)
    return lr


def freeze(net: nn.Module, stages: int) -> None:
    """Keep the first `stages` stages of mobilenet trunks as they are; mutates net."""
    for module in net.modules():
        if isinstance(module, MobileNetV2):
            module.features[:stages].requires_grad_(False)


def load_trunks(net: SimilarityNet, file: Path) -> None:
    """Give mobilenet trunks ImageNet weights (a state dict in torchvision's naming); mutates net.

    The layer behind each begins as the identity, so that features are compared as ImageNet made them. Raises
    ConfigError: no such trunk. FileNotFoundError, CheckpointError, ValueError: no such weights.
    """
    if net.config.trunk not in IMAGENET:
        raise ConfigError(f"{file}: only a mobilenet trunk begins with ImageNet weights")
    state = read_imagenet(file)
    for branch in net.branches:
        for module in branch.modules():
            if isinstance(module, MobileNetV2):
                module.load_imagenet(state)
        nn.init.eye_(branch.neck.weight)  # type: ignore[arg-type, union-attr]
        nn.init.zeros_(branch.neck.bias)  # type: ignore[arg-type, union-attr]


def every_score(net: SimilarityNet, a: Tensor, b: Tensor) -> Tensor:
    """(len(a), len(b)) raw scores of each row of features a with each of b."""
    row, column = torch.cartesian_prod(torch.arange(len(a)), torch.arange(len(b))).unbind(1)
    return net.join(a[row], b[column]).float().view(len(a), len(b))


def margin_of(loss: ContrastiveLoss | TripletLoss, progress: float) -> float:
    """The margin after a share `progress` in [0, 1] of the run."""
    return loss.margin if loss.margin_end is None else losses.growing(loss.margin, loss.margin_end, progress)


def batch_loss(net: SimilarityNet, batch: Batch, cfg: TrainConfig, progress: float, rng: np.random.Generator) -> Tensor:
    """Every image is embedded once (twice by a pseudo-siamese network); pairs or triplets are formed of the features.

    batch: what `sampling.make_batch` returns. progress: share of the run, in [0, 1].
    """
    loss, labels, device = cfg.loss, batch["labels"].cpu().numpy(), batch["labels"].device
    a = b = net.embed(batch["images"]).float()
    if cfg.model.pairing == "pseudo-siamese":
        b = net.embed(batch.get("second", batch["images"]), second=True).float()
    if isinstance(loss, NWayLoss):
        return losses.n_way(every_score(net, a, b), batch["labels"]).mean()
    distances = None
    if loss.mining in ("semi-hard", "hard"):
        with torch.no_grad():
            distances = -every_score(net, a, b).cpu().numpy()
    if isinstance(loss, TripletLoss):
        x, p, n = (torch.from_numpy(index).to(device) for index in triplets(labels, loss.mining, rng, distances))
        of_triplets = losses.triplet if loss.kind == "triplet" else losses.squared_triplet
        margin = margin_of(loss, progress)
        return of_triplets(-net.join(a[x], b[p]).float(), -net.join(a[x], b[n]).float(), margin).mean()
    i, j, y = (torch.from_numpy(index).to(device) for index in pairs(labels, loss.mining, rng, distances))
    scores = net.join(a[i], b[j]).float()
    if isinstance(loss, ContrastiveLoss):
        values = losses.contrastive(-scores, y, margin_of(loss, progress))
    elif isinstance(loss, CrossEntropyLoss):
        values = losses.bce(scores, y)
    else:
        values = losses.hinge(scores, 2 * y - 1)
    return losses.balanced_mean(values, y)


class SimilarityTask:
    """Train a network of the Siamese family.

    training, validation: images; without validation no threshold is chosen and no best weights are kept. begin_with:
    weights that a new run begins with, see `widen.begin_from`. trunk: ImageNet weights for a mobilenet trunk, see
    `load_trunks`. test: what is kept for the test, to be named in the weights. `begin` raises what these two raise.
    """

    ema = start_share = 0.0

    def __init__(
        self,
        cfg: TrainConfig,
        training: ImageSet,
        validation: ImageSet | None,
        begin_with: Path | None = None,
        trunk: Path | None = None,
        test: ImageSet | None = None,
    ) -> None:
        torch.manual_seed(cfg.seed)
        self.cfg, self.training, self.begin_with, self.trunk = cfg, training, begin_with, trunk
        self.net = SimilarityNet(cfg.model)
        self.net.config = dataclasses.replace(
            cfg.model,
            seen=seen_groups(training, validation),
            held_out=tuple(test.used_groups()) if test else (),
            data_print=fingerprint(training, validation),
        )
        if cfg.optim.init == "koch":
            init_koch(self.net)
        elif cfg.optim.init == "he":
            init_he(self.net)
        freeze(self.net, cfg.optim.frozen_stages or 0)
        self.parts = cfg.optim.micro_batches or 1
        self.samples = "images", self.parts * (cfg.batch.classes * cfg.batch.per_class + cfg.batch.backgrounds)
        self.validation = None
        if validation:
            check_validation(validation, cfg)
            self.validation = Validation(partial(validate, images=validation, cfg=cfg), cfg.validation.every)

    def begin(self) -> None:
        """See `Task`."""
        if self.cfg.optim.frozen_stages and not self.trunk and not self.begin_with:
            raise ConfigError(
                "optim.frozen_stages: these stages would stay as they are drawn at random; give ImageNet weights"
                " (--trunk FILE), or weights to begin with (--from photos)"
            )
        if self.trunk:
            load_trunks(self.net, self.trunk)
        if self.begin_with:
            begin_from(self.net, self.begin_with, self.cfg.seed)

    def optimiser(self) -> torch.optim.Optimizer:
        """See `make_optimiser`."""
        return make_optimiser(self.net, self.cfg.optim)

    def set_rates(self, optimiser: torch.optim.Optimizer, progress: float) -> float:
        """See `Task`."""
        return set_rates(optimiser, self.cfg.optim, progress)

    def draw(self, number: int) -> Batch:
        """See `Task`."""
        return make_batch(self.training, self.cfg.model, self.cfg.batch, self.cfg.seed, number)

    def loss(self, batch: Batch, number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """See `Task`."""
        return batch_loss(self.net, batch, self.cfg, progress, np.random.default_rng((self.cfg.seed, number, 1))), {}


def check_validation(images: ImageSet, cfg: TrainConfig) -> None:
    """Raise DataError where `validate` could not judge by these images, before a network is trained for it."""
    try:
        draw_pairs(images, 2, np.random.default_rng(0))
        if cfg.validation.by == "one-shot":
            classes_to_choose(images, cfg.validation.ways)
    except InputError as error:
        raise DataError(f"validation: {error}") from None


def validate(net: SimilarityNet, images: ImageSet, cfg: TrainConfig) -> float:
    """The score of the recipe, on the same pairs and trials each time; mutates the network's config: its thresholds and
    calibration become those of these pairs. Without calibration stays a network whose higher scores are no more often
    right: what people see must rise with the score.
    """
    asked, rng = cfg.validation, np.random.default_rng((cfg.seed, 2))
    first, second, same = draw_pairs(images, asked.pairs, rng)
    scores = score_pairs(net, images, first, second)
    calibration = fit(scores[:, None], same)
    net.config = dataclasses.replace(
        net.config,
        threshold=best_threshold(scores, same),
        calibration=calibration if calibration.weights[0] > 0 else None,
        far_thresholds=far_thresholds(scores, same),
    )
    return auc(roc(scores, same)) if asked.by == "auc" else one_shot(net, images, asked.ways, asked.trials, rng)
