"""What is missing or inconsistent in a data set."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.errors import DataError
from tracker.footage.files import present
from tracker.footage.layouts import entries, starts_at_one
from tracker.footage.sequence import Sequence, frame_index


@dataclass(frozen=True)
class Finding:
    """What `inspect` found in one sequence: a line of counts and the first box, "" when it cannot be used; problems."""

    name: str
    summary: str
    problems: tuple[str, ...]


def check(path: str | Path, layout: str = "folder", one_based: bool | None = None, decode: bool = True) -> list[str]:
    """Return one line for each thing that is missing or inconsistent in a data set; an empty list when all is well.

    decode: also decode every frame (slow, complete); otherwise only the first and the last.
    """
    try:
        findings = list(inspect(path, layout, one_based, decode))
    except DataError as error:
        return [str(error)]
    return [f"{found.name}: {problem}" for found in findings for problem in found.problems]


def inspect(
    path: str | Path,
    layout: str = "folder",
    one_based: bool | None = None,
    decode: bool = True,
    root: Path | None = None,
) -> Iterator[Finding]:
    """Yield what is in each sequence and what is wrong with it; arguments as `check` and `layouts.entries`.

    DataError: there is no data set of this layout.
    """
    first_pixel = 1 if starts_at_one(layout, one_based) else 0
    for name, build in entries(Path(path), layout, one_based, root):
        try:
            sequence = build()
        except DataError as error:
            yield Finding(name, "", (str(error).removeprefix(f"{name}: "),))
            continue
        absent = int((~present(sequence.boxes)).sum())
        box = ", ".join(f"{value:g}" for value in sequence.boxes[0])
        missing = f" ({absent} absent)" if absent else ""
        summary = f"{len(sequence)} frames, {len(sequence.boxes)} boxes{missing}, first box {box}"
        yield Finding(name, summary, tuple(_problems(sequence, decode, first_pixel)))


def _problems(sequence: Sequence, decode: bool, first_pixel: int) -> Iterator[str]:
    if sequence.note:
        yield sequence.note
    numbers = [frame_index(frame) for frame in sequence.frames]
    for before, after in itertools.pairwise(numbers):
        if before is not None and after is not None and after != before + 1:
            yield f"frame numbers jump from {before} to {after}"
    size: tuple[int, int] | None = None
    wanted = range(len(sequence)) if decode else sorted({0, len(sequence) - 1})
    for index in wanted:
        try:
            height, width = sequence.image(index).shape[:2]
        except DataError as error:
            yield str(error)
            continue
        size = size or (width, height)
        if (width, height) != size:
            yield f"{sequence.frames[index].name} is {width} x {height}, the first frame {size[0]} x {size[1]}"
    if first_pixel and (sequence.boxes[0, :2] == -1).any():
        yield "the first box starts at pixel 0, though pixels were said to count from 1: --zero-based?"
    if size:
        x, y, w, h = sequence.boxes.T
        with np.errstate(invalid="ignore"):
            outside = np.flatnonzero((x >= size[0]) | (y >= size[1]) | (x + w <= 0) | (y + h <= 0))
        if outside.size:
            which = sequence.frames[outside[0]].name
            yield f"{outside.size} boxes lie wholly outside the {size[0]} x {size[1]} image, the first at {which}"
