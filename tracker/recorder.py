"""The flight recorder: a file that says of each frame what was given, seen and answered, and holds through any end.

The file is lines of JSON. The first one is the head: versions, machine, source, SHA-256 of the weights, config. Then
comes a line for each frame, see `Step`; the last one says how the run ended. Numbers are not rounded. Each line is
handed to the operating system at once, so kill -9 costs at most the one that is being written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import tracker as package
from tracker.benchmark.run.machine import describe_machine
from tracker.config import to_dict
from tracker.crop import Image
from tracker.draw import as_jpeg
from tracker.footage.boxes import Row
from tracker.footage.files import DataError
from tracker.footage.output import Appended, check_output, locked_file
from tracker.footage.video import Frame, Source, masked
from tracker.geometry import Box
from tracker.target import Result
from tracker.tracker import Tracker, weight_file, weight_names

VERSION = 1  # of the format
SUFFIX = ".siamlog"
THUMBNAIL = 160  # px, its width
COUNTS = ("skipped", "dropped", "reconnects", "truncated")  # what a source says at the end, see `video.Source`


class LogError(DataError):
    """A flight log that cannot be read, or a run that cannot be done again; the message says why."""


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
            raise ValueError(f"thumbnails: of every N frames, or 0 for none; got {thumbnails}")
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
    if not isinstance(head, dict) or "siamlog" not in head:
        what = "is empty" if not whole and not rest else "does not begin with the head of a flight log"
        raise LogError(f"{path} {what}; `siamtrack track ... --record {path.stem}{SUFFIX}` writes one")
    if head["siamlog"] != VERSION:
        raise LogError(f"{path}: version {head['siamlog']} of the format; this siamtrack reads version {VERSION}")
    steps: list[Step] = []
    end, lost = None, len(rest)
    for number, line in enumerate(lines[1:], 1):
        values = _parse(line)
        try:
            if isinstance(values, dict) and "end" in values:
                end = values
            else:
                steps.append(_step(values))
        except (KeyError, TypeError, ValueError, AttributeError):  # of a disk that failed
            lost += sum(len(one) + 1 for one in lines[number:])
            break
    return Log(path, head, steps, end, lost)


def _step(values: Any) -> Step:
    frame, seconds = int(values["frame"]), float(values["time"])
    rows = {int(number): _row(frame, seconds, int(number), *row) for number, row in values["targets"].items()}
    started = {int(number): Box(*map(float, box)) for number, box in values.get("started", {}).items()}
    followed = tuple(map(int, values["followed"]))
    crop, network, post = map(float, values["ms"])
    thumbnail = base64.b64decode(values.get("thumbnail", ""))
    clock, picture, ms = float(values["clock"]), str(values["picture"]), (crop, network, post)
    return Step(frame, seconds, clock, picture, followed, started, rows, ms, thumbnail)


def _row(frame: int, time: float, number: int, x: float, y: float, w: float, h: float, score: float, state: str) -> Row:
    return Row(frame, time, number, float(x), float(y), float(w), float(h), float(score), str(state))


def _numbers(box: Sequence[float]) -> list[float]:
    return [float(value) for value in box]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"
