"""Command line arguments that several commands have, and what they do with them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

from train.processes import Processes
from train.run import Run, Task


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0")
    return int(text)


def whole(text: str) -> int:
    """A whole number."""
    return 0 if text.isascii() and text.isdigit() and not text.strip("0") else positive(text)


def several(text: str) -> int:
    """A whole number above 1."""
    if (number := positive(text)) < 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 1")
    return number


def minutes(text: str) -> float:
    """A length of time above 0."""
    if not 0 < (number := _number(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of minutes above 0")
    return number


def share(text: str) -> float:
    """A number in [0, 1)."""
    if not 0 <= (number := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a share: at least 0, below 1")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def add_run(parser: argparse.ArgumentParser, minutes_by_default: float | None = None) -> None:
    """The options of every training."""
    said = "length of the whole run; the schedule is fitted to it"
    parser.add_argument("--minutes", type=minutes, default=minutes_by_default, help=said)
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads; one is best when another job runs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--tensorboard", action="store_true", help="write event files into OUT/tensorboard, too")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The options that stand in place of what a recipe says."""
    parser.add_argument("--seed", type=whole, metavar="N", help="of all draws, in place of that of the YAML")
    add_steps(parser)


def add_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=positive, help="in place of optim.steps")


def changed(cfg: Any, seed: int | None, steps: int | None) -> Any:
    """The config of a run with another seed and number of steps where they are given."""
    optim = cfg.optim if steps is None else replace(cfg.optim, steps=steps)
    return replace(cfg, seed=cfg.seed if seed is None else seed, optim=optim)


def train(task: Task, out: Path, args: argparse.Namespace, processes: Processes) -> float:
    """Train in the folder `out`, in this process or in those that torchrun started; the best validation score."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    run = Run(task, out, processes, args.tensorboard)
    if run.step and processes.first:
        print(f"going on at step {run.step}, {run.seconds / 60:.0f} minutes in")
    best = run.train(args.minutes)
    if processes.first:
        print(f"step {run.step}, {run.seconds / 60:.1f} minutes, weights in {out}"
              + (f", best validation {best:.4f}" if best >= 0 else ""))  # fmt: skip
    return best
