"""The training loop, all of it in one place: draw batches, forward, loss, step, average, log, checkpoint, validate.

What is trained, on what and by which loss is a `Task`: see train/tasks/.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from tracker.checkpoints import save_network
from tracker.config import from_dict, to_dict
from tracker.errors import ConfigError, DivergedError
from tracker.footage.output import only_run, write_whole
from train.checkpoint import asked_to_stop, load_state, only_warn, save_state, saved_at_the_end
from train.log import Log
from train.processes import Processes, statistics

Batch = dict[str, Tensor]
T = TypeVar("T")
LOG_SECONDS = 30  # between two rows of the log
BAR = "{desc} {n:.1f}% {elapsed}<{remaining} {postfix}"


@dataclass(frozen=True)
class Validation:
    """How good a network is, asked every so many steps or minutes and in the end.

    score: of a network in evaluation mode on the CPU, higher is better; it may complete the network's config.
    """

    score: Callable[[Any], float]
    steps: float = math.inf
    minutes: float = math.inf


class Task(Protocol):
    """What a run trains. A step of the optimiser takes the mean gradient of `parts` batches, which processes share.

    cfg: everything that decides the result, with seed, precision and optim.steps, optim.clip. net: in training mode,
    frozen as far as it is to be. ema: decay of the averaged weights that are kept in the end; 0: the last ones are.
    start_share: of the weights that the run began with in those that are kept. samples: what a step trains on, and
    how many of them, for the progress bar.
    """

    cfg: Any
    net: Any
    parts: int
    ema: float
    start_share: float
    samples: tuple[str, int]
    validation: Validation | None

    def begin(self) -> None:
        """Give the network the weights that a new run begins with."""

    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser of the weights that are not frozen."""

    def set_rates(self, optimiser: torch.optim.Optimizer, progress: float) -> float:
        """Set the rates of its groups after a share `progress` in [0, 1] of the run; the learning rate, for the log."""

    def draw(self, number: int) -> Batch:
        """Batch number 0, 1, ... of the run: always the same one."""

    def loss(self, batch: Batch, number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of this batch, and its parts for the log. What is random in it, `number` decides."""


def prefetch(make: Callable[[int], T], start: int) -> Iterator[T]:
    """make(start), make(start + 1), ...; the next one is drawn in a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        step = start
        coming = pool.submit(make, step)
        while True:
            made = coming.result()
            step += 1
            coming = pool.submit(make, step)
            yield made


class Objective(nn.Module):
    """The network and its loss as one module, which is what DistributedDataParallel wraps."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net, self.task = task.net, task

    def forward(self, batch: Batch, number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """What `Task.loss` gives, in the precision of the config."""
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.task.cfg.precision == "bf16"):
            return self.task.loss(batch, number, progress)


class Run:
    """One training run in one folder; made anew or taken up where its last checkpoint left it.

    folder: config.yaml, last.pt (state of the run), last.safetensors and best.safetensors (weights to use), log.csv,
    curves.png.
    processes: of all that share the work; only the first one reads and writes the folder. tensorboard: write event
    files, too. Raises ConfigError: the folder holds a run of another config (with more `optim.steps` it goes on), or
    the processes cannot share a step; CheckpointError: last.pt is damaged; what `Task.begin` raises.
    """

    def __init__(self, task: Task, folder: Path, processes: Processes | None = None, tensorboard: bool = False) -> None:
        self.task, self.folder, self.processes = task, folder, processes or Processes()
        count, device = self.processes.count, self.processes.device
        if task.parts % count:
            raise ConfigError(f"{count} processes cannot share {task.parts} micro-batches a step evenly; see optim")
        state = self.processes.of_first(load_state(folder) if self.processes.first else None)
        if state is None:
            task.begin()
        self.net = task.net.to(device, memory_format=torch.channels_last)
        weights = self.net.state_dict()
        self.ema = {k: v.detach().clone() for k, v in weights.items()} if task.ema else {}
        self.start = {k: v.detach().clone() for k, v in weights.items()} if task.start_share else {}
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        self.norms = [m for m in self.net.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        self.optimiser = task.optimiser()
        self.step, self.validated = 0, -1  # the last step that was validated
        self.seconds, self.best = 0.0, -1.0
        self.average: dict[str, float] = {}  # of the losses, for the log
        if state is not None:
            self._take_up(state)
        self.log: Log | None = None
        if self.processes.first:
            with only_run(folder):  # what stands there belongs to a run that goes on
                whole = yaml.safe_dump(to_dict(task.cfg), sort_keys=False)
                write_whole(folder / "config.yaml", whole.encode())
                self.log = Log(folder, self.step, tensorboard)
        self.objective: nn.Module = Objective(task)
        if count > 1:  # the buffers are merged by Processes.merge_statistics
            self.objective = DistributedDataParallel(self.objective, broadcast_buffers=False)

    def _take_up(self, state: dict[str, Any]) -> None:
        before, now = (_flat(c) for c in (state.get("config", {}), to_dict(self.task.cfg)))
        differ = [key for key in before | now if before.get(key) != now.get(key) and key != "optim.steps"]
        reason = f"{', '.join(differ)} differ" if before and differ else ""
        try:
            self.net.load_state_dict(state["net"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        except (KeyError, RuntimeError, ValueError) as error:
            reason = reason or str(error).splitlines()[0]
        if reason:
            raise ConfigError(f"{self.folder} holds a run of another config ({reason}); give another --out")
        if "chosen" in state:
            self.net.config = from_dict(type(self.net.config), state["chosen"])
        device = self.processes.device
        self.ema, self.start = ({k: v.to(device) for k, v in state.get(n, {}).items()} for n in ("ema", "start"))
        self.average, self.validated = state.get("average", {}), state.get("validated", -1)

    def save(self) -> None:
        """Write the state of the run and the weights to use, each whole or not at all.

        Raises CheckpointError: they cannot be written (a full disk); what was saved before stays.
        """
        state = {
            "config": to_dict(self.task.cfg),
            "chosen": to_dict(self.net.config),
            "net": self.net.state_dict(),
            "ema": self.ema,
            "start": self.start,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "validated": self.validated,
            "average": self.average,
        }
        save_state(self.folder, state, self.averaged())

    def averaged(self) -> Any:
        """A network to use: the averaged weights, part of the way back to the start if the task says so.

        Between a start and its fine-tuned weights lie weights that have most of the gain and little of the cost
        (Wortsman et al., Robust fine-tuning of zero-shot models, 2022).
        """
        net, share = copy.deepcopy(self.net).cpu(), self.task.start_share
        learnt = self.ema or self.net.state_dict()
        kept = {k: torch.lerp(v, self.start[k], share) if k in self.start and v.is_floating_point() else v
                for k, v in learnt.items()}  # fmt: skip
        net.load_state_dict(kept)
        return net.eval()

    def _average(self) -> None:
        decay = min(self.task.ema, (1 + self.step) / (10 + self.step))
        weights = self.net.state_dict()
        for key, mean in self.ema.items():
            if mean.is_floating_point():
                mean.lerp_(weights[key], 1 - decay)
            else:
                mean.copy_(weights[key])

    def draw_step(self, step: int) -> list[Batch]:
        """This process's share of the batches of a step."""
        share = self.task.parts // self.processes.count
        first = step * self.task.parts + self.processes.rank * share
        return [self.task.draw(first + k) for k in range(share)]

    def train_step(self, batches: list[Batch], progress: float) -> dict[str, float]:
        """One step of the optimiser on this process's share of the batches; returns the losses of all of them, and lr.

        progress: share of the run that is done. Mutates all that `save` writes.
        Raises FloatingPointError, before any weight moves: the loss or its gradient is not finite.
        """
        task, processes, share = self.task, self.processes, len(batches)
        lr = task.set_rates(self.optimiser, progress)
        before = statistics(self.norms) if processes.count > 1 and self.norms else None
        total: dict[str, float] = {}
        for k, batch in enumerate(batches):
            number = self.step * task.parts + processes.rank * share + k
            batch = {name: values.to(processes.device) for name, values in batch.items()}
            torch.manual_seed(task.cfg.seed * 1_000_003 + number)  # dropout, the same in a resumed run
            whole = processes.count == 1 or k + 1 == share
            with nullcontext() if whole else self.objective.no_sync():  # type: ignore[operator]
                loss, parts = self.objective(batch, number, progress)
                (loss / share).backward()
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                total[name] = total.get(name, 0.0) + value / task.parts
        losses = dict(zip(total, processes.sum(list(total.values())), strict=True))
        if not math.isfinite(losses["loss"]):
            raise DivergedError(f"the loss is not finite at step {self.step}; try a smaller optim.lr")
        norm = nn.utils.clip_grad_norm_(self.parameters, task.cfg.optim.clip)
        if not math.isfinite(float(norm)):
            raise DivergedError(f"the gradient is not finite at step {self.step}; try a smaller optim.lr")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if before:
            processes.merge_statistics(self.norms, before)
        self.step += 1
        self._average()
        for name, value in losses.items():
            self.average[name] = 0.98 * self.average.get(name, value) + 0.02 * value
        return losses | {"lr": lr}

    def _progress(self, minutes: float | None) -> float:
        """The share of the run that is done; 1 where there is nothing to do."""
        if minutes is not None:
            return self.seconds / (60 * minutes)
        steps = self.task.cfg.optim.steps
        return self.step / steps if steps else 1.0

    def train(self, minutes: float | None = None, save_minutes: float = 3.0, stop_at: int | None = None) -> float:
        """Train to the end of the schedule; returns the best validation score (-1 without validation).

        minutes: length of the whole run, counting what earlier calls have trained; None takes `optim.steps`. stop_at:
        stop early, before this step. Ctrl-C or SIGTERM saves and returns. A checkpoint that cannot be written is tried
        again later; CheckpointError is raised when the last one cannot.
        """
        (what, many), asking = self.task.samples, self.task.validation
        batches = prefetch(self.draw_step, self.step)
        stop = False
        saved = validated = logged = self.seconds
        progress, lr = 0.0, math.nan
        silent = not self.processes.first
        progress_bar = partial(tqdm, total=100, desc=self.folder.name, mininterval=10, bar_format=BAR, disable=silent)
        alone = only_run(self.folder) if self.processes.first else nullcontext()
        with alone, asked_to_stop() as asked, progress_bar() as bar, saved_at_the_end(self._save_and_draw, batches):
            while not stop:
                progress = self._progress(minutes)
                if progress >= 1 or self.step == stop_at:
                    break
                begin = time.perf_counter()
                lr = self.train_step(next(batches), progress)["lr"]
                own = self.seconds + time.perf_counter() - begin
                wish, self.seconds = self.processes.sum([float(asked()), own if self.processes.first else 0.0])
                stop = wish > 0
                bar.n = 100 * progress
                shown = {k: f"{v:.3f}" for k, v in self.average.items()}
                bar.set_postfix({"step": self.step, f"{what}/s": f"{self.step * many / self.seconds:.1f}"} | shown,
                                refresh=False)  # fmt: skip
                bar.update(0)
                if self.seconds - logged > LOG_SECONDS:
                    self._record({"lr": lr, **self.average})
                    logged = self.seconds
                late = asking and self.seconds - validated > 60 * asking.minutes
                if asking and (late or self.step % asking.steps == 0):
                    self._validate(asking)
                    validated = self.seconds
                if self.seconds - saved > 60 * save_minutes:
                    self._save_or_warn()
                    saved = self.seconds
            if not math.isnan(lr):
                self._record({"lr": lr, **self.average})
            if asking and progress >= 1 and self.validated != self.step:
                self._save_or_warn()  # tracking takes minutes in which the process may be killed
                self._validate(asking)
        if self.log:
            self.log.close()
        return self.best

    def _save_or_warn(self) -> None:
        with only_warn():
            self._save_and_draw()

    def _save_and_draw(self) -> None:
        if self.log:
            self.save()
            self.log.draw()

    def _validate(self, validation: Validation) -> None:
        self.validated = self.step
        if not self.log:
            return
        net = self.averaged()
        score = validation.score(net)
        self.net.config = net.config
        self._record({"validation": score})
        tqdm.write(f"{self.folder.name}: step {self.step}, validation {score:.4f} (best {max(score, self.best):.4f})")
        if score > self.best:
            self.best = score
            save_network(net, self.folder / "best.safetensors")

    def _record(self, values: dict[str, float]) -> None:
        if self.log:
            self.log.write(self.step, self.seconds, values)


def _flat(config: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The values of nested dicts by their paths, "optim.lr" say."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
