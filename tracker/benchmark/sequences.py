"""Single-object tracking data sets: sequences whose frames are read when asked for, boxes 0-based.

Layouts (the name given to `load` and `check`), as their authors publish them:

folder       <name>/img/*.jpg + <name>/groundtruth_rect.txt; also DTB70 and one single sequence
otb2013, otb50, otb100   the same with the official start and end frames and two-target sequences
got10k       list.txt, <name>/*.jpg, groundtruth.txt, cover.label, meta_info.ini (val, or test with first boxes only)
lasot        <class>/<name>/img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt
uav123, uav20l           data_seq/UAV123/<folder>/*.jpg, anno/UAV123/*.txt (or anno/UAV20L)
nfs30, nfs240            <name>/30/<name>/*.jpg, <name>/30/<name>.txt
trackingnet  frames/<name>/*.jpg, anno/<name>.txt (one TEST or TRAIN_k folder)
vot          list.txt, <name>/color/*.jpg or <name>/*.jpg, groundtruth.txt of boxes, polygons or masks
davis        JPEGImages/480p/<name>/*.jpg, Annotations/480p/<name>/*.png: the boxes of the masks, a sequence an object
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tracker.benchmark import layouts
from tracker.benchmark.sequence import (
    IMAGE_SUFFIXES,
    DataError,
    Entry,
    Sequence,
    frame_number,
    list_images,
    present,
    read_boxes,
    read_image,
    read_numbers,
    read_text,
)

__all__ = [
    "IMAGE_SUFFIXES", "DataError", "Entry", "Finding", "Layout", "Sequence", "check", "entries", "inspect",
    "list_images", "load", "load_folder", "read_boxes", "read_image", "read_numbers", "read_text",
]  # fmt: skip

Layout = Literal[
    "folder", "otb2013", "otb50", "otb100", "got10k", "lasot", "uav123", "uav20l", "nfs30", "nfs240", "trackingnet",
    "vot", "davis",
]  # fmt: skip
# MATLAB data sets count the first pixel as 1; the others were drawn or are used from 0.
ONE_BASED = frozenset({"folder", "otb2013", "otb50", "otb100", "got10k", "lasot", "uav123", "uav20l"})


def load(path: str | Path, layout: Layout = "folder", one_based: bool | None = None) -> list[Sequence]:
    """Read every sequence of a data set.

    path: the folder that the layout (see the module) describes.
    one_based: whether the text boxes count the first pixel as 1; None takes what the layout's authors used.
    DataError: the first sequence that is missing or inconsistent; `check` lists them all.
    """
    return [build() for _, build in entries(Path(path), layout, one_based)]


def load_folder(path: str | Path, one_based: bool = True) -> list[Sequence]:
    """Read a folder of sequences, each `img/` + `groundtruth_rect.txt`, or one such sequence; see `load`."""
    return load(path, "folder", one_based)


@dataclass(frozen=True)
class Finding:
    """What `inspect` found in one sequence: a line of counts and the first box, "" when it cannot be used; problems."""

    name: str
    summary: str
    problems: tuple[str, ...]


def check(path: str | Path, layout: Layout = "folder", one_based: bool | None = None, decode: bool = True) -> list[str]:
    """Return one line for each thing that is missing or inconsistent in a data set; an empty list when all is well.

    decode: also decode every frame (slow, complete); otherwise only the first and the last.
    """
    try:
        findings = list(inspect(path, layout, one_based, decode))
    except DataError as error:
        return [str(error)]
    return [f"{found.name}: {problem}" for found in findings for problem in found.problems]


def inspect(
    path: str | Path, layout: Layout = "folder", one_based: bool | None = None, decode: bool = True
) -> Iterator[Finding]:
    """Yield what is in each sequence and what is wrong with it; arguments as `check`.

    DataError: there is no data set of this layout.
    """
    first_pixel = 1 if _base(layout, one_based) else 0
    for name, build in entries(Path(path), layout, one_based):
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
    numbers = [frame_number(path) for path in sequence.frames]
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


def _base(layout: Layout, one_based: bool | None) -> bool:
    return layout in ONE_BASED if one_based is None else one_based


def entries(root: Path, layout: Layout, one_based: bool | None) -> Iterator[Entry]:
    """Yield the name of each sequence and what reads it; arguments as `load`.

    ValueError: unknown layout. DataError: there is no data set of this layout.
    """
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    base = _base(layout, one_based)
    if layout == "folder":
        return layouts.folder(root, base)
    if layout in ("otb2013", "otb50", "otb100"):
        return layouts.otb(root, layouts.OTB[layout].split(), base)
    if layout == "got10k":
        return layouts.got10k(root, base)
    if layout == "lasot":
        return layouts.lasot(root, base)
    if layout in ("uav123", "uav20l"):
        return layouts.uav(root, layout.upper(), base)
    if layout in ("nfs30", "nfs240"):
        return layouts.nfs(root, int(layout[3:]), base)
    if layout == "trackingnet":
        return layouts.trackingnet(root, base)
    if layout == "vot":
        return layouts.vot(root, base)
    return layouts.davis(root)
