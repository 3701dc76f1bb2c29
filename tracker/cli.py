"""The command `siamtrack`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import tracker as package

# Torch and OpenCV are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from tracker import Target, Tracker
    from tracker.footage.boxes import Row
    from tracker.footage.video import Frame, Source, VideoWriter

TRAIL = 30  # centres drawn behind the box


def track(args: argparse.Namespace) -> int:
    """Follow the objects in boxes through a source; write video and boxes, also when the work ends early."""
    from tracker.draw import check_display, select_box
    from tracker.footage.boxes import BOX_SUFFIXES, write_boxes
    from tracker.footage.video import CODECS, DEFAULT_FPS, VideoWriter, check_output, frames

    save = check_output(args.save, tuple(CODECS), args.force) if args.save else None
    boxes = check_output(args.boxes, BOX_SUFFIXES, args.force) if args.boxes else None
    if save and save.exists() and os.path.exists(args.source) and save.samefile(args.source):
        raise ValueError(f"{save} is the source; save to another file")
    init = read_targets(args.targets) if args.targets else args.init or []
    if boxes and boxes.suffix.lower() == ".txt" and max(args.select, len(init)) > 1:
        raise ValueError(f"{boxes}: the boxes of several targets need .csv or .json")
    if args.select or args.show:
        check_display()
    with frames(args.source, args.start, args.stop) as source:
        if not args.quiet:
            _say(f"loading {args.weights} ...")
        engine = package.Tracker.load(args.weights, device=args.device, threads=args.threads)
        first = next(source)
        given = init or [select_box(first.image) for _ in range(args.select)]
        targets = [engine.init(first.image, box) for box in given]
        rows = [_row(first, i, target.box, 1.0) for i, target in enumerate(targets)]
        writer = VideoWriter(save, source.fps or DEFAULT_FPS, source.size, args.force) if save else None
        begin, ended = time.perf_counter(), None
        try:
            with writer or contextlib.nullcontext():
                complete = _follow(source, engine, targets, first, rows, writer, args)
        except BaseException as error:  # Ctrl-C, a lost camera, a full disk: first keep what there is
            ended, complete = error, False
        seconds, count = time.perf_counter() - begin, len(rows) // len(targets)
        if boxes:
            meta = {
                "source": str(args.source),
                "weights": str(args.weights),
                "siamtrack": package.__version__,
                "coordinates": "x, y, w, h in frame pixels, 0-based: pixel i covers [i, i+1)",
                "size": list(source.size),
                "fps": source.fps,
                "complete": complete and not source.truncated,
                "skipped": source.skipped,
                "dropped": source.dropped,
            }
            write_boxes(boxes, rows, meta)
    kept = [str(path) for path in (save if writer and writer.saved else None, boxes) if path]
    if ended is not None:
        said = "interrupted" if isinstance(ended, KeyboardInterrupt) else "ended early"
        _say(f"{said} after {count} frames; kept {' and '.join(kept) or 'nothing'}")
        if isinstance(ended, KeyboardInterrupt):
            return 130
        raise ended
    if not args.quiet:
        print(f"{count} frames in {seconds:.1f} s, {count / seconds:.0f} frames/s; {_summary(rows, len(targets))}")
        for path in kept:
            print(f"wrote {path}")
        if writer and writer.codec == "mp4v":
            print("(MPEG-4 part 2: VLC, mpv and ffmpeg play it, browsers do not; they play .webm)")
    return 0


def read_targets(file: str) -> list[tuple[float, float, float, float]]:
    """The boxes x, y, w, h of a table with a header, a target in each row; of one with frames those of its first frame.

    Raises ValueError: no such columns, no rows, a value that is no number, with its line; OSError.
    """
    with open(file, newline="", encoding="utf-8-sig") as table:
        rows = list(csv.DictReader(table))
    missing = [name for name in "xywh" if not rows or name not in rows[0]]
    if missing:
        raise ValueError(
            f"{file}: no column {', '.join(missing)}; a table of targets has the header x,y,w,h and a row each"
        )
    boxes = []
    for line, row in enumerate(rows, 2):
        if row.get("frame") == rows[0].get("frame"):
            try:
                boxes.append((float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"])))
            except (TypeError, ValueError):
                raise ValueError(f"{file}, line {line}: x, y, w, h are four numbers") from None
    return boxes


def _summary(rows: Sequence[Row], targets: int) -> str:
    """Mean score, and in how many frames each target was lost."""
    said = f"mean score {sum(row.score for row in rows) / len(rows):.2f}"
    for i in range(targets):
        lost = sum(row.state == "lost" for row in rows if row.id == i)
        if lost:
            said += f"; {'' if targets == 1 else f'target {i} '}lost in {lost} frames"
    return said


def _row(frame: Frame, number: int, box: Sequence[float], score: float, state: str = "tracking") -> Row:
    from tracker.footage.boxes import Row

    x, y, w, h = map(float, box)
    return Row(frame.index, frame.time, number, x, y, w, h, float(score), state)


def _follow(
    source: Source,
    engine: Tracker,
    targets: Sequence[Target],
    first: Frame,
    rows: list[Row],
    writer: VideoWriter | None,
    args: argparse.Namespace,
) -> bool:
    """Track from the frame after the first, which has its rows; mutates rows. False when the user closed the window."""
    from tracker.draw import Window, draw_results
    from tracker.progress import Progress

    trails: list[deque[tuple[float, float]]] = [deque(maxlen=TRAIL) for _ in targets]
    window = Window() if args.show else None

    def out(frame: Frame) -> bool:
        now = rows[-len(targets) :]
        for row, trail in zip(now, trails, strict=True):
            if row.state == "lost":
                trail.clear()
            else:
                trail.append((row.x + row.w / 2, row.y + row.h / 2))
        if writer is None and window is None:
            return True
        picture = draw_results(frame.image, now, trails)
        if writer is not None:
            # frames that were skipped or dropped are filled, so that the video keeps the time of its source
            for _ in range(frame.index - rows[0].frame + 1 - writer.count):
                writer.write(picture)
        return window is None or window.show(picture)

    with Progress("track", source.length, quiet=args.quiet) as bar:
        bar.update()
        if not out(first):
            return False
        for frame in source:
            results = engine.update_all(frame.image, targets)
            bar.update(frame.index - rows[-1].frame)
            rows += [_row(frame, i, r.box, r.score, r.state) for i, r in enumerate(results)]
            if not out(frame):
                return False
    return True


def demo(args: argparse.Namespace) -> int:
    """Track a real clip and a rendered scene with known truth; print scores, latencies and files."""
    from tracker.demo import run_demo

    run_demo(args.out, weights=args.weights, threads=args.threads, force=args.force)
    return 0


def bench(args: argparse.Namespace) -> int:
    """Measure trackers on a data set and write a report."""
    from tracker.benchmark import command

    return command.run(args)


def trax(args: argparse.Namespace) -> int:
    """Serve a tracker to the VOT toolkit."""
    from tracker.benchmark.peers import serve

    return serve.run(args)


def serve(args: argparse.Namespace) -> int:
    """Show the tracker in a browser."""
    from tracker.web import command

    return command.run(args)


def label(args: argparse.Namespace) -> int:
    """Label a clip in a browser."""
    from tracker.web import command

    return command.label(args)


def compare(args: argparse.Namespace) -> int:
    """Say how alike two images are, or rank a gallery."""
    from tracker.similarity import compare_command

    return compare_command(args)


def export(args: argparse.Namespace) -> int:
    """Write a network as graphs that run without PyTorch."""
    from tracker.export import export_command

    return export_command(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "track": track,
    "serve": serve,
    "label": label,
    "demo": demo,
    "bench": bench,
    "trax": trax,
    "compare": compare,
    "export": export,
}


def main(argv: Sequence[str] | None = None, train: Callable[[Sequence[str]], int] | None = None) -> int:
    """Run a command line; returns 0, 2 after bad input (one line on stderr), 130 after Ctrl-C or SIGTERM.

    train: runs the words after `siamtrack train`; it is handed in, because this package does not import that one.
    """
    argv = sys.argv[1:] if argv is None else argv
    # the complaints of decoder and windows would drown the one line that says what was wrong
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    with warnings.catch_warnings(), _stopped_as_by_ctrl_c():
        _show_warnings_as_lines()
        try:
            if train and argv[:1] == ["train"]:
                return train(argv[1:])
            args = _parser(argv, train is not None).parse_args(argv)
            return COMMANDS[args.command](args)
        except SystemExit as stop:  # --help, --version, a wrong option
            return int(stop.code or 0)
        except KeyboardInterrupt:
            _say("interrupted; nothing was written")
            return 130
        except BrokenPipeError:  # who read our output has enough of it, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush would fail again
            return 0
        except (ValueError, OSError) as error:
            _say(f"error: {error}")
        except ImportError as error:
            advice = ""
            if any(name in str(error) for name in ("libGL", "libgthread", "libxcb")):
                advice = "; OpenCV wants it for windows: install libgl1 and libglib2.0-0, or opencv-python-headless"
            _say(f"error: {error}{advice}")
    return 2


@contextlib.contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (of kill, timeout, docker stop) end the work as Ctrl-C does: what was done is kept."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone may have handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warnings_as_lines() -> None:
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__name__ == "SourceWarning":
            from tqdm import tqdm

            tqdm.write(f"siamtrack: warning: {message}", file=sys.stderr)  # above the progress bar
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _say(text: str) -> None:
    print(f"siamtrack: {text}", file=sys.stderr, flush=True)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four numbers x,y,w,h") from None
    return x, y, w, h


def _parser(argv: Sequence[str], trains: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("siamtrack", description="Follow an object that is given by a box.")
    parser.add_argument("--version", action="version", version=f"siamtrack {package.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sub = commands.add_parser(
        "track",
        help="follow objects through a video, a camera, a stream or a folder of images",
        description="Follow objects. Boxes are x,y,w,h in pixels, 0-based. Ctrl-C keeps what was written.",
    )
    sub.add_argument(
        "source", metavar="SOURCE", help="video file, folder or glob of images, camera index, rtsp or http address"
    )
    given = sub.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--init",
        type=_box,
        action="append",
        metavar="x,y,w,h",
        help="box in the first frame (--init=-5,... below 0); once for each target",
    )
    given.add_argument("--targets", metavar="BOXES.csv", help="boxes in the first frame: a table x,y,w,h, a row each")
    given.add_argument(
        "--select",
        action="count",
        default=0,
        help="draw the box on the first frame with the mouse; once for each target",
    )
    sub.add_argument("--weights", default="swift", metavar="NAME|FILE", help="shipped weights or a file [swift]")
    sub.add_argument("--save", metavar="OUT.webm", help="write the video with box, score and trail (.webm, or .mp4)")
    sub.add_argument(
        "--boxes",
        metavar="OUT",
        help="write boxes: .csv (frame,time,id,x,y,w,h,score,state), .json, or .txt (x,y,w,h as OTB, but 0-based)",
    )
    sub.add_argument("--show", action="store_true", help="show a window while tracking; q or Esc ends")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    sub.add_argument("--start", type=int, default=0, metavar="N", help="first frame, 0-based [0]")
    sub.add_argument("--stop", type=int, metavar="N", help="frame to stop before [the end]")
    sub.add_argument("--force", action="store_true", help="overwrite existing files")
    sub.add_argument("--quiet", action="store_true", help="no progress bar and no summary")

    sub = commands.add_parser("serve", help="follow objects in a web page: draw boxes, watch, correct, download")
    if argv[:1] == ["serve"]:
        from tracker.web.command import add_arguments

        add_arguments(sub)

    sub = commands.add_parser("label", help="boxes for every frame of a clip from a few that you draw, in a web page")
    if argv[:1] == ["label"]:
        from tracker.web.command import add_label_arguments

        add_label_arguments(sub)

    sub = commands.add_parser("demo", help="see it work on a real clip and on a rendered scene with known truth")
    sub.add_argument("--out", default="demo_out", metavar="DIR", help="folder for the videos [demo_out]")
    sub.add_argument("--weights", default="swift", metavar="NAME|FILE", help="shipped weights or a file [swift]")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    sub.add_argument("--force", action="store_true", help="overwrite existing files")

    sub = commands.add_parser("bench", help="measure trackers and their speed on a data set, with a report")
    if argv[:1] == ["bench"]:  # its options come from modules that are slow to import
        from tracker.benchmark.command import add_arguments

        add_arguments(sub)
    sub = commands.add_parser("trax", help="serve a tracker to the VOT toolkit or another TraX client")
    if argv[:1] == ["trax"]:
        from tracker.benchmark.peers.serve import add_arguments

        add_arguments(sub)
    sub = commands.add_parser("compare", help="say whether two images show the same thing, or rank a gallery")
    if argv[:1] == ["compare"]:
        from tracker.similarity import add_arguments

        add_arguments(sub)
    sub = commands.add_parser("export", help="write a network as graphs that track without PyTorch")
    if argv[:1] == ["export"]:
        from tracker.export import add_arguments

        add_arguments(sub)
    if trains:
        commands.add_parser("train", help="train networks, or fine-tune one on your own video")
    return parser


if __name__ == "__main__":
    sys.exit(main())
