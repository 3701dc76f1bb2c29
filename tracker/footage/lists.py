"""Lists of clips as a data set: which targets of which videos, a line each.

A list is a text file of columns separated by tabs, commas or semicolons, with a heading: `clip` (a folder, relative to
a root) and, where a clip holds several targets, `id`; `first` (the frame a target starts at) and other columns may
follow. The folder of a clip holds one video and boxes.csv with a heading: frame,id,x,y,w,h, 0-based pixels and frames
(id may be missing where there is one target).

A target starts at its first box (or at `first`) and ends with its last one. A frame between them without a row is
tracked through and not judged.
"""

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError
from tracker.footage.clip import Clip, Tally
from tracker.footage.decoder import ClipFrame
from tracker.footage.files import VIDEO_SUFFIXES, as_table, read_text, visible
from tracker.footage.sequence import Entry, Sequence
from tracker.footage.video import frames

BOXES = "boxes.csv"
Found = tuple[Path, str, int | None]  # the folder of a clip, the target in it, the frame it starts at


def clips(path: Path, one_based: bool = False, root: Path | None = None) -> Iterator[Entry]:
    """Yield the name of each target and what reads it.

    path: a list, or a folder of which every folder below that has a boxes.csv is taken with all its targets.
    one_based: the boxes count the first pixel as 1. root: where the clips of a list lie; None: the folder of the list.
    DataError: no such list, one without the column `clip`, or nothing in it.
    """
    if path.is_dir():
        found: list[Found] = [
            (place.parent, target, None) for place in visible(path, f"**/{BOXES}") for target in _targets(place)
        ]
        names = [str(folder.resolve().relative_to(path.resolve().parent)) for folder, _, _ in found]
        expected = f"folders with {BOXES} and a video"
    else:
        rows = _rows(path)
        base = path.parent if root is None else root
        if not base.is_dir():
            raise DataError(f"{base}: no such folder")
        found = [(base / row["clip"], row.get("id", ""), _whole(path, row, "first")) for row in rows]
        names = [row["clip"] for row in rows]
        expected = "lines of clip and id"
    if not found:
        raise DataError(f"{path}: no target in it; expected {expected}")
    for (folder, target, first), name in zip(found, _shortest(names), strict=True):
        label = f"{name}-{target}" if target else name
        yield label, partial(read_target, folder, target, first, label, one_based)


def clips_to_train(path: Path, tally: Tally) -> Iterator[Clip]:
    """Refuse: a list says what to judge by. DataError: always."""
    raise DataError(f"{path}: a list of clips is for the benchmark; train on folders of clips (layout boxes)")


def _rows(path: Path) -> list[dict[str, str]]:
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    head = re.split(r"[\t,;]", lines[0]) if lines else []
    names = [name.strip().lower() for name in head]
    if "clip" not in names:
        raise DataError(f"{path}: the first line must name a column `clip`, it reads {' '.join(names)[:60]!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        words = [word.strip() for word in re.split(r"[\t,;]", line)]
        if len(words) != len(names):
            raise DataError(f"{path}, line {number}: {len(words)} columns, the heading has {len(names)}")
        rows.append(dict(zip(names, words, strict=True)))
    return rows


def _whole(path: Path, row: dict[str, str], column: str) -> int | None:
    text = row.get(column, "")
    if text and not text.isdigit():
        raise DataError(f"{path}: {column} of {row['clip']} is {text!r}, not a frame number")
    return int(text) if text else None


def _shortest(names: list[str]) -> list[str]:
    """Return the last part of each path, or all of it where two differ in what stands before."""
    last = [Path(name).name for name in names]
    paths: dict[str, set[str]] = {}
    for short, name in zip(last, names, strict=True):
        paths.setdefault(short, set()).add(name)
    return [
        short if len(paths[short]) == 1 else name.replace("/", "_") for short, name in zip(last, names, strict=True)
    ]


def _targets(boxes: Path) -> list[str]:
    try:
        return list(dict.fromkeys(row.get("id", "") for row in _read_table(boxes)))
    except DataError:
        return [""]  # what is wrong is said when the target is read


def _read_table(path: Path) -> list[dict[str, Any]]:
    lines = csv.DictReader(read_text(path).splitlines())
    with as_table(path):
        names = [name.strip() for name in lines.fieldnames or []]
        lines.fieldnames = names
        rows = list(lines)
    missing = [name for name in ("frame", "x", "y", "w", "h") if name not in names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; expected frame,id,x,y,w,h")
    return rows


def read_target(folder: Path, target: str, first: int | None, name: str, one_based: bool = False) -> Sequence:
    """Read one target of a clip; DataError: the video or its boxes are missing, or damaged, or have no such target."""
    found = [path for path in visible(folder, "*") if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(found) != 1:
        raise DataError(f"{folder}: {len(found) or 'no'} video files, expected one" if folder.is_dir() else
                        f"{folder}: no such folder")  # fmt: skip
    path = folder / BOXES
    rows = [row for row in _read_table(path) if not target or row.get("id", "").strip() == target]
    if not rows:
        raise DataError(f"{path}: no target {target}" if target else f"{path}: no boxes")
    ids = {row.get("id", "") for row in rows}
    if len(ids) > 1:
        raise DataError(f"{path}: {len(ids)} targets; name one in the column id")
    boxes = _boxes(path, rows) - np.array([one_based, one_based, 0, 0])
    begin = int(np.flatnonzero(np.isfinite(boxes[:, 0]))[0]) if first is None else first
    with frames(found[0]) as source:
        rate, count = source.fps or 30.0, source.count()
    if count is not None and len(boxes) > count:
        raise DataError(f"{path}: a box on frame {len(boxes) - 1}, the video has {count} frames")
    pictures = tuple(ClipFrame(found[0], index) for index in range(begin, len(boxes)))
    return Sequence(name, pictures, boxes[begin:], fps=rate)


def _boxes(path: Path, rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return (N, 4) boxes from frame 0 up to the last one that has one, NaN where there is none."""
    values = np.full((len(rows), 5), np.nan)
    for number, row in enumerate(rows):
        try:
            values[number] = [float(row[key]) for key in ("frame", "x", "y", "w", "h")]
        except (TypeError, ValueError):
            shown = ",".join(str(row[key]) for key in ("frame", "x", "y", "w", "h"))
            raise DataError(f"{path}: not numbers: {shown[:60]!r}") from None
    index = values[:, 0]
    if not np.isfinite(index).all() or (index < 0).any() or (index % 1).any():
        raise DataError(f"{path}: frames must be whole numbers from 0 on")
    if len(np.unique(index)) != len(index):
        raise DataError(f"{path}: two boxes of one target on one frame")
    there = np.isfinite(values[:, 1:]).all(axis=1) & (values[:, 3:] > 0).all(axis=1)
    if not there.any():
        raise DataError(f"{path}: no box has an area")
    boxes = np.full((int(index[there].max()) + 1, 4), np.nan)
    boxes[index[there].astype(int)] = values[there, 1:]
    return boxes
