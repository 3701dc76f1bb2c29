"""python -m train: prepare footage, train a network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from tracker.config import ConfigError, load_yaml
from tracker.network import CheckpointError, SiameseNet
from train.config import TrainConfig
from train.loop import Run
from train.store import Store, StoreError, prepare


def command_prepare(args: argparse.Namespace) -> None:
    """Decode footage into a store."""
    for name, count in prepare(args.data, args.store).items():
        print(f"{count:8d} {name}")


def command_fit(args: argparse.Namespace) -> None:
    """Train, or go on where the last checkpoint left it."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    cfg = load_yaml(TrainConfig, args.config)
    run = Run(cfg, Store(args.store), args.out, start_from=args.start_from, trunk=args.trunk)
    if run.step:
        print(f"going on at step {run.step}, {run.seconds / 60:.0f} minutes in")
    best = run.train(args.minutes, validation(args.val, args.threads) if args.val else None, args.val_minutes)
    print(f"step {run.step}, weights in {args.out}" + (f", best validation {best:.4f}" if best >= 0 else ""))


def validation(folder: Path, threads: int) -> Callable[[SiameseNet], float]:
    """Mean success AUC of real tracking on the sequences in `folder` (img/ + groundtruth_rect.txt, one-based)."""
    from tracker import Tracker
    from tracker.benchmark.runner import evaluate
    from tracker.benchmark.sequences import load_folder

    sequences = load_folder(folder, one_based=True)

    def score(net: SiameseNet) -> float:
        results = evaluate(Tracker(net, threads=threads), sequences)
        return sum(r.success_auc for r in results.values()) / len(results)

    return score


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("prepare", help=command_prepare.__doc__)
    p.add_argument("data", nargs="+", type=Path, help="folders with boxes.csv beside video or images")
    p.add_argument("--store", type=Path, required=True, help="folder to write")
    p.set_defaults(run=command_prepare)
    p = commands.add_parser("fit", help=command_fit.__doc__)
    p.add_argument("--config", type=Path, required=True, help="a complete YAML, see configs/")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it goes on")
    p.add_argument("--minutes", type=float, help="length of the whole run; the schedule is fitted to it")
    p.add_argument("--from", dest="start_from", type=Path, help="weights to begin with")
    p.add_argument("--trunk", type=Path, help="ImageNet weights of the MobileNetV2 trunk (torchvision's naming)")
    p.add_argument("--val", type=Path, help="sequences (img/ + groundtruth_rect.txt) to track on while training")
    p.add_argument("--val-minutes", type=float, default=20.0, help="time between validations")
    p.add_argument("--threads", type=int, default=1, help="CPU threads; one is best when another job runs")
    p.set_defaults(run=command_fit)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (ConfigError, StoreError, CheckpointError, OSError) as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
