"""Pairs/s of training with the real loader over pairs/s on constant tensors: python tests/bench/loader.py [--store DIR]

Both train the same network, in turn, a few steps at a time; printed is the median of the ratios of neighbouring turns,
so that other jobs on the machine weigh on both sides. "clock" is what a run sees, where the loader's thread may use
another core; "one core" divides the processor's time instead, as if there were no other core. Without --store a few
scenes are rendered.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import torch

from tracker.config import load_yaml
from train.config import TrainConfig
from train.render import render
from train.run import Batch, Run, prefetch
from train.store import Store, prepare
from train.tasks.tracker import TrackerTask

CONFIG = Path(__file__).parents[2] / "configs" / "swift.yaml"


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cfg = load_yaml(TrainConfig, args.config)
    with tempfile.TemporaryDirectory() as folder:
        if args.store is None:
            render(Path(folder) / "scenes", clips=6, sequences=1)
            args.store = Path(folder) / "store"
            prepare([Path(folder) / "scenes" / "clips"], args.store)
        store = Store(args.store)
        cfg = replace(
            cfg, pairs=replace(cfg.pairs, mix={n: w for n, w in cfg.pairs.mix.items() if n in store.by_source})
        )
        run = Run(TrackerTask(cfg, store), Path(folder) / "run")
        measure(run, args.turns, args.steps)


def measure(run: Run, turns: int, steps: int) -> None:
    """Train in turn on drawn and on constant batches."""
    drawn = prefetch(run.draw_step, 0)
    constant = itertools.repeat(run.draw_step(0))
    turn(run, drawn, 1)
    turn(run, constant, 1)
    ratios = []
    for _ in range(turns):
        real, still = turn(run, drawn, steps), turn(run, constant, steps)
        ratios.append([b / a for a, b in zip(real, still, strict=True)])
        pairs = steps * run.task.cfg.optim.batch
        print(f"real {pairs / real[0]:6.1f} pairs/s, constant {pairs / still[0]:6.1f}", flush=True)
    clock, core = (median(r) for r in zip(*ratios, strict=True))
    print(f"ratio: {clock:.3f} on the clock, {core:.3f} on one core")


def turn(run: Run, batches: Iterator[list[Batch]], steps: int) -> tuple[float, float]:
    """Seconds on the clock and of the processor for some steps; `next` waits for the loader's thread."""
    clock, core = time.perf_counter(), time.process_time()
    for _ in range(steps):
        run.train_step(next(batches), 0.0)
    return time.perf_counter() - clock, time.process_time() - core


if __name__ == "__main__":
    main()
