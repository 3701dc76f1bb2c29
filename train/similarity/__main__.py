"""siamtrack similarity: do images show the same thing? Compare them, and train networks that do."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from statistics import fmean

import cv2
import torch

from tracker.checkpoints import save_network
from tracker.cli import Parser, reported
from tracker.config import load_yaml
from tracker.errors import InputError
from tracker.footage.output import write_whole
from tracker.similarity import SEQUENCES, load_similarity
from tracker.similarity.command import add_arguments, compare_command
from train.arguments import add_recipe, add_run, add_steps, changed, positive, several, train, whole
from train.processes import join
from train.run import Run
from train.similarity.config import TrainConfig
from train.similarity.data import ImageSet, fingerprint, never_seen, omniglot_runs, read, split, unlike
from train.similarity.evaluate import (
    Net,
    PixelDistance,
    classes_to_choose,
    draw_plots,
    draw_sweep,
    evaluate,
    need_matplotlib,
    table,
)
from train.tasks.similarity import SimilarityTask

WAYS = (2, 5, 10, 20)


def recipe(path: Path, seed: int | None = None, steps: int | None = None) -> TrainConfig:
    """The config in a YAML, with another seed and number of steps where they are given."""
    return changed(load_yaml(TrainConfig, path), seed, steps)


def command_fit(args: argparse.Namespace) -> None:
    """Train, or go on where the last checkpoint left it."""
    cfg = recipe(args.config, args.seed, args.steps)
    training, validation, test = split(read(args.data, cfg.data, cfg.model), cfg.data, cfg.seed)
    with join(args.device) as processes:
        for name, part in (("training", training), ("validation", validation), ("test", test)):
            if processes.first:
                print(f"{name:10s} {part or 'none'}")
        task = SimilarityTask(cfg, training, validation, args.begin, args.trunk, test)
        if train(task, args.out, args, processes) < 0 and processes.first:
            print("no validation yet: the weights have no threshold")


def command_evaluate(args: argparse.Namespace) -> None:
    """Print (and write, with plots) the figures of networks on images they have not seen."""
    if args.out:
        need_matplotlib()
        args.out.mkdir(parents=True, exist_ok=True)
    cfg = recipe(args.config, args.seed)
    training, validation, test = None, None, None
    if args.data or not (args.test or args.runs):
        training, validation, test = split(read(args.data, cfg.data, cfg.model), cfg.data, cfg.seed)
    test = other_images(args.test, cfg, training, validation) or test
    if test is None and not args.runs:
        raise InputError(f"nothing to evaluate on: data.test is 0 in {args.config}; give --test or --runs")
    runs = omniglot_runs(args.runs) if args.runs else []
    nets: dict[str, Net] = {}
    for path in args.weights:
        name = path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem
        nets[name if name not in nets else str(path)] = load_similarity(path)
    if test is not None:
        own = fingerprint(training, validation) if training else None
        configs = {name: net.config for name, net in nets.items()}
        test = never_seen(test, configs, cfg.data.hold_out, own, is_rest=not args.test)
        print(f"test: {test}")
    if args.ways is None:  # as many as there are classes to choose from
        args.ways = [n for n in WAYS if test is not None and n <= len(test.names)]
    if not {cfg.model.trunk, cfg.model.side(True).trunk} & {*SEQUENCES}:
        nets["pixels"] = PixelDistance(dataclasses.replace(cfg.model, second=None, pairing="siamese"))
    found, kept = {}, {}
    for name, net in nets.items():
        found[name], scores = evaluate(
            net, test, args.pairs, args.ways, args.trials, cfg.seed, runs, args.enrol, args.shots
        )
        if scores is not None:
            kept[name] = scores
    print(table(found))
    if args.out:
        write_whole(args.out / "figures.json", as_json(found))
        draw_plots(found, kept, args.out)
        print(f"wrote figures.json and plots to {args.out}")


def other_images(
    paths: list[Path] | None, cfg: TrainConfig, training: ImageSet | None, validation: ImageSet | None
) -> ImageSet | None:
    """The images at --test without the groups (or, where those are shared, the images) of a split, or None."""
    if not paths:
        return None
    test = read(paths, cfg.data, cfg.model)
    seen = [part for part in (training, validation) if part]
    if cfg.data.hold_out == "images":
        return unlike(test, seen)
    return test.without_groups([name for part in seen for name in part.used_groups()])


def command_sweep(args: argparse.Namespace) -> None:
    """Train recipes with embeddings of several lengths; table and plots of N-way accuracy, means over seeds."""
    need_matplotlib()
    found: dict[str, dict[int, dict[int, dict[str, float]]]] = {}  # of recipe, length, seed
    for path, seed in itertools.product(args.config, args.seeds or [None]):
        cfg = recipe(path, seed, args.steps)
        training, validation, test = split(read(args.data, cfg.data, cfg.model), cfg.data, cfg.seed)
        test = other_images(args.test, cfg, training, validation) or test
        if test is None or validation is None:
            raise InputError(f"{path}: a sweep needs data.validation above 0, and data.test or --test")
        ways = args.ways or [n for n in WAYS if n <= len(test.names)]
        for n in ways:
            classes_to_choose(test, n)
        for length in args.embeddings:
            one = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, embedding=length))
            folder = args.out / f"{path.stem}-{length}-seed{cfg.seed}"
            run = Run(SimilarityTask(one, training, validation, test=test), folder)
            run.train()
            if run.step < cfg.optim.steps:
                raise KeyboardInterrupt
            figures, _ = evaluate(load_similarity(folder / "best.safetensors"), test, 2000, ways, args.trials)
            found.setdefault(path.stem, {}).setdefault(length, {})[cfg.seed] = figures["one_shot"]
    means = {name: {length: mean_of_seeds(own) for length, own in by.items()} for name, by in found.items()}
    print(table({f"{name} {n}": {"one_shot": v} for name, own in means.items() for n, v in own.items()}))
    write_whole(args.out / "sweep.json", as_json(found))
    print(f"wrote sweep.json and {draw_sweep(means, args.out / 'sweep.png').name} to {args.out}")


def mean_of_seeds(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """For each N that every seed has, the mean over the seeds."""
    first, *others = found.values()
    return {n: fmean(one[n] for one in found.values()) for n in first if all(n in one for one in others)}


def command_pack(args: argparse.Namespace) -> None:
    """Write weights in a quarter of the bytes, to be shipped: matrices and kernels in 8 bits a number."""
    net = load_similarity(args.weights)
    if args.out.is_file():
        load_similarity(args.out)  # which refuses what is no such file, before it is written over
    net.config = dataclasses.replace(net.config, about=args.about)
    save_network(net, args.out, eight=True)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


def as_json(values: object) -> bytes:
    """The bytes of a JSON file that people can read."""
    return (json.dumps(values, indent=1) + "\n").encode()


def make_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The commands, with the options of `argv`'s."""
    parser = Parser(prog="siamtrack similarity", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    added = {}
    for name, run in (("fit", command_fit), ("evaluate", command_evaluate), ("sweep", command_sweep)):
        p = added[name] = commands.add_parser(name, help=run.__doc__)
        p.set_defaults(run=run)
        recipes = {"nargs": "+"} if name == "sweep" else {}
        p.add_argument("--config", type=Path, required=True, help="complete YAML, see configs/similarity/", **recipes)
        p.add_argument("--data", type=Path, nargs="+", default=[], help="what data.reader of the YAML reads")
        if name == "evaluate":
            p.add_argument("--seed", type=whole, metavar="N", help="of all draws, in place of that of the YAML")
        elif name == "sweep":
            p.add_argument("--seeds", type=whole, nargs="+", metavar="N", help="each is trained [that of the YAML]")
            add_steps(p)
        else:
            add_recipe(p)
        if name == "fit":
            add_run(p)
        else:
            p.add_argument("--threads", type=positive, default=1, help="CPU threads")
        if name != "fit":
            p.add_argument(
                "--ways", type=several, nargs="+", help="N of N-way [2 5 10 20, or to the number of classes]"
            )
            p.add_argument(
                "--test", type=Path, nargs="+", help="other images, without the groups or images trained on [data.test]"
            )
            p.add_argument("--trials", type=positive, default=400, help="one-shot trials for each N [400]")
    p = commands.add_parser("compare", help=compare_command.__doc__)
    p.set_defaults(run=compare_command, threads=1)
    if argv[:1] == ["compare"]:  # its options read the shipped weights
        add_arguments(p)
    p = commands.add_parser("pack", help=command_pack.__doc__)
    p.set_defaults(run=command_pack, threads=1)
    p.add_argument("weights", type=Path, metavar="FILE")
    p.add_argument("--about", required=True, help="what images the weights are for, in words")
    p.add_argument("--out", type=Path, required=True, metavar="FILE")
    p = added["fit"]
    p.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished one goes on")
    begin = "weights that a new run begins with; those of a narrower koch network are widened"
    p.add_argument("--from", dest="begin", type=Path, metavar="FILE", help=begin)
    p.add_argument("--trunk", type=Path, help="ImageNet weights for a mobilenet trunk (torchvision's naming)")
    p = added["evaluate"]
    p.add_argument("--weights", type=Path, nargs="+", required=True, help="networks to compare on the same draws")
    p.add_argument("--enrol", type=positive, nargs="+", default=[], metavar="N", help="verify claims against N images")
    shots = "K references a class, of as many classes as the most --ways: nearest, mean, attention"
    p.add_argument("--shots", type=positive, nargs="+", default=[], metavar="K", help=shots)
    p.add_argument("--runs", type=Path, help="Omniglot's one_shot_runs.zip")
    p.add_argument("--pairs", type=several, default=2000, help="test pairs, half of them the same [2000]")
    p.add_argument("--out", type=Path, help="folder for figures.json and plots")
    p = added["sweep"]
    p.add_argument("--embeddings", type=positive, nargs="+", required=True, help="lengths of the embedding")
    p.add_argument("--out", type=Path, required=True, help="folder of the runs, sweep.json and sweep.png")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    return reported("siamtrack similarity", argv, run)


def run(argv: list[str]) -> int:
    """Run one command; what is raised, is raised."""
    args = make_parser(argv).parse_args(argv)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
