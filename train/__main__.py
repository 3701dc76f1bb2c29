"""siamtrack train: look at footage, prepare it, look at pairs, train a network.

Without a command it fine-tunes: siamtrack train --from swift --data clip.mp4 --minutes 10
Networks that compare images have commands of their own: siamtrack similarity --help
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from tracker.checkpoints import average, load_network, save_network
from tracker.cli import Parser, reported
from tracker.config import load_yaml
from tracker.errors import DataError, InputError
from tracker.footage.clip import Tally
from tracker.footage.layouts import LAYOUTS, detect
from tracker.footage.output import check_output
from tracker.loading import weight_file
from tracker.network import SiameseNet, Swift
from train.arguments import add_recipe, add_run, changed, minutes, positive, share, train, whole
from train.calibrate import calibrate, footage
from train.config import TrainConfig
from train.convert import from_fear, from_nanotrack
from train.harvest import Harvest, harvest, load_detector, track_tiles
from train.processes import join
from train.render import render
from train.run import Validation
from train.sheet import inspect, preview, write_sheet
from train.store import Store, prepare
from train.tasks.tracker import TrackerTask
from train.teacher import load_teacher
from train.tune import KEPT, footage_name, prepare_tune, tune_config

SHEETS = (".png", ".jpg")


def command_prepare(args: argparse.Namespace) -> None:
    """Decode footage into a store."""
    for line in prepare(args.data, args.store, args.format).lines():
        print(line)


def command_inspect(args: argparse.Namespace) -> None:
    """Tell what a data set holds, and what of it cannot be used and why."""
    sheet = check_output(args.sheet, SHEETS, force=True) if args.sheet else None
    layout = args.format or detect(args.data)
    tally, tiles = inspect(args.data, layout, args.tiles if sheet else 0)
    print(f"{args.data}: layout {layout}")
    for line in tally.lines():
        print(line)
    if not tally.kept["boxes"]:
        raise DataError(f"{args.data}: nothing in it can be used")
    if sheet:
        write_sheet(sheet, tiles)
        print(f"contact sheet: {sheet}")


def command_preview(args: argparse.Namespace) -> None:
    """Draw the first pairs of a run with their labels."""
    sheet = check_output(args.out, SHEETS, force=True)
    write_sheet(sheet, preview(load_yaml(TrainConfig, args.config), Store(args.store), args.pairs))
    print(f"{args.pairs} pairs: {sheet}")


def command_render(args: argparse.Namespace) -> None:
    """Render clips with boxes and masks, and sequences to validate on: a set-up can be tried without any footage."""
    render(args.folder, args.clips, args.sequences)
    print(f"{args.folder}: {args.clips} clips in clips/, {args.sequences} sequences in val/")


def command_harvest(args: argparse.Namespace) -> None:
    """Find boxes in footage that has none: what may be a target is followed forward and back by other trackers."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = load_detector(args.detector) if args.detector else None
    teacher = load_teacher(args.teacher.split(","))
    try:
        harvest(args.clips, args.out, teacher, detector, Harvest(args.length, args.every, *args.proposals), args.seed)
    finally:
        tiles = track_tiles(args.out, args.tiles) if any(args.out.glob("*/boxes.csv")) else []
        if tiles:
            write_sheet(args.out / "sheet.png", tiles)
            print(f"contact sheet: {args.out / 'sheet.png'}; goes on, if it was stopped, by the same command")


def command_fit(args: argparse.Namespace) -> None:
    """Train, or go on where the last checkpoint left it."""
    start = weight_file(args.start_from) if args.start_from else None
    cfg, store = changed(load_yaml(TrainConfig, args.config), args.seed, args.steps), Store(args.store)
    with join(args.device) as processes:
        train(TrackerTask(cfg, store, start, validation(args)), args.out, args, processes)


def command_tune(args: argparse.Namespace) -> None:
    """Fine-tune weights on labelled footage; the command when none is named."""
    start = weight_file(args.start_from)
    out = args.out or Path("runs") / footage_name(args.data[0])
    with join(args.device) as processes:
        if processes.first:
            prepare_tune(args.data, out / "store", args.format)
        processes.of_first(None)  # the others wait for the store
        store = Store(out / "store")
        if args.keep:
            store = store.joined(Store(args.keep), KEPT)
        cfg = tune_config(load_network(start).config, store, args.keep_share)
        train(TrackerTask(cfg, store, start, validation(args)), out, args, processes)
        if processes.first:
            print(f"track with: siamtrack track VIDEO --select --weights {out / 'last.safetensors'}")


def command_calibrate(args: argparse.Namespace) -> None:
    """Make the score of weights a probability, and let them know when they have lost their target."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out = check_output(args.out, (".safetensors",), force=True)
    net, tally = load_network(weight_file(args.weights)), Tally()
    if not isinstance(net, Swift):
        raise InputError(f"{args.weights}: only swift can be calibrated; this is {net.config.network}")
    sequences = footage(args.data, args.work / "footage", tally)[:: args.every]
    confidence, said = calibrate(net, sequences, args.work, args.workers)
    net.config = replace(net.config, confidence=confidence)
    save_network(net, out)
    print(
        f"{said['rows']:.0f} boxes of {len(sequences)} clips, {100 * said['right']:.0f} % of them right:"
        f" calibration error {said['ece']:.3f}, AUROC {said['auroc']:.3f};"
        f" {said['candidates']:.0f} candidates, {100 * said['candidates_right']:.0f} % right:"
        f" {said['candidates_ece']:.3f}, {said['candidates_auroc']:.3f}; wrote {out}"
    )


def command_average(args: argparse.Namespace) -> None:
    """Average the weights of networks of one kind, which often track better than each of them."""
    out = check_output(args.out, (".safetensors",), force=True)
    save_network(average([load_network(weight_file(name)) for name in args.weights]), out)
    print(f"wrote {out}, with the config of {args.weights[-1]}")


def command_convert(args: argparse.Namespace) -> None:
    """Turn a network that others trained into one of ours: weights to track with, or to begin with."""
    out = check_output(args.out, (".safetensors",), force=True)
    if args.fear:
        save_network(from_fear(args.fear), out)
        print(f"wrote {out}: trunk and head of FEAR-XS, an untrained refiner; begin with it: fit --from {out}")
    else:
        save_network(from_nanotrack(*args.nanotrack_v3), out)
        print(f"wrote {out}: NanoTrack v3 as a swift-nano; track with it: siamtrack track VIDEO --weights {out}")


def validation(args: argparse.Namespace) -> Validation | None:
    """Mean success AUC of real tracking on the sequences in `--val` (img/ + groundtruth_rect.txt, one-based)."""
    if not args.val:
        return None
    from tracker import Tracker
    from tracker.benchmark.run.runner import evaluate
    from tracker.footage.layouts import load_folder

    sequences = load_folder(args.val, one_based=True)

    def score(net: SiameseNet) -> float:
        results = evaluate(Tracker(net, threads=args.threads), sequences)
        return sum(r.success_auc for r in results.values()) / len(results)

    return Validation(score, minutes=args.val_minutes)


def picture(text: str) -> Path:
    """The path of a picture, for argparse."""
    if Path(text).suffix.lower() not in SHEETS:
        raise argparse.ArgumentTypeError(f"{text}: the name of a picture ends in {' or '.join(SHEETS)}")
    return Path(text)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in argv if word != "--debug"]
    if words[:1] == ["similarity"]:
        from train.similarity.__main__ import main as similarity

        argv.remove("similarity")
        return similarity(argv)
    return reported("siamtrack train", argv, run)


def run(argv: Sequence[str]) -> int:
    """Run one command; what is raised, is raised."""
    if argv and argv[0].startswith("--") and argv[0] != "--help":
        argv = ["tune", *argv]
    args = make_parser().parse_args(argv)
    args.run(args)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="siamtrack train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("prepare", help=command_prepare.__doc__)
    p.add_argument("data", nargs="+", type=Path, help="data sets, or videos with a boxes.csv beside them")
    p.add_argument("--store", type=Path, required=True, help="folder to write")
    add_format(p)
    p.set_defaults(run=command_prepare)
    p = commands.add_parser("inspect", help=command_inspect.__doc__)
    p.add_argument("data", type=Path, help="a data set, or a video with a boxes.csv beside it")
    add_format(p)
    p.add_argument("--sheet", type=picture, help="picture to write: frames with their boxes, dropped ones in red")
    p.add_argument("--tiles", type=positive, default=24, help="frames on the sheet")
    p.set_defaults(run=command_inspect)
    p = commands.add_parser("preview", help=command_preview.__doc__)
    p.add_argument("--config", type=Path, required=True, help="a complete YAML, see configs/")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--out", type=picture, required=True, help="picture to write")
    p.add_argument("--pairs", type=positive, default=24, help="pairs on the sheet")
    p.set_defaults(run=command_preview)
    p = commands.add_parser("render", help=command_render.__doc__)
    p.add_argument("folder", type=Path, help="new folder to write")
    p.add_argument("--clips", type=positive, default=40, help="clips to train on")
    p.add_argument("--sequences", type=positive, default=6, help="sequences to validate on")
    p.set_defaults(run=command_render)
    p = commands.add_parser("harvest", help=command_harvest.__doc__)
    p.add_argument("clips", nargs="+", type=Path, help="videos, or folders with videos in them")
    p.add_argument("--out", type=Path, required=True, help="folder to write; what stopped goes on")
    p.add_argument("--teacher", required=True, help="trackers that vote, as for the benchmark: swift,fear=DIR,..")
    p.add_argument("--detector", metavar="MODULE:FUNCTION", help="given a frame (BGR), returns boxes x, y, w, h")
    p.add_argument("--every", type=positive, default=2, help="take every n-th frame only")
    p.add_argument("--length", type=positive, default=45, help="frames of a track at most")
    p.add_argument(
        "--proposals", nargs=4, type=whole, default=(2, 2, 2, 2), metavar=("DETECTED", "MOVING", "PARTS", "TEXTURES"),
        help="most boxes of a kind that are tried in each stretch",
    )  # fmt: skip
    p.add_argument("--seed", type=whole, default=0, help="of the boxes that are drawn at random")
    p.add_argument("--tiles", type=positive, default=60, help="tracks on the contact sheet")
    p.set_defaults(run=command_harvest)
    p = commands.add_parser("fit", help=command_fit.__doc__)
    p.add_argument("--config", type=Path, required=True, help="a complete YAML, see configs/")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it goes on")
    p.add_argument("--from", dest="start_from", help="weights to begin with: a name or a file")
    add_recipe(p)
    add_run(p)
    add_validation(p)
    p.set_defaults(run=command_fit)
    p = commands.add_parser("average", help=command_average.__doc__)
    p.add_argument("weights", nargs="+", help="names or files; the config of the last one is kept")
    p.add_argument("--out", required=True, help="weights to write (.safetensors)")
    p.set_defaults(run=command_average)
    p = commands.add_parser("convert", help=command_convert.__doc__)
    start = p.add_mutually_exclusive_group(required=True)
    start.add_argument("--fear", type=Path, help="ONNX graph of the search branch of FEAR-XS")
    start.add_argument(
        "--nanotrack-v3", type=Path, nargs=2, metavar=("BACKBONE", "HEAD"), help="ONNX graphs of NanoTrack v3"
    )
    p.add_argument("--out", required=True, help="weights to write (.safetensors)")
    p.set_defaults(run=command_convert)
    p = commands.add_parser("calibrate", help=command_calibrate.__doc__)
    p.add_argument("--weights", required=True, help="a name or a file")
    p.add_argument("--data", nargs="+", type=Path, required=True, help="videos with a boxes.csv beside them, data sets")
    p.add_argument(
        "--work", type=Path, required=True, help="folder for footage with events and evidence; what stopped goes on"
    )
    p.add_argument("--out", required=True, help="weights to write (.safetensors)")
    p.add_argument("--every", type=positive, default=1, help="take every n-th clip only")
    p.add_argument("--workers", type=positive, default=1, help="processes, one thread each")
    p.set_defaults(run=command_calibrate)
    p = commands.add_parser("tune", help=command_tune.__doc__)
    p.add_argument("--from", dest="start_from", required=True, help="weights to begin with: a name or a file")
    p.add_argument("--data", nargs="+", type=Path, required=True, help="videos with a boxes.csv beside them, data sets")
    add_format(p)
    p.add_argument("--out", type=Path, help="folder of the run; by default runs/ and the name of the data's folder")
    p.add_argument("--keep", type=Path, help="store whose pairs are mixed in, so that the rest is not forgotten")
    p.add_argument("--keep-share", type=share, default=0.5, help="share of these pairs")
    add_run(p, minutes_by_default=10.0)
    add_validation(p)
    p.set_defaults(run=command_tune)
    return parser


def add_format(parser: argparse.ArgumentParser) -> None:
    """The option that names a layout."""
    parser.add_argument("--format", choices=list(LAYOUTS), help="layout of the data; found out when not given")


def add_validation(parser: argparse.ArgumentParser) -> None:
    """The options that say what to track on while training."""
    parser.add_argument("--val", type=Path, help="sequences (img/ + groundtruth_rect.txt) to track on while training")
    parser.add_argument("--val-minutes", type=minutes, default=20.0, help="time between validations")


if __name__ == "__main__":
    sys.exit(main())
