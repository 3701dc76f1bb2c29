"""The processes of one run: a single one, or those that torchrun started on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tracker.backends import pick_device
from tracker.errors import ConfigError

PATIENCE = timedelta(hours=3)  # others wait for the first process while it tracks the validation sequences


@dataclass(frozen=True)
class Processes:
    """Which of `count` processes this one is, and where it computes."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a constant)

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Sum of each value over all processes."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def of_first(self, thing: Any) -> Any:
        """What the first process gives; what the others give is ignored."""
        if self.count == 1:
            return thing
        box = [thing]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def merge_statistics(self, norms: list[Any], before: tuple[Tensor, Tensor]) -> None:
        """Give batch-norms the running statistics that one process would have after all passes, rank by rank.

        norms: batch-norm layers, mutated. before: what `statistics(norms)` said before the passes of this step.
        With R the running value, m the momentum and s a batch's value, a pass does R <- (1 - m) R + m s; n passes of a
        process turn R into (1 - m)^n R + c, and the processes' c are all that must be exchanged.
        """
        if self.count == 1 or not norms:
            return
        now, passes = statistics(norms)
        start, passed = before
        momentum = torch.cat([torch.full_like(n.running_mean, n.momentum).repeat(2) for n in norms])
        decay = (1 - momentum) ** (passes - passed)
        own = now - decay * start
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(gathered, own)
        merged = start
        for one in gathered:
            merged = decay * merged + one
        total = passed + self.count * (passes - passed)
        sizes = [2 * len(n.running_mean) for n in norms]
        for norm, values, number in zip(norms, merged.split(sizes), total.split(sizes), strict=True):
            mean, variance = values.chunk(2)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.num_batches_tracked.fill_(int(number[0]))


def statistics(norms: list[Any]) -> tuple[Tensor, Tensor]:
    """Running means and variances of batch-norms, end to end, and the number of passes behind each value; copies."""
    values = [t for n in norms for t in (n.running_mean, n.running_var)]
    passes = [n.num_batches_tracked.repeat(2 * len(n.running_mean)) for n in norms]
    return torch.cat(values), torch.cat(passes)


@contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """Join the others that torchrun started, if it did, for as long as the context is open.

    device: see `tracker.backends.pick_device`; with several GPUs each process takes its own.
    Raises ConfigError: a device that is not there.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    try:
        chosen = pick_device(device)
    except ValueError as error:
        raise ConfigError(f"--device: {error}") from None
    if count == 1:
        yield Processes(device=chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank, count, chosen)
    finally:
        dist.destroy_process_group()
