"""The training loop of the Siamese family: draw a batch, embed, form pairs or triplets, loss, step, checkpoint."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tracker.backbones import MobileNetV2
from tracker.config import ConfigError, from_dict, to_dict
from tracker.network import save_network
from tracker.similarity import IMAGENET, SimilarityConfig, SimilarityNet
from train.checkpoint import asked_to_stop, load_state, only_warn, read_imagenet, save_state, saved_at_the_end
from train.log import Log
from train.logistic import fit
from train.loop import prefetch
from train.similarity import losses
from train.similarity.config import LayerwiseConfig, OptimConfig, TrainConfig
from train.similarity.data import ImageSet, fingerprint, seen_groups
from train.similarity.evaluate import auc, best_threshold, draw_pairs, far_thresholds, one_shot, roc, score_pairs
from train.similarity.sampling import make_batch, pairs, triplets
from train.similarity.widen import begin_from

SAVE_SECONDS = 120.0  # between checkpoints
LOG_STEPS = 50
BAR = "{desc} {n:.0f}% {elapsed}<{remaining} {postfix}"


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
    return net.join(a[row], b[column]).view(len(a), len(b))


def batch_loss(
    net: SimilarityNet, batch: dict[str, Tensor], cfg: TrainConfig, progress: float, rng: np.random.Generator
) -> Tensor:
    """Every image is embedded once (twice by a pseudo-siamese network); pairs or triplets are formed of the features.

    batch: what `sampling.make_batch` returns. progress: share of the run, in [0, 1].
    """
    loss, labels = cfg.loss, batch["labels"].numpy()
    a = net.embed(batch["images"])
    b = net.embed(batch.get("second", batch["images"]), second=True) if cfg.model.pairing == "pseudo-siamese" else a
    if loss.kind == "n-way":
        return losses.n_way(every_score(net, a, b), batch["labels"]).mean()
    distances = None
    if loss.mining in ("semi-hard", "hard"):
        with torch.no_grad():
            distances = -every_score(net, a, b).numpy()
    margin = losses.growing(loss.margin, loss.margin_end, progress)
    if loss.kind in ("triplet", "squared-triplet"):
        x, p, n = map(torch.from_numpy, triplets(labels, loss.mining, rng, distances))
        of_triplets = losses.triplet if loss.kind == "triplet" else losses.squared_triplet
        return of_triplets(-net.join(a[x], b[p]), -net.join(a[x], b[n]), margin).mean()
    i, j, y = map(torch.from_numpy, pairs(labels, loss.mining, rng, distances))
    scores = net.join(a[i], b[j])
    if loss.kind == "contrastive":
        values = losses.contrastive(-scores, y, margin)
    elif loss.kind == "bce":
        values = losses.bce(scores, y)
    else:
        values = losses.hinge(scores, 2 * y - 1)
    return losses.balanced_mean(values, y)


class Run:
    """One training run in one folder; made anew or taken up where its last checkpoint left it.

    cfg: with `begin` and `trunk`, everything that decides the result. training, validation: images; without validation
    no threshold is chosen and no best weights are kept. folder: last.pt (state of the run), last.safetensors,
    best.safetensors, log.csv and its curves.png. begin: weights that a new run begins with, see `widen.begin_from`.
    trunk: ImageNet weights for a mobilenet trunk, see `load_trunks`. test: what is kept for the test, to be named in
    the weights.
    Raises ConfigError when the folder holds a run with another config, CheckpointError when its last.pt is damaged, and
    what `widen.begin_from` and `load_trunks` raise.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        training: ImageSet,
        validation: ImageSet | None,
        folder: Path,
        begin: Path | None = None,
        trunk: Path | None = None,
        test: ImageSet | None = None,
    ) -> None:
        torch.manual_seed(cfg.seed)
        self.cfg, self.training, self.validation, self.folder = cfg, training, validation, folder
        self.net = SimilarityNet(cfg.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if cfg.optim.init == "koch":
            init_koch(self.net)
        elif cfg.optim.init == "he":
            init_he(self.net)
        if not (folder / "last.pt").is_file():
            if trunk:
                load_trunks(self.net, trunk)
            if begin:
                begin_from(self.net, begin, cfg.seed)
        self.net.config = dataclasses.replace(
            cfg.model,
            seen=seen_groups(training, validation),
            held_out=tuple(test.used_groups()) if test else (),
            data_print=fingerprint(training, validation),
        )
        freeze(self.net, cfg.optim.frozen_stages or 0)
        self.optimiser = make_optimiser(self.net, cfg.optim)
        self.step = 0
        self.seconds = 0.0
        self.best = -1.0
        folder.mkdir(parents=True, exist_ok=True)
        self._load()
        self.log = Log(folder, self.step)

    def _load(self) -> None:
        state = load_state(self.folder)
        if state is None:
            return
        if state.get("config") != to_dict(self.cfg):
            raise ConfigError(f"{self.folder} holds a run with another config; give another folder")
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.net.config = from_dict(SimilarityConfig, state["chosen"])

    def save(self) -> None:
        """Write the state of the run and the weights, each whole or not at all.

        Raises CheckpointError: they cannot be written (a full disk); what was saved before stays.
        """
        state = {
            "config": to_dict(self.cfg),
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "chosen": to_dict(self.net.config),
        }
        save_state(self.folder, state, self.net)
        self.log.draw()

    def train(self, minutes: float | None = None, stop_at: int | None = None) -> float:
        """Train to the end of the schedule; returns the best validation score (-1 without validation).

        minutes: length of the whole run, counting what earlier calls have trained; None takes `optim.steps`.
        stop_at: stop early, before this step. Ctrl-C or SIGTERM saves and returns. A checkpoint that cannot be written
        is tried again later; CheckpointError is raised when the last one cannot.
        """
        cfg, optim = self.cfg, self.cfg.optim
        batches = prefetch(lambda step: make_batch(self.training, cfg.model, cfg.batch, cfg.seed, step), self.step)
        average: float | None = None
        saved = self.seconds
        progress = 0.0
        progress_bar = partial(tqdm, total=100, desc=self.folder.name, mininterval=5, bar_format=BAR)
        with asked_to_stop() as stop, progress_bar() as bar, saved_at_the_end(self.save, batches):
            while not stop():
                done = self.step / optim.steps if optim.steps else 1.0
                progress = self.seconds / (60 * minutes) if minutes is not None else done
                if progress >= 1 or self.step == stop_at:
                    break
                begin = time.perf_counter()
                lr = set_rates(self.optimiser, optim, progress)
                torch.manual_seed(cfg.seed * 1_000_003 + self.step)  # dropout, the same in a resumed run
                rng = np.random.default_rng((cfg.seed, self.step, 1))
                self.net.train()
                loss = batch_loss(self.net, next(batches), cfg, progress, rng)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise FloatingPointError(f"the loss is not finite at step {self.step}; try a smaller optim.lr")
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), optim.clip)
                self.optimiser.step()
                self.step += 1
                self.seconds += time.perf_counter() - begin
                average = value if average is None else 0.98 * average + 0.02 * value
                shown = {"step": self.step, "loss": f"{average:.4f}", "best": f"{self.best:.4f}"}
                bar.set_postfix(shown, refresh=False)
                bar.update(100 * progress - bar.n)
                if self.step % LOG_STEPS == 0:
                    self.log.write(self.step, self.seconds, {"lr": lr, "loss": average})
                if self.validation and self.step % cfg.validation.every == 0:
                    self._validate(self.validation)
                if self.seconds - saved > SAVE_SECONDS:
                    with only_warn():
                        self.save()
                    saved = self.seconds
            validated = self.step > 0 and self.step % cfg.validation.every == 0
            if self.validation and progress >= 1 and not validated:
                self._validate(self.validation)
        return self.best

    def _validate(self, images: ImageSet) -> None:
        cfg = self.cfg.validation
        self.net.eval()
        rng = np.random.default_rng((self.cfg.seed, 2))  # the same pairs and trials each time
        first, second, same = draw_pairs(images, cfg.pairs, rng)
        scores = score_pairs(self.net, images, first, second)
        score = auc(roc(scores, same)) if cfg.by == "auc" else one_shot(self.net, images, cfg.ways, cfg.trials, rng)
        self.net.config = dataclasses.replace(
            self.net.config,
            threshold=best_threshold(scores, same),
            calibration=fit(scores[:, None], same),
            far_thresholds=far_thresholds(scores, same),
        )
        self.log.write(self.step, self.seconds, {"validation": score})
        if score > self.best:
            self.best = score
            save_network(self.net, self.folder / "best.safetensors")
