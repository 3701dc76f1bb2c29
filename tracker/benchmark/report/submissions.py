"""Runs as the files that official servers and toolkits take, a folder a tracker, and a zip where the server wants one.

got10k       NAME/NAME_001.txt and NAME/NAME_time.txt, zipped; repeats are NAME_002.txt ..
trackingnet  NAME.txt, zipped
lasot, otb   NAME.txt
vot          NAME/NAME_001.txt with 1, 2, 0 for started, failed, skipped (supervised), NAME/NAME_00000050.txt (anchors),
             NAME/NAME_001_confidence.value (longterm), and NAME_.._time.value

Rows are x, y, w, h, as the data set counts pixels; a frame without a box is 0, 0, 0, 0. `results=FOLDER` reads them.
"""

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.results import FAILED, SKIPPED, STARTED, Run, Runs
from tracker.errors import InputError
from tracker.footage.files import Floats, inside, present
from tracker.footage.output import write_whole

Kind = Literal["got10k", "trackingnet", "lasot", "otb", "vot"]
ZIPPED = ("got10k", "trackingnet")
PROTOCOLS: dict[Kind, tuple[Protocol, ...]] = {
    kind: ("supervised", "anchors", "longterm") if kind == "vot" else ("ope",) for kind in get_args(Kind)
}
ROOMS = {"supervised": "baseline", "anchors": "baseline", "longterm": "longterm"}  # of the VOT toolkit
CODES = {STARTED: "1", FAILED: "2", SKIPPED: "0"}


def check_kind(kind: Kind, protocol: Protocol) -> None:
    """Raise ValueError when the files of a kind do not hold the runs of a protocol."""
    if protocol not in PROTOCOLS[kind]:
        raise InputError(f"--export {kind} holds runs of {' or '.join(PROTOCOLS[kind])}, not of {protocol}")


def export(out: Path, kind: Kind, runs: Runs, protocol: Protocol, one_based: bool) -> Path:
    """Write the runs of one tracker to OUT/submissions/KIND and return the folder, or the zip.

    one_based: the data set counts its first pixel as 1. ValueError: see `check_kind`.
    """
    check_kind(kind, protocol)
    folder = inside(out / "submissions" / kind, runs.name)
    files: dict[str, str] = {}
    for name, parts in runs.by_sequence.items():
        for part, run in parts:
            files |= dict(_files(kind, name, part, run, protocol, one_based))
    for name, text in files.items():
        file = inside(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    if kind not in ZIPPED:
        return folder
    path = folder.with_suffix(".zip")
    write_whole(path, _zip(files))
    return path


def _zip(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name])  # without a date: the same runs, the same file
    return content.getvalue()


def _files(
    kind: Kind, name: str, part: Part, run: Run, protocol: Protocol, one_based: bool
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of one run."""
    start, _, time = part.label.partition("r")
    again = int(time or "1")
    lines = [_row(box, one_based) for box in run.boxes]
    if kind in ("trackingnet", "lasot", "otb"):
        yield (f"{name}.txt" if again == 1 else f"{name}_{again:03d}.txt"), _text(lines)
        return
    seconds = ["0" if math.isnan(ms) else f"{ms / 1e3:.8f}" for ms in run.rows[:, 5]]
    if kind == "got10k":
        yield f"{name}/{name}_{again:03d}.txt", _text(lines)
        if again == 1:
            yield f"{name}/{name}_time.txt", _text(seconds)
        return
    place = f"{ROOMS[protocol]}/{name}"
    stem = f"{name}_{int(start):08d}" if start else f"{name}_{again:03d}"
    if protocol == "supervised":
        lines = [CODES.get(state, line) for state, line in zip(run.states.tolist(), lines, strict=True)]
    else:
        lines[0] = "1"
    yield f"{place}/{stem}.txt", _text(lines)
    yield f"{place}/{stem}_time.value", _text(seconds)
    if protocol == "longterm":
        scores = ["" if math.isnan(score) else f"{score:.6f}" for score in run.scores]
        yield f"{place}/{stem}_confidence.value", _text(scores)


def _row(box: Floats, one_based: bool) -> str:
    if not present(box)[0]:
        return "0,0,0,0"
    return ",".join(f"{value:.4f}" for value in box + np.array([one_based, one_based, 0, 0]))


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
