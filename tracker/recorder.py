"""The flight recorder: a file that says of each frame what was given, seen and answered, and holds through any end.

The file is lines of JSON. The first one is the head: versions, machine, source, SHA-256 of the weights, config. Then
comes a line for each frame, see `Step`; the last one says how the run ended. Numbers are not rounded. Each line is
handed to the operating system at once, so kill -9 costs at most the one that is being written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import reprlib
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np

import tracker as package
from tracker.config import parse_json, to_dict
from tracker.crop import Image
from tracker.draw import as_jpeg
from tracker.errors import ConfigError, InputError, LogError
from tracker.footage.boxes import Row
from tracker.footage.output import Appended, check_output, locked_file
from tracker.footage.video import Frame, Source, masked
from tracker.geometry import Box
from tracker.graphs import MOST_THREADS
from tracker.loading import weight_file, weight_names
from tracker.machine import describe_machine
from tracker.target import Result, State
from tracker.tracker import Tracker

VERSION = 1  # of the format
SUFFIX = ".siamlog"
THUMBNAIL = 160  # px, its width
MOST_THUMBNAIL = 100_000  # characters, several times what a picture of that size needs
COUNTS = ("skipped", "dropped", "reconnects", "truncated")  # what a source says at the end, see `video.Source`


@dataclass(frozen=True)
class Step:
    """One frame of a run.

    frame, time: see `video.Frame`. clock: UNIX time at which the results were there. picture: CRC-32 of its pixels,
    hexadecimal. followed: targets that were followed into it, in this order. started: those that began in it, or were
    given anew after that, and the boxes that were given. rows: of all targets by their ids; one that has none any more
    is not followed further. ms: of crop, network and post-processing. thumbnail: JPEG, or empty.
    """

    frame: int
    time: float
    clock: float
    picture: str
    followed: tuple[int, ...]
    started: dict[int, Box]
    rows: dict[int, Row]
    ms: tuple[float, float, float]
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Log:
    """A flight log that was read.

    head: of the run. steps: by frame. end: how the run ended; None: it was killed, or still goes on. lost: bytes at the
    end of the file that are no whole line.
    """

    path: Path
    head: dict[str, Any]
    steps: list[Step]
    end: dict[str, Any] | None
    lost: int = 0

    @property
    def ids(self) -> list[int]:
        """Of its targets."""
        return sorted({number for step in self.steps for number in step.rows})

    @property
    def film(self) -> str | None:
        """The file, folder or glob that the frames came from, if it is there: no log makes us open a camera, a pipe or
        an address."""
        name = str(self.head["source"])
        there = os.path.isfile(name) or os.path.isdir(name) or (has_magic(name) and "://" not in name)
        return name if there and "\0" not in name else None


class Recorder:
    """Writes the flight log of a run; a context manager, which says at its end how the run ended.

    path: NAME.siamlog. tracker: that is at work. source: of the frames, or its name. thumbnails: a small picture of
    every so many frames; 0: none.
    Raises ValueError: another suffix. FileExistsError without force. OSError: another run writes the file, or the disk
    is full; what was written before is kept.
    """

    def __init__(
        self, path: str | Path, tracker: Tracker, source: Source | str = "", thumbnails: int = 0, force: bool = False
    ) -> None:
        if thumbnails < 0:
            raise InputError(f"thumbnails: of every N frames, or 0 for none; got {thumbnails}")
        self.path, self._every, self._count = check_output(path, (SUFFIX,), force), thumbnails, 0
        self._source = source if isinstance(source, Source) else None
        head = describe_run(tracker, source)
        self._lock = locked_file(self.path, f"{path}: another run is writing this file")
        try:
            self._file = Appended(self.path)
            self._file.put(_line(head))
        except BaseException:
            os.close(self._lock)
            raise

    def write(
        self, frame: Frame, results: Mapping[int, Result], started: Mapping[int, Sequence[float]] | None = None
    ) -> None:
        """Append a frame.

        results: by the id of the target, of those that were followed into it. started: targets that began in it, after
        that, or were given anew, and the boxes that `init` got.
        """
        one = next(iter(results.values()), None)
        given = {number: _numbers(box) for number, box in (started or {}).items()}
        begun = {number: [*box, 1.0, "tracking"] for number, box in given.items()}
        found = {number: [*_numbers(r.box), float(r.score), r.state] for number, r in results.items()}
        line: dict[str, Any] = {
            "frame": frame.index,
            "time": frame.time,
            "clock": time.time(),
            "picture": checksum(frame.image),
            "followed": list(found),
            "targets": found | begun,
            "ms": [one.crop_ms, one.network_ms, one.post_ms] if one is not None else [0.0, 0.0, 0.0],
        }
        if given:
            line["started"] = given
        if self._every and self._count % self._every == 0:
            line["thumbnail"] = base64.b64encode(as_jpeg(frame.image, THUMBNAIL)).decode()
        self._count += 1
        self._file.put(_line(line))

    def close(self, end: str = "finished") -> None:
        """Say how the run ended, and close the file."""
        counts = {name: getattr(self._source, name) for name in COUNTS} if self._source else {}
        try:
            self._file.cut(self._file.end)  # of half a line, where Ctrl-C came into one
            self._file.put(_line({"end": end, **counts}))
        finally:
            self._file.close()
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self.close()
        else:
            self.close("interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}")


def describe_run(tracker: Tracker, source: Source | str = "") -> dict[str, Any]:
    """The head of a log: all that the results of a tracker depend on."""
    name = source if isinstance(source, str) else source.name
    opened = None if isinstance(source, str) else source
    weights = tracker.weights
    known = weights is not None and weights.stem in weight_names() and weight_file(weights.stem) == weights
    return {
        "siamlog": VERSION,
        "siamtrack": package.__version__,
        "recorded": time.time(),
        "source": str(Path(name).resolve()) if name and os.path.exists(name) else masked(name),
        "live": opened is not None and opened.begun is not None,
        "begun": opened.begun if opened else None,
        "size": list(opened.size) if opened else None,
        "fps": opened.fps if opened else None,
        "weights": None if weights is None else weights.stem if known else str(weights.resolve()),
        "sha256": None if weights is None else fingerprint(weights),
        "engine": tracker.engine.runner.engine,
        "device": tracker.device,
        "threads": tracker.threads,
        "passes": tracker.passes,
        "config": to_dict(tracker.config),
        "machine": describe_machine(),
    }


def fingerprint(weights: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and contents of its files."""
    if weights.is_file():
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    total = hashlib.sha256()
    for file in sorted(weights.iterdir()):
        if file.is_file():
            total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def checksum(image: Image) -> str:
    """CRC-32 of the pixels, hexadecimal."""
    return f"{zlib.crc32(np.ascontiguousarray(image).data):08x}"


def read_log(path: str | Path) -> Log:
    """Read a flight log, also of a run that goes on or was killed.

    What comes after the last whole line is counted in `Log.lost`. Raises LogError: no log, or its head is not whole.
    OSError: it cannot be opened.
    """
    path = Path(path)
    whole, _, rest = path.read_bytes().rpartition(b"\n")
    lines = whole.split(b"\n")
    head = _parse(lines[0])
    if not isinstance(head, dict) or head.get("siamlog") is None:
        what = "is empty" if not whole and not rest else "does not begin with the head of a flight log"
        raise LogError(f"{path} {what}; `siamtrack track ... --record {path.stem}{SUFFIX}` writes one")
    if head["siamlog"] != VERSION:
        raise LogError(f"{path}: version {head['siamlog']} of the format; this siamtrack reads version {VERSION}")
    for name, (fits, wanted) in HEAD.items():
        if not fits(head.get(name)):
            given = reprlib.repr(head.get(name))
            raise LogError(f"{path}: the head says {name}: {given}; a flight log has {wanted} there")
    steps: list[Step] = []
    end, lost = None, len(rest)
    for number, line in enumerate(lines[1:], 1):
        values = _parse(line)
        try:
            if isinstance(values, dict) and "end" in values:
                end = values
            else:
                steps.append(_step(values, steps[-1].frame if steps else -1))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # of a disk that failed
            lost += sum(len(one) + 1 for one in lines[number:])
            break
    return Log(path, head, steps, end, lost)


def _step(values: Any, before: int) -> Step:
    """A frame of a log; what no run can have written is a ValueError. before: the frame that came before."""
    frame, seconds = int(values["frame"]), _finite(values["time"])
    if not before < frame < 2**53 or len(values.get("thumbnail", "")) > MOST_THUMBNAIL:
        raise InputError
    rows = {int(number): _row(frame, seconds, int(number), *row) for number, row in values["targets"].items()}
    started = {int(number): Box(*map(_finite, box)) for number, box in values.get("started", {}).items()}
    followed = tuple(map(int, values["followed"]))
    crop, network, post = map(_finite, values["ms"])
    thumbnail = base64.b64decode(values.get("thumbnail", ""))
    clock, picture, ms = _finite(values["clock"]), str(values["picture"]), (crop, network, post)
    return Step(frame, seconds, clock, picture, followed, started, rows, ms, thumbnail)


def _row(frame: int, time: float, number: int, x: float, y: float, w: float, h: float, score: float, state: str) -> Row:
    if state not in get_args(State) or not 0 <= score <= 1:
        raise InputError
    x, y, w, h, score = map(_finite, (x, y, w, h, score))
    return Row(frame, time, number, x, y, w, h, score, state)


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise InputError
    return float(value)


def _numbers(box: Sequence[float]) -> list[float]:
    return [float(value) for value in box]


def _parse(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ConfigError:
        return None


def _depth(value: Any) -> int:
    """How deep lists and mappings lie in each other."""
    depth, level = 0, [value]
    while level:
        level = [one for part in level for one in _parts(part)]
        depth += 1
    return depth


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _is(kind: type, least: float = -math.inf, most: float = math.inf) -> Callable[[Any], bool]:
    """Whether a value is of a kind, as JSON has it, and a number in a range."""

    def fits(value: Any) -> bool:
        if kind not in (int, float):
            return isinstance(value, kind)
        number = isinstance(value, int) or (kind is float and isinstance(value, float))
        return number and not isinstance(value, bool) and least <= value <= most

    return fits


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is(int, 1, 10**6), value))


def _is_shallow(value: Any) -> bool:
    return isinstance(value, dict) and _depth(value) < 20


SECONDS = (0.0, 1e11)  # since 1970, of clocks
HEAD = {  # of a log -> what may stand there, and its name: a log may come from anywhere
    "siamtrack": (_is(str), "a version"),
    "recorded": (_is(float, *SECONDS), "a time"),
    "source": (_is(str), "a name"),
    "live": (_is(bool), "true or false"),
    "begun": (_or_none(_is(float, *SECONDS)), "a time, or null"),
    "size": (_or_none(_is_size), "a width and a height, or null"),
    "fps": (_or_none(_is(float, 0, 1e6)), "a rate, or null"),
    "weights": (_or_none(_is(str)), "a name, or null"),
    "sha256": (_or_none(_is(str)), "a checksum, or null"),
    "engine": (_is(str), "a name"),
    "device": (_is(str), "a name"),
    "threads": (_or_none(_is(int, 1, MOST_THREADS)), "a number, or null"),
    "passes": (_or_none(_is(int, 0, 10**6)), "a number, or null"),
    "config": (_is_shallow, "a config"),
    "machine": (_is_shallow, "a mapping"),
}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"
