"""The training loop, all of it in one place: draw pairs, forward, loss, step, checkpoint."""

from __future__ import annotations

import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tracker.correlation import xcorr_all
from tracker.crop import stack_rgb
from tracker.geometry import Grid
from tracker.heads import Template
from tracker.network import SiameseNet, load_network, save_network, to_input
from train.config import LossConfig, OptimConfig, TrainConfig
from train.labels import ellipse_labels, radius_labels
from train.losses import balanced_logistic, giou_loss, masked_bce
from train.pairs import PairSampler
from train.store import Store

Batch = dict[str, Tensor]


def make_batch(sampler: PairSampler, first: int, count: int) -> Batch:
    """Pairs first ... first + count - 1 as tensors: exemplar, search (N, 3, H, W); extent (N, 2); box (N, 4)."""
    pairs = [sampler[i] for i in range(first, first + count)]
    return {
        "exemplar": to_input(stack_rgb([p.exemplar for p in pairs])),
        "search": to_input(stack_rgb([p.search for p in pairs])),
        "extent": torch.from_numpy(np.stack([p.extent for p in pairs])),
        "box": torch.from_numpy(np.stack([p.box_search for p in pairs])),
    }


def prefetch(make: Callable[[int], Batch], start: int) -> Iterator[Batch]:
    """make(start), make(start + 1), ...; the next one is drawn in a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        step = start
        coming = pool.submit(make, step)
        while True:
            batch = coming.result()
            step += 1
            coming = pool.submit(make, step)
            yield batch


def siamfc_loss(net: SiameseNet, batch: Batch, cfg: LossConfig) -> tuple[Tensor, dict[str, float]]:
    """Every exemplar against every search: own pairs get the paper's labels, foreign ones are all background."""
    template = net.features(batch["exemplar"])
    search = net.features(batch["search"])
    head: Any = net.head
    logits = xcorr_all(template, search) * head.scale + head.bias  # (N, N, H, W)
    grid = Grid(logits.shape[-1], net.stride, batch["search"].shape[-1])
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


def swift_loss(net: SiameseNet, batch: Batch, cfg: LossConfig) -> tuple[Tensor, dict[str, float]]:
    """Score and box of the own pairs, and the score of pairs whose exemplar is the neighbour's in the batch."""
    template = net.embed(batch["exemplar"], batch["extent"])
    search = net.features(batch["search"])
    n = len(search)
    swapped = max(1, n // 2) if cfg.swapped and n > 1 else 0
    both = Template(*(torch.cat([t, t.roll(1, 0)[:swapped]]) for t in template))
    maps = net.head(both, torch.cat([search, search[:swapped]]))
    labels = ellipse_labels(batch["box"], net.grid)
    score = masked_bce(maps.logits[:n], labels.score, cfg.hard)
    box = giou_loss(maps.box_map[:n], labels.box_map, labels.box_weight)
    loss = score + cfg.box * box
    hit = hit_rate(maps.logits[:n], labels.score)
    parts = {"score": float(score.detach()), "box": float(box.detach()), "hit": hit}
    if swapped:
        foreign = maps.logits[n:]
        wrong = masked_bce(foreign, torch.zeros_like(foreign), cfg.hard)
        parts["swapped"] = float(wrong.detach())
        loss = loss + cfg.swapped * wrong
    return loss, parts


def hit_rate(logits: Tensor, labels: Tensor) -> float:
    """Share of the targets in view on which the highest logit lies; 1 when none is in view. Both (N, H, W)."""
    at_peak = labels.flatten(1).gather(1, logits.flatten(1).argmax(1, keepdim=True))[:, 0]
    there = (labels > 0).any(2).any(1)
    return float((at_peak[there] != 0).float().mean()) if there.any() else 1.0


def freeze(net: SiameseNet, stages: int) -> None:
    """Keep the first `stages` stages of a MobileNetV2 trunk as they are."""
    if stages:
        features: Any = net.backbone.features
        features[:stages].requires_grad_(False)


def learning_rate(cfg: OptimConfig, progress: float) -> float:
    """Learning rate after a share `progress` in [0, 1] of the run."""
    if progress < cfg.warmup:
        return cfg.lr * (0.02 + 0.98 * progress / cfg.warmup)
    share = min((progress - cfg.warmup) / max(1 - cfg.warmup, 1e-9), 1.0)
    if cfg.schedule == "geometric":
        return cfg.lr * (cfg.lr_end / cfg.lr) ** share
    return cfg.lr_end + (cfg.lr - cfg.lr_end) * (1 + math.cos(math.pi * share)) / 2


def make_optimiser(net: SiameseNet, cfg: OptimConfig) -> torch.optim.Optimizer:
    """Two groups, each with its factor on the learning rate: the trunk, and the rest."""
    trunk = [p for p in net.backbone.parameters() if p.requires_grad]
    known = {id(p) for p in trunk}
    rest = [p for p in net.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": trunk, "factor": cfg.trunk_lr}, {"params": rest, "factor": 1.0}]
    if cfg.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
    return torch.optim.AdamW(groups, lr=cfg.lr, weight_decay=cfg.weight_decay)


class Run:
    """One training run in one folder; made anew or taken up where its last checkpoint left it.

    cfg: everything that decides the result. folder: last.pt (state of the run), last.safetensors and best.safetensors
    (averaged weights), log.csv. start_from: a weight file to begin with. trunk: ImageNet weights for the trunk.
    """

    def __init__(
        self, cfg: TrainConfig, store: Store, folder: Path, start_from: Path | None = None, trunk: Path | None = None
    ) -> None:
        torch.manual_seed(cfg.seed)
        self.cfg, self.folder = cfg, folder
        self.sampler = PairSampler(store, cfg.pairs, cfg.model, cfg.search_size, cfg.seed)
        self.net = SiameseNet(cfg.model)
        if start_from:
            self.net.load_state_dict(load_network(start_from).state_dict())
        elif trunk:
            backbone: Any = self.net.backbone
            backbone.load_imagenet(torch.load(trunk, map_location="cpu", weights_only=True))
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.train()
        freeze(self.net, cfg.optim.frozen_stages)
        self.optimiser = make_optimiser(self.net, cfg.optim)
        self.step = 0
        self.seconds = 0.0
        self.best = -1.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "last.pt").is_file():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.folder / "last.pt", map_location="cpu", weights_only=True)
        self.net.load_state_dict(state["net"])
        self.ema = state["ema"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def save(self) -> None:
        """Write the state of the run and the averaged weights, each whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
        }
        partial = self.folder / "last.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "last.pt")
        save_network(self.averaged(), self.folder / "last.safetensors")

    def averaged(self) -> SiameseNet:
        """A network with the averaged weights, for tracking."""
        net = SiameseNet(self.cfg.model)
        net.load_state_dict(self.ema)
        return net.eval()

    def _average(self) -> None:
        decay = min(self.cfg.optim.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.ema[key].lerp_(value, 1 - decay)
            else:
                self.ema[key].copy_(value)

    def train(
        self,
        minutes: float | None = None,
        validate: Callable[[SiameseNet], float] | None = None,
        validate_minutes: float = 20.0,
        save_minutes: float = 3.0,
        stop_at: int | None = None,
    ) -> float:
        """Train to the end of the schedule; returns the best validation score (-1 without validation).

        minutes: length of the whole run, counting what earlier calls have trained; None takes `optim.steps`.
        validate: score of a network, higher is better; the best one is kept. stop_at: stop early, before this step.
        Ctrl-C or SIGTERM saves and returns.
        """
        cfg, optim = self.cfg, self.cfg.optim
        loss_of = siamfc_loss if cfg.model.network == "siamfc" else swift_loss
        batches = prefetch(lambda step: make_batch(self.sampler, step * optim.batch, optim.batch), self.step)
        stop = False

        def ask_to_stop(*_: object) -> None:
            nonlocal stop
            stop = True

        before = {s: signal.signal(s, ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        average: dict[str, float] = {}
        saved = validated = logged = self.seconds
        progress = 0.0
        form = "{desc} {n:.1f}% {elapsed}<{remaining} {postfix}"
        bar = tqdm(total=100, desc=self.folder.name, mininterval=10, bar_format=form)
        try:
            while not stop:
                progress = self.seconds / (60 * minutes) if minutes else self.step / optim.steps
                if progress >= 1 or self.step == stop_at:
                    break
                begin = time.perf_counter()
                lr = learning_rate(optim, progress)
                for group in self.optimiser.param_groups:
                    group["lr"] = lr * group["factor"]
                batch = next(batches)
                for low in range(0, optim.batch, optim.micro_batch):
                    micro = {k: v[low : low + optim.micro_batch] for k, v in batch.items()}
                    loss, parts = loss_of(self.net, micro, cfg.loss)
                    (loss * optim.micro_batch / optim.batch).backward()
                    for name, value in {"loss": float(loss.detach()), **parts}.items():
                        average[name] = value if name not in average else 0.99 * average[name] + 0.01 * value
                if not math.isfinite(average["loss"]):
                    raise FloatingPointError(f"the loss is not finite at step {self.step}; try a smaller optim.lr")
                nn.utils.clip_grad_norm_(parameters, optim.clip)
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
                self.step += 1
                self._average()
                self.seconds += time.perf_counter() - begin
                bar.n = 100 * progress
                speed = f"{self.step * optim.batch / self.seconds:.1f}"
                shown = {k: f"{v:.3f}" for k, v in average.items()}
                bar.set_postfix({"step": self.step, "pairs/s": speed} | shown, refresh=False)
                bar.update(0)
                if self.seconds - logged > 30:
                    self._log({"lr": lr, **average})
                    logged = self.seconds
                if validate and self.seconds - validated > 60 * validate_minutes:
                    self._validate(validate)
                    validated = self.seconds
                if self.seconds - saved > 60 * save_minutes:
                    self.save()
                    saved = self.seconds
            if validate and progress >= 1:
                self._validate(validate)
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
            batches.close()  # type: ignore[attr-defined]
            bar.close()
            self.save()
        return self.best

    def _validate(self, validate: Callable[[SiameseNet], float]) -> None:
        net = self.averaged()
        score = validate(net)
        self._log({"validation": score})
        tqdm.write(f"{self.folder.name}: step {self.step}, validation {score:.4f} (best {max(score, self.best):.4f})")
        if score > self.best:
            self.best = score
            save_network(net, self.folder / "best.safetensors")

    def _log(self, values: dict[str, float]) -> None:
        columns = ["step", "seconds", "lr", "loss", "score", "box", "swapped", "hit", "validation"]
        path = self.folder / "log.csv"
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            if new:
                writer.writeheader()
            row = {"step": self.step, "seconds": round(self.seconds, 1)}
            writer.writerow(row | {k: f"{v:.6g}" for k, v in values.items() if k in columns})
