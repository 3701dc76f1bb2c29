"""The command `siamtrack`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import tracker as package
from tracker.errors import DISK_FULL, InputError, SiamtrackError, plain

# Torch and OpenCV are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from tracker import Target, Tracker
    from tracker.crop import Image
    from tracker.emit import Emitter
    from tracker.footage.boxes import Row, RowWriter
    from tracker.footage.video import Frame, Source
    from tracker.recorder import Recorder
    from tracker.target import Result
    from tracker.viewer import Viewer

TRAIL = 30  # centres drawn behind the box
STILL = 10.0  # seconds that one picture is repeated at most, where the time stamps of a source leap
BAD_INPUT = 2  # exit code of what is asked for and cannot be done, as of a wrong option
INTERNAL = 70  # of a fault of ours, EX_SOFTWARE
ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
LONGEST = 1000  # characters of an error that are shown


def track(args: argparse.Namespace) -> int:
    """Follow the objects in boxes through a source; write video and boxes, also when the work ends early."""
    from tracker.draw import check_display, select_box
    from tracker.emit import Emitter
    from tracker.footage.boxes import BOX_SUFFIXES, RowWriter, of_one_target
    from tracker.footage.output import check_output
    from tracker.footage.video import CODECS, frames, masked
    from tracker.recorder import SUFFIX, Recorder
    from tracker.viewer import Viewer

    save = check_output(args.save, tuple(CODECS), args.force) if args.save else None
    boxes = check_output(args.boxes, BOX_SUFFIXES, args.force) if args.boxes else None
    record = check_output(args.record, (SUFFIX,), args.force) if args.record else None
    if args.thumbnails and not record:
        raise InputError("--thumbnails go into the log of --record")
    lines = Path(args.emit.removeprefix("jsonl:")) if args.emit else None
    for out in (save, lines):
        if out and out.exists() and os.path.exists(args.source) and out.samefile(args.source):
            raise InputError(f"{out} is the source; save to another file")
    init = read_targets(args.targets) if args.targets else args.init or []
    if boxes and of_one_target(boxes) and max(args.select, len(init)) > 1:
        raise InputError(f"{boxes}: the boxes of several targets need .csv, .json or .mot.txt")
    if args.select or args.show:
        check_display()
    options = {"camera_size": args.camera_size, "camera_fps": args.camera_fps, "patience": args.patience}
    with frames(args.source, args.start, args.stop, **options) as source:
        if not args.quiet:
            _say(f"loading {args.weights} ...")
        tracker = package.Tracker.load(args.weights, device=args.device, threads=args.threads)
        first = next(source)
        given = init or [select_box(first.image) for _ in range(args.select)]
        targets = {number: tracker.init(first.image, box) for number, box in enumerate(given)}
        tally = Tally()
        film = Film(save, source, args.force) if save else None
        begin, ended = time.perf_counter(), None
        try:
            emitter = Emitter(args.emit, source.begun, args.force) if args.emit else None
            recorder = Recorder(record, tracker, source, args.thumbnails, args.force) if record else None
            table = RowWriter(boxes) if boxes else None
        except BaseException:
            if film:
                film.close()
            raise
        most = 1 if boxes and of_one_target(boxes) else None
        viewer = Viewer(tracker, source.begun is None, most) if args.show else None
        outlets = Outlets(film, table, emitter, recorder, viewer)
        try:
            nothing = contextlib.nullcontext()
            with film or nothing, emitter or nothing, recorder or nothing:
                complete = _follow(source, tracker, targets, given, tally, outlets, first, args.quiet)
        except BaseException as error:  # Ctrl-C, a lost camera, a full disk: first keep what there is
            ended, complete = error, False
        seconds = time.perf_counter() - begin
        if table:
            table.close(
                {
                    "source": masked(str(args.source)),
                    "weights": str(args.weights),
                    "siamtrack": package.__version__,
                    "coordinates": "x, y, w, h in frame pixels, 0-based: pixel i covers [i, i+1)",
                    "size": list(source.size),
                    "fps": source.fps,
                    "complete": complete and not source.truncated,
                    "skipped": source.skipped,
                    "dropped": source.dropped,
                    "reconnects": source.reconnects,
                }
            )
    kept = [str(path) for path in (save if film and film.saved else None, boxes, record) if path]
    if ended is not None:
        said = "interrupted" if isinstance(ended, KeyboardInterrupt) else "ended early"
        _say(f"{said} after {tally.frames} frames; kept {' and '.join(kept) or 'nothing'}")
        if isinstance(ended, KeyboardInterrupt):
            return 130
        raise ended
    if not args.quiet:
        print(f"{tally.frames} frames in {seconds:.1f} s, {tally.frames / seconds:.0f} frames/s; {tally.summary()}")
        for path in kept:
            print(f"wrote {path}")
        if film and film.slower > 1:
            print(
                f"(the video plays {film.slower:.3g} times slower than its source, which has too many frames a second)"
            )
        if film and film.codec == "mp4v":
            print("(MPEG-4 part 2: VLC, mpv and ffmpeg play it, browsers do not; they play .webm)")
    return 0


def read_targets(file: str) -> list[tuple[float, float, float, float]]:
    """The boxes x, y, w, h of a table with a header, a target in each row; of one with frames those of its first frame.

    Raises InputError: no such columns, no rows, a value that is no number, with its line; DataError: no text file.
    """
    from tracker.footage.files import read_text

    try:
        rows = list(csv.DictReader(io.StringIO(read_text(Path(file)), newline="")))
    except csv.Error as error:
        raise InputError(f"{file}: not a table: {error}") from None
    missing = [name for name in "xywh" if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)}; a table of targets has the header x,y,w,h and a row each"
        )
    boxes = []
    for line, row in enumerate(rows, 2):
        if row.get("frame") == rows[0].get("frame"):
            try:
                boxes.append((float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"])))
            except (TypeError, ValueError):
                raise InputError(f"{file}, line {line}: x, y, w, h are four numbers") from None
    return boxes


class Film:
    """The video that is saved; it keeps the time of its source.

    The pictures of frames that were skipped or dropped are filled by the one that follows, so are those of a source
    whose rate varies; where frames come faster than the video goes, the last one of each picture is kept.
    slower: by how much it plays, where the source has more frames a second than a video may have.
    """

    def __init__(self, path: Path, source: Source, force: bool) -> None:
        from tracker.footage.video import DEFAULT_FPS, MOST_FPS, VideoWriter

        self._rate = source.fps or DEFAULT_FPS
        self.slower = max(self._rate / MOST_FPS, 1.0)
        self._writer = VideoWriter(path, self._rate / self.slower, source.size, force)
        self._begin: float | None = None
        self._most = round(STILL * self._rate)
        self.close, self.codec = self._writer.close, self._writer.codec

    @property
    def saved(self) -> bool:
        """Whether the file is there."""
        return self._writer.saved

    def show(self, frame: Frame, picture: Image, gap: int) -> None:
        """Append the picture of a frame. gap: how many frames after the one before it is."""
        self._begin = frame.time if self._begin is None else self._begin
        due = round((frame.time - self._begin) * self._rate) + 1 - self._writer.count
        for _ in range(min(due, max(gap, self._most))):
            self._writer.write(picture)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tally:
    """The sums of the rows of a run."""

    def __init__(self) -> None:
        self.frames, self._rows, self._score = 0, 0, 0.0
        self._lost: dict[int, int] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of one more frame."""
        self.frames += 1
        for row in rows:
            self._rows += 1
            self._score += row.score
            self._lost[row.id] = self._lost.get(row.id, 0) + (row.state == "lost")

    def summary(self) -> str:
        """Mean score, and in how many frames each target was lost."""
        said = f"mean score {self._score / self._rows:.2f}" if self._rows else "no targets"
        for i, lost in self._lost.items():
            if lost:
                said += f"; {'' if len(self._lost) == 1 else f'target {i} '}lost in {lost} frames"
        return said


@dataclass
class Outlets:
    """Where the results of a run go."""

    film: Film | None
    table: RowWriter | None
    emitter: Emitter | None
    recorder: Recorder | None
    viewer: Viewer | None


def _follow(
    source: Source,
    tracker: Tracker,
    targets: dict[int, Target],
    given: Sequence[Sequence[float]],
    tally: Tally,
    outlets: Outlets,
    first: Frame,
    quiet: bool,
) -> bool:
    """Track from the first frame on, in which the targets began. False when the user ended it in the window."""
    from tracker.draw import draw_results
    from tracker.footage.boxes import Row
    from tracker.progress import Progress

    trails: dict[int, deque[tuple[float, float]]] = {}
    born = len(targets)
    frame, gap = first, 1
    results: dict[int, Result] = {}
    started: dict[int, Sequence[float]] = dict(enumerate(given))
    rows = [Row.of(first, number, target.box) for number, target in targets.items()]
    with Progress("track", source.length, quiet=quiet) as bar:
        while True:
            bar.update(gap)
            if outlets.emitter:
                outlets.emitter.send(rows)
            for row in rows:
                trail = trails.setdefault(row.id, deque(maxlen=TRAIL))
                trail.clear() if row.state == "lost" else trail.append((row.x + row.w / 2, row.y + row.h / 2))
            ended = False
            if outlets.viewer:
                edits = outlets.viewer.show(frame, rows, trails, targets)
                ended = edits.ended
                for box in edits.added:
                    edits.given[born] = box
                    born += 1
                for number in edits.dropped:
                    del targets[number]
                for number, box in edits.given.items():
                    targets[number] = tracker.init(frame.image, box)
                    started[number] = box
                    trails.pop(number, None)
                anew = [Row.of(frame, number, targets[number].box) for number in edits.given]
                rows = sorted([*(row for row in rows if row.id not in edits.given), *anew], key=lambda row: row.id)
                if outlets.emitter and anew:
                    outlets.emitter.send(anew)
            tally.add(rows)
            if outlets.recorder:
                outlets.recorder.write(frame, results, started)
            if outlets.table:
                outlets.table.write(rows)
            if outlets.film:
                numbers = [row.id for row in rows]
                trailing = [trails.get(number, ()) for number in numbers]
                outlets.film.show(frame, draw_results(frame.image, rows, trailing, numbers), gap)
            if ended:
                return False
            last, after = frame, next(source, None)
            if after is None:
                return True
            frame, gap, started = after, after.index - last.index, {}
            found = tracker.update_all(frame.image, targets.values())
            results = dict(zip(targets, found, strict=True))
            rows = [Row.of(frame, number, r.box, r.score, r.state) for number, r in results.items()]


def replay(args: argparse.Namespace) -> int:
    """Show what `track --record` wrote, compare two runs, or do one again."""
    from tracker import replay as command

    return command.replay(args)


def dataset(args: argparse.Namespace) -> int:
    """Write what was tracked as a data set."""
    from tracker import dataset as command

    return command.dataset(args)


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


def export(args: argparse.Namespace) -> int:
    """Write a network as graphs that run without PyTorch."""
    from tracker.export import export_command

    return export_command(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "track": track,
    "replay": replay,
    "dataset": dataset,
    "serve": serve,
    "label": label,
    "demo": demo,
    "bench": bench,
    "trax": trax,
    "export": export,
}


def main(argv: Sequence[str] | None = None, train: Callable[[Sequence[str]], int] | None = None) -> int:
    """Run a command line. Returns 0; after one line on stderr 2 (bad input) or 70 (a fault of ours, or no memory left);
    130 after Ctrl-C, SIGTERM or SIGHUP. `--debug` anywhere shows where an error was raised.

    train: runs the words of `siamtrack train` and `siamtrack similarity`, reported as here; it is handed in, because
    this package does not import that one.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # the complaints of decoder and windows would drown the one line that says what was wrong
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    with warnings.catch_warnings(), _stopped_as_by_ctrl_c():
        _show_warnings_as_lines()
        first = next((word for word in argv if word != "--debug"), "")
        try:
            if train and first in ("train", "similarity"):
                at = argv.index(first)
                words = [*argv[:at], *argv[at + (first == "train") :]]
                return reported("siamtrack", argv, lambda _: train(words))  # a missing PyTorch; all else it reports
            return reported("siamtrack", argv, lambda words: _run(words, train is not None))
        except SystemExit as stop:  # --help, --version, a wrong option
            return int(stop.code or 0)


def _run(argv: Sequence[str], trains: bool) -> int:
    with stopped_at_once():
        args = _parser(argv, trains).parse_args(argv)
        importlib.import_module("tracker.tracker")  # which needs NumPy, OpenCV and numba
    for option, value in pairwise(argv):
        if option.startswith("--") and not value:  # of a variable of the shell that is not set
            raise InputError(f"{option} is followed by nothing")
    return COMMANDS[args.command](args)


def reported(program: str, argv: Sequence[str], run: Callable[[list[str]], int]) -> int:
    """Run a command line without its `--debug`; what is raised becomes one line and an exit code, see `main`."""
    words = [word for word in argv if word != "--debug"]
    try:
        return run(words)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # who read our output has enough of it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush would fail again
        return 0
    except Exception as error:
        if len(words) < len(argv):
            traceback.print_exception(error)
        code, said = explained(error)
        print(f"{program}: {said}", file=sys.stderr, flush=True)
        return code


def explained(error: Exception) -> tuple[int, str]:
    """The exit code for an error, and one line that says what went wrong."""
    said = plain(" ".join(str(error).split()))[:LONGEST]
    if isinstance(error, SiamtrackError):
        return BAD_INPUT, f"error: {said}"
    if isinstance(error, ImportError):
        if error.name in ("torch", "safetensors"):  # as configs/lean.txt leaves them out
            said = f"this needs PyTorch: {sys.executable} -m pip install torch safetensors"
        if any(name in said for name in ("libGL", "libgthread", "libxcb")):
            said += "; OpenCV wants it for windows: install libgl1 and libglib2.0-0, or opencv-python-headless"
        return BAD_INPUT, f"error: {said}"
    if isinstance(error, OSError) and (error.errno is None or error.filename is not None):  # which name a file
        if error.errno is not None:
            said = f"{error.filename}: {error.strerror}"
            if isinstance(error, FileExistsError | NotADirectoryError):
                said = f"{error.filename}: there is a file where a folder is wanted"
        return BAD_INPUT, f"error: {said}"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return BAD_INPUT, f"error: {error.strerror}; what was being written is not there"
    if isinstance(error, MemoryError) or re.search(r"(insufficient|out of|not enough|allocate) memory", said, re.I):
        return INTERNAL, f"error: not enough memory: {said[:200]}; smaller frames or fewer targets help"
    return INTERNAL, f"internal error: {type(error).__name__}: {said}; --debug shows where; please report it"


@contextlib.contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (of kill, timeout, docker stop) and SIGHUP (of a terminal that closes) end the work as Ctrl-C does.

    What was done is kept. Under nohup SIGHUP goes on being ignored.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handled(stop, ENDING[1:]):
        yield


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """While modules are imported, and nothing was begun yet, let Ctrl-C, SIGTERM and SIGHUP end the process at once.

    Raised in the middle of an import, KeyboardInterrupt is lost, or becomes another error: extension modules eat it.
    """

    def stop(number: int, frame: object) -> None:
        os.write(2, b"siamtrack: interrupted\n")
        os._exit(130)

    with _handled(stop, ENDING):
        yield


@contextlib.contextmanager
def _handled(stop: Callable[[int, object], None], numbers: Sequence[int]) -> Iterator[None]:
    """Signals go to `stop`; those that are ignored stay so."""
    if threading.current_thread() is not threading.main_thread():  # which alone may have handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        if category.__name__ in ("SourceWarning", "OutputWarning"):
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


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as 1280x720")
    return int(found[1]), int(found[2])


SLOW = {  # commands whose options come from modules that are slow to import: what each does, and where they are
    "replay": ("what `track --record` wrote: show it, compare two runs, do one again", "tracker.replay"),
    "dataset": ("what was tracked as a data set: MOT, COCO, YOLO, OTB, CVAT, or a boxes.csv", "tracker.dataset"),
    "serve": ("follow objects in a web page: draw boxes, watch, correct, download", "tracker.web.command"),
    "label": ("boxes for every frame of a clip from a few that you draw, in a web page", "tracker.web.command"),
    "bench": ("measure trackers and their speed on a data set, with a report", "tracker.benchmark.command"),
    "trax": ("serve a tracker to the VOT toolkit or another TraX client", "tracker.benchmark.peers.serve"),
    "export": ("write a network as graphs that track without PyTorch", "tracker.export"),
}


def _add_slow(commands: argparse._SubParsersAction[Parser], argv: Sequence[str], *names: str) -> None:
    """Add commands, with the options of the one that is asked for only."""
    for name in names:
        does, module = SLOW[name]
        sub = commands.add_parser(name, help=does)
        if argv[:1] == [name]:
            options = "add_label_arguments" if name == "label" else "add_arguments"
            getattr(importlib.import_module(module), options)(sub)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}; all options: {self.prog} --help\n")


def _parser(argv: Sequence[str], trains: bool) -> argparse.ArgumentParser:
    parser = Parser("siamtrack", description="Follow an object that is given by a box.")
    parser.add_argument("--version", action="version", version=f"siamtrack {package.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sub = commands.add_parser(
        "track",
        help="follow objects through a video, a camera, a stream or a folder of images",
        description="Follow objects. Boxes are x,y,w,h in pixels, 0-based. Ctrl-C keeps what was written.",
    )
    sub.add_argument(
        "source",
        metavar="SOURCE",
        help="video file or pipe, folder or glob of images, camera index, rtsp or http address",
    )
    given = sub.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--init",
        type=_box,
        action="append",
        metavar="x,y,w,h",
        help="box in the first frame (--init=-5,... below 0); once for each target",
    )
    given.add_argument(
        "--targets", metavar="BOXES.csv", help="boxes in the first frame: x,y,w,h, a row each, or our boxes.csv"
    )
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
        help="write boxes: .csv (frame,time,id,x,y,w,h,score,state), .json, .mot.txt (MOTChallenge), or another .txt "
        "(x,y,w,h as OTB, but 0-based); `siamtrack dataset` makes COCO, YOLO and others of them",
    )
    sub.add_argument(
        "--emit",
        metavar="WHERE",
        help="send each result at once as JSON: jsonl:FILE (- is stdout), udp:HOST:PORT, zmq:tcp://*:PORT",
    )
    sub.add_argument(
        "--record",
        metavar="RUN.siamlog",
        help="keep all that the run depends on and gives, unrounded, for `siamtrack replay`",
    )
    sub.add_argument(
        "--thumbnails", type=int, default=0, metavar="N", help="put a small picture of every Nth frame into the log"
    )
    sub.add_argument("--show", action="store_true", help="show a window that takes orders by keys; q or Esc ends")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    sub.add_argument("--start", type=int, default=0, metavar="N", help="first frame, 0-based [0]")
    sub.add_argument("--stop", type=int, metavar="N", help="frame to stop before [the end]")
    sub.add_argument("--camera-size", type=_size, metavar="WxH", help="ask a camera for frames of this size")
    sub.add_argument("--camera-fps", type=float, metavar="N", help="ask a camera for so many frames a second")
    sub.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for which a camera or stream that drops is opened again [30]",
    )
    sub.add_argument("--force", action="store_true", help="overwrite existing files")
    sub.add_argument("--quiet", action="store_true", help="no progress bar and no summary")

    _add_slow(commands, argv, "replay", "dataset", "serve", "label")

    sub = commands.add_parser("demo", help="see it work on a real clip and on a rendered scene with known truth")
    sub.add_argument("--out", default="demo_out", metavar="DIR", help="folder for the videos [demo_out]")
    sub.add_argument("--weights", default="swift", metavar="NAME|FILE", help="shipped weights or a file [swift]")
    sub.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    sub.add_argument("--force", action="store_true", help="overwrite existing files")

    _add_slow(commands, argv, "bench", "trax", "export")
    if trains:
        commands.add_parser("similarity", help="do images show the same thing? compare, train, evaluate")
        commands.add_parser("train", help="train networks, or fine-tune one on your own video")
    return parser


if __name__ == "__main__":
    sys.exit(main())
