"""The task of training a tracker, its head or its refiner: pairs of crops, the losses of their maps and boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracker.checkpoints import load_network
from tracker.correlation import xcorr_all
from tracker.crop import stack_rgb
from tracker.errors import ConfigError
from tracker.heads import Maps, Template
from tracker.network import SiameseNet, Swift, build_network, to_input
from train.config import BoxLoss, OptimConfig, RefinerLoss, ScoreLoss, TrainConfig
from train.labels import ellipse_labels, radius_labels
from train.losses import balanced_logistic, box_loss, masked_bce
from train.pairs import PairSampler
from train.run import Batch, Validation
from train.store import Store
from train.tasks.refiner import draw_misses, refine_loss


def make_batch(sampler: PairSampler, first: int, count: int) -> Batch:
    """Pairs first ... first + count - 1 as tensors.

    exemplar, search (N, 3, H, W); extent (N, 2); box (N, 4); misses (N, M, 4), see `refiner.draw_misses`.
    """
    pairs = [sampler[i] for i in range(first, first + count)]
    return {
        "exemplar": to_input(stack_rgb([p.exemplar for p in pairs])),
        "search": to_input(stack_rgb([p.search for p in pairs])),
        "extent": torch.from_numpy(np.stack([p.extent for p in pairs])),
        "box": torch.from_numpy(np.stack([p.box_search for p in pairs])),
        "misses": torch.from_numpy(np.stack([draw_misses(sampler.rng(first + i, 1)) for i in range(count)])),
    }


def siamfc_loss(net: SiameseNet, batch: Batch, cfg: ScoreLoss) -> tuple[Tensor, dict[str, float]]:
    """Every exemplar against every search: own pairs get the paper's labels, foreign ones are all background."""
    (template,), (search,) = net.features(batch["exemplar"]), net.features(batch["search"])
    head: Any = net.head
    logits = xcorr_all(template, search).float() * head.scale + head.bias  # (N, N, H, W)
    grid = net.grid_on(batch["search"].shape[-1])
    labels = radius_labels(batch["box"], grid, cfg.radius)
    own = logits.diagonal().permute(2, 0, 1)
    loss = balanced_logistic(own, labels)
    if cfg.hard:
        loss = loss + cfg.hard * masked_bce(own, torch.where(labels > 0, -1.0, labels), 1.0, hardest=4)
    n = len(logits)
    parts = {"score": float(loss.detach())}
    if cfg.swapped and n > 1:
        foreign = logits[~torch.eye(n, dtype=torch.bool)]
        swapped = masked_bce(foreign, torch.zeros_like(foreign), 1.0, hardest=4)
        parts["swapped"] = float(swapped.detach())
        loss = loss + cfg.swapped * swapped
    parts["hit"] = hit_rate(own, labels)
    return loss, parts


def swift_loss(net: SiameseNet, batch: Batch, cfg: BoxLoss) -> tuple[Tensor, dict[str, float]]:
    """Score and box of the own pairs, and the score of pairs whose exemplar is the neighbour's in the batch."""
    template = net.embed(batch["exemplar"], batch["extent"])
    levels = net.features(batch["search"])
    search = levels[-1]
    n = len(search)
    swapped = max(1, n // 2) if cfg.swapped and n > 1 else 0
    both = Template(*(torch.cat([t, t.roll(1, 0)[:swapped]]) for t in template))
    maps = net.head(both, torch.cat([search, search[:swapped]]))
    logits, box_map = maps.logits.float(), maps.box_map.float()
    labels = ellipse_labels(batch["box"], net.grid)
    score = masked_bce(logits[:n], labels.score, cfg.hard, focal=cfg.score == "focal")
    box = box_loss(box_map[:n], labels.box_map, labels.box_weight, cfg.overlap)
    loss = score + cfg.box * box
    hit = hit_rate(logits[:n], labels.score)
    parts = {"score": float(score.detach()), "box": float(box.detach()), "hit": hit}
    if swapped:
        foreign = logits[n:]
        wrong = masked_bce(foreign, torch.zeros_like(foreign), cfg.hard, focal=cfg.score == "focal")
        parts["swapped"] = float(wrong.detach())
        loss = loss + cfg.swapped * wrong
    if cfg.refine:
        assert isinstance(net, Swift)  # `TrainConfig` sees to that, here and below
        own = Maps(logits[:n].detach(), box_map[:n].detach(), levels)
        refine, more = refine_loss(net, template, own, batch["box"], batch["misses"])
        loss, parts = loss + cfg.refine * refine, parts | more
    return loss, parts


def refiner_loss(net: Swift, batch: Batch, cfg: RefinerLoss) -> tuple[Tensor, dict[str, float]]:
    """The loss of the refiner alone."""
    template = net.embed(batch["exemplar"], batch["extent"])
    with torch.no_grad():
        maps = net(template, batch["search"])
    loss, parts = refine_loss(net, template, maps, batch["box"], batch["misses"])
    return cfg.refine * loss, parts


def hit_rate(logits: Tensor, labels: Tensor) -> float:
    """Share of the targets in view on which the highest logit lies; 1 when none is in view. Both (N, H, W)."""
    at_peak = labels.flatten(1).gather(1, logits.flatten(1).argmax(1, keepdim=True))[:, 0]
    there = (labels > 0).any(2).any(1)
    return float((at_peak[there] != 0).float().mean()) if there.any() else 1.0


def freeze(net: SiameseNet, cfg: OptimConfig, refine: bool) -> None:
    """Keep the first `frozen_stages` stages of the trunk as they are, and batch-norm if told so; mutates net.

    A refiner without a loss stays as it is; when only parts are trained, all else does.
    """
    if cfg.train != "all":
        net.requires_grad_(False).eval()
        parts = [net.head] if cfg.train == "head" else []
        if isinstance(net, Swift):
            parts.append(net.refiner)
        for part in parts:
            part.requires_grad_(True).train()
    if isinstance(net, Swift) and not refine:
        net.refiner.requires_grad_(False).eval()
    if cfg.frozen_stages:
        features: Any = net.backbone.features
        features[: cfg.frozen_stages].requires_grad_(False)
    if cfg.frozen_norm:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def learning_rate(cfg: OptimConfig, progress: float) -> float:
    """Learning rate after a share `progress` in [0, 1] of the run."""
    if progress < cfg.warmup:
        return cfg.lr * (0.02 + 0.98 * progress / cfg.warmup)
    share = min((progress - cfg.warmup) / max(1 - cfg.warmup, 1e-9), 1.0)
    if cfg.schedule == "geometric":
        return cfg.lr * (cfg.lr_end / cfg.lr) ** share
    return cfg.lr_end + (cfg.lr - cfg.lr_end) * (1 + math.cos(math.pi * share)) / 2


class TrackerTask:
    """Train a tracker on pairs of a store; the kind of `cfg.loss` says which loss, `cfg.optim.train` which weights.

    start_from: a weight file to begin with. `begin` raises ConfigError: the weights are of another network.
    """

    def __init__(
        self, cfg: TrainConfig, store: Store, start_from: Path | None = None, validation: Validation | None = None
    ) -> None:
        torch.manual_seed(cfg.seed)
        optim = cfg.optim
        self.cfg, self.start_from, self.validation = cfg, start_from, validation
        self.sampler = PairSampler(store, cfg.pairs, cfg.model, cfg.search_size, cfg.seed)
        self.net = build_network(cfg.model)
        freeze(self.net, optim, refine=not isinstance(cfg.loss, ScoreLoss) and cfg.loss.refine > 0)
        self.parts, self.samples = optim.batch // optim.micro_batch, ("pairs", optim.batch)
        self.ema, self.start_share = optim.ema, optim.start_share

    def begin(self) -> None:
        """See `Task`."""
        if not self.start_from:
            return
        start = load_network(self.start_from)
        try:
            self.net.load_state_dict(start.state_dict())
        except RuntimeError:
            found, wanted = (f"{c.network} of exemplar_size {c.exemplar_size}" for c in (start.config, self.cfg.model))
            raise ConfigError(f"{self.start_from} is a {found}, the config wants a {wanted}") from None

    def optimiser(self) -> torch.optim.Optimizer:
        """Two groups, each with its factor on the learning rate: the trunk, and the rest."""
        cfg = self.cfg.optim
        trunk = [p for p in self.net.backbone.parameters() if p.requires_grad]
        known = {id(p) for p in trunk}
        rest = [p for p in self.net.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": trunk, "factor": cfg.trunk_lr}, {"params": rest, "factor": 1.0}]
        if cfg.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
        return torch.optim.AdamW(groups, lr=cfg.lr, weight_decay=cfg.weight_decay)

    def set_rates(self, optimiser: torch.optim.Optimizer, progress: float) -> float:
        """See `Task`."""
        lr = learning_rate(self.cfg.optim, progress)
        for group in optimiser.param_groups:
            group["lr"] = lr * group["factor"]
        return lr

    def draw(self, number: int) -> Batch:
        """See `Task`."""
        return make_batch(self.sampler, number * self.cfg.optim.micro_batch, self.cfg.optim.micro_batch)

    def loss(self, batch: Batch, number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """See `Task`."""
        cfg = self.cfg.loss
        if isinstance(cfg, ScoreLoss):
            return siamfc_loss(self.net, batch, cfg)
        if isinstance(cfg, RefinerLoss):
            assert isinstance(self.net, Swift)
            return refiner_loss(self.net, batch, cfg)
        return swift_loss(self.net, batch, cfg)
