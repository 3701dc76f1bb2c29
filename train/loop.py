"""The training loop, all of it in one place: draw pairs, forward, loss, step, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from tracker.config import ConfigError
from tracker.correlation import xcorr_all
from tracker.crop import stack_rgb
from tracker.footage.output import only_run
from tracker.heads import Maps, Template
from tracker.network import SiameseNet, load_network, save_network, to_input
from train.checkpoint import asked_to_stop, load_state, only_warn, save_state, saved_at_the_end
from train.config import LossConfig, OptimConfig, TrainConfig
from train.labels import ellipse_labels, radius_labels
from train.log import Log
from train.losses import balanced_logistic, box_loss, masked_bce
from train.pairs import PairSampler
from train.processes import Processes, statistics
from train.refine import draw_misses, refine_loss
from train.store import Store

Batch = dict[str, Tensor]


def make_batch(sampler: PairSampler, first: int, count: int) -> Batch:
    """Pairs first ... first + count - 1 as tensors.

    exemplar, search (N, 3, H, W); extent (N, 2); box (N, 4); misses (N, M, 4), see `refine.draw_misses`.
    """
    pairs = [sampler[i] for i in range(first, first + count)]
    return {
        "exemplar": to_input(stack_rgb([p.exemplar for p in pairs])),
        "search": to_input(stack_rgb([p.search for p in pairs])),
        "extent": torch.from_numpy(np.stack([p.extent for p in pairs])),
        "box": torch.from_numpy(np.stack([p.box_search for p in pairs])),
        "misses": torch.from_numpy(np.stack([draw_misses(sampler.rng(first + i, 1)) for i in range(count)])),
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


def swift_loss(net: SiameseNet, batch: Batch, cfg: LossConfig) -> tuple[Tensor, dict[str, float]]:
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
        own = Maps(logits[:n].detach(), box_map[:n].detach(), levels)
        refine, more = refine_loss(net, template, own, batch["box"], batch["misses"])
        loss, parts = loss + cfg.refine * refine, parts | more
    return loss, parts


def refiner_loss(net: SiameseNet, batch: Batch, cfg: LossConfig) -> tuple[Tensor, dict[str, float]]:
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


def batch_norms(net: nn.Module) -> list[Any]:
    """The batch-norm layers that count running statistics."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.training]


def freeze(net: SiameseNet, cfg: OptimConfig, refine: bool) -> None:
    """Keep the first `frozen_stages` stages of the trunk as they are, and batch-norm if told so.

    A refiner without a loss stays as it is; when only parts are trained, all else does.
    """
    if cfg.train != "all":
        net.requires_grad_(False).eval()
        parts = [net.head] if cfg.train == "head" else []
        if net.config.network == "swift":
            parts.append(net.refiner)
        for part in parts:
            part.requires_grad_(True).train()
    if net.config.network == "swift" and not refine:
        net.refiner.requires_grad_(False).eval()
    if cfg.frozen_stages:
        features: Any = net.backbone.features
        features[: cfg.frozen_stages].requires_grad_(False)
    if cfg.frozen_norm:
        for norm in batch_norms(net):
            norm.eval()


class Objective(nn.Module):
    """The network and its loss as one module, which is what DistributedDataParallel wraps."""

    def __init__(self, net: SiameseNet, cfg: TrainConfig) -> None:
        super().__init__()
        self.net, self.cfg = net, cfg

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (of its mean pair) and its parts, for the log."""
        loss_of = siamfc_loss if self.cfg.model.network == "siamfc" else swift_loss
        if self.cfg.optim.train == "refiner":
            loss_of = refiner_loss
        with torch.autocast(batch["search"].device.type, torch.bfloat16, enabled=self.cfg.precision == "bf16"):
            return loss_of(self.net, batch, self.cfg.loss)


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
    (averaged weights), log.csv, curves.png. start_from: a weight file to begin with. processes: of all that share the
    work; only the first one reads and writes the folder. tensorboard: write event files, too.
    Raises ConfigError: the weights are of another network, or the processes cannot share a batch.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        store: Store,
        folder: Path,
        start_from: Path | None = None,
        processes: Processes | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.processes = processes or Processes()
        optim, count, device = cfg.optim, self.processes.count, self.processes.device
        if optim.batch // optim.micro_batch % count:
            raise ConfigError(
                f"{count} processes cannot share {optim.batch // optim.micro_batch} micro-batches a step"
                " (optim.batch / optim.micro_batch) evenly"
            )
        torch.manual_seed(cfg.seed)
        self.cfg, self.folder = cfg, folder
        self.sampler = PairSampler(store, cfg.pairs, cfg.model, cfg.search_size, cfg.seed)
        self.net = SiameseNet(cfg.model)
        if start_from:
            start = load_network(start_from)
            try:
                self.net.load_state_dict(start.state_dict())
            except RuntimeError:
                found, wanted = (f"{c.network} of exemplar_size {c.exemplar_size}" for c in (start.config, cfg.model))
                raise ConfigError(f"{start_from} is a {found}, the config wants a {wanted}") from None
        self.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.start = {k: v.clone() for k, v in self.ema.items()} if optim.start_share else {}
        self.net.train()
        freeze(self.net, optim, refine=cfg.loss.refine > 0)
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        self.norms = batch_norms(self.net)
        self.optimiser = make_optimiser(self.net, optim)
        self.step = 0
        self.seconds = 0.0
        self.best = -1.0
        self.average: dict[str, float] = {}  # of the losses, for the log
        if self.processes.first:
            folder.mkdir(parents=True, exist_ok=True)
        self._load()
        self.log = Log(folder, self.step, tensorboard) if self.processes.first else None
        self.objective: nn.Module = Objective(self.net, cfg)
        if count > 1:  # the buffers are merged by Processes.merge_statistics
            self.objective = DistributedDataParallel(self.objective, broadcast_buffers=False)

    def _load(self) -> None:
        state = self.processes.of_first(load_state(self.folder) if self.processes.first else None)
        if state is None:
            return
        try:
            self.net.load_state_dict(state["net"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{self.folder} holds a run of another config ({reason}); give another --out") from None
        device = self.processes.device
        self.ema, self.start = ({k: v.to(device) for k, v in state.get(n, {}).items()} for n in ("ema", "start"))
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.average = state.get("average", {})

    def save(self) -> None:
        """Write the state of the run and the averaged weights, each whole or not at all.

        Raises CheckpointError: it cannot be written (a full disk); what was saved before stays.
        """
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "average": self.average,
            "start": self.start,
        }
        save_state(self.folder, state, self.averaged())

    def averaged(self) -> SiameseNet:
        """A network for tracking: the averaged weights, part of the way back to the start if the config says so.

        Between a start and its fine-tuned weights lie weights that have most of the gain and little of the cost
        (Wortsman et al., Robust fine-tuning of zero-shot models, 2022).
        """
        net, share = SiameseNet(self.cfg.model), self.cfg.optim.start_share
        kept = {k: torch.lerp(v, self.start[k], share) if k in self.start and v.is_floating_point() else v
                for k, v in self.ema.items()}  # fmt: skip
        net.load_state_dict(kept)
        return net.eval()

    def _average(self) -> None:
        decay = min(self.cfg.optim.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.ema[key].lerp_(value, 1 - decay)
            else:
                self.ema[key].copy_(value)

    def draw_batch(self, step: int) -> Batch:
        """This process's share of the pairs of a step."""
        share = self.cfg.optim.batch // self.processes.count
        first = step * self.cfg.optim.batch + self.processes.rank * share
        return make_batch(self.sampler, first, share)

    def train_step(self, batch: Batch, lr: float) -> dict[str, float]:
        """One step of the optimiser on this process's share of a batch; returns the losses of the whole batch.

        Mutates all that `save` writes. Raises FloatingPointError, before any weight moves: the loss is not finite.
        """
        optim, processes = self.cfg.optim, self.processes
        share = optim.batch // processes.count
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["factor"]
        before = statistics(self.norms) if processes.count > 1 and self.norms else None
        total: dict[str, float] = {}
        for low in range(0, share, optim.micro_batch):
            micro = {k: v[low : low + optim.micro_batch].to(processes.device) for k, v in batch.items()}
            whole = processes.count == 1 or low + optim.micro_batch >= share
            with nullcontext() if whole else self.objective.no_sync():  # type: ignore[operator]
                loss, parts = self.objective(micro)
                (loss * optim.micro_batch / share).backward()
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                total[name] = total.get(name, 0.0) + value * optim.micro_batch / optim.batch
        losses = dict(zip(total, processes.sum(list(total.values())), strict=True))
        if not math.isfinite(losses["loss"]):
            raise FloatingPointError(f"the loss is not finite at step {self.step}; try a smaller optim.lr")
        nn.utils.clip_grad_norm_(self.parameters, optim.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if before:
            processes.merge_statistics(self.norms, before)
        self.step += 1
        self._average()
        for name, value in losses.items():
            self.average[name] = 0.98 * self.average.get(name, value) + 0.02 * value
        return losses

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
        Ctrl-C or SIGTERM saves and returns. A checkpoint that cannot be written is tried again later; CheckpointError
        is raised when the last one cannot.
        """
        optim = self.cfg.optim
        batches = prefetch(self.draw_batch, self.step)
        stop = False
        saved = validated = logged = self.seconds
        progress = 0.0
        form = "{desc} {n:.1f}% {elapsed}<{remaining} {postfix}"
        silent = not self.processes.first
        progress_bar = partial(tqdm, total=100, desc=self.folder.name, mininterval=10, bar_format=form, disable=silent)
        alone = only_run(self.folder) if self.processes.first else nullcontext()
        with alone, asked_to_stop() as asked, progress_bar() as bar, saved_at_the_end(self._save_and_draw, batches):
            while not stop:
                progress = self.seconds / (60 * minutes) if minutes is not None else self.step / optim.steps
                if progress >= 1 or self.step == stop_at:
                    break
                begin = time.perf_counter()
                lr = learning_rate(optim, progress)
                self.train_step(next(batches), lr)
                own = self.seconds + time.perf_counter() - begin
                wish, self.seconds = self.processes.sum([float(asked()), own if self.processes.first else 0.0])
                stop = wish > 0
                bar.n = 100 * progress
                speed = f"{self.step * optim.batch / self.seconds:.1f}"
                shown = {k: f"{v:.3f}" for k, v in self.average.items()}
                bar.set_postfix({"step": self.step, "pairs/s": speed} | shown, refresh=False)
                bar.update(0)
                if self.seconds - logged > 30:
                    self._record({"lr": lr, **self.average})
                    logged = self.seconds
                if validate and self.seconds - validated > 60 * validate_minutes:
                    self._validate(validate)
                    validated = self.seconds
                if self.seconds - saved > 60 * save_minutes:
                    self._save_or_warn()
                    saved = self.seconds
            if self.average:
                self._record({"lr": learning_rate(optim, min(progress, 1.0)), **self.average})
            if validate and progress >= 1:
                self._save_or_warn()  # tracking takes minutes in which the process may be killed
                self._validate(validate)
        return self.best

    def _save_or_warn(self) -> None:
        with only_warn():
            self._save_and_draw()

    def _save_and_draw(self) -> None:
        if self.log:
            self.save()
            self.log.draw()

    def _validate(self, validate: Callable[[SiameseNet], float]) -> None:
        if not self.log:
            return
        net = self.averaged()
        score = validate(net)
        self._record({"validation": score})
        tqdm.write(f"{self.folder.name}: step {self.step}, validation {score:.4f} (best {max(score, self.best):.4f})")
        if score > self.best:
            self.best = score
            save_network(net, self.folder / "best.safetensors")

    def _record(self, values: dict[str, float]) -> None:
        if self.log:
            self.log.write(self.step, self.seconds, values)
