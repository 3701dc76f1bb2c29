"""CVAT for video 1.1: tracks of boxes in an annotations.xml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

from tracker.errors import DataError, InputError
from tracker.footage.clip import Clip, Tally, Target
from tracker.footage.files import read_xml, visible
from tracker.footage.plain import frames_beside

NAME = "annotations.xml"
MOST_BOXES = 100_000  # of a track, an hour at 30 frames a second; those between two keys cost no byte of the file


def is_cvat(path: Path) -> bool:
    """Whether an xml holds tracks of CVAT."""
    with open(path, "rb") as file:
        return re.search(rb"<annotations[\s>].*<track\s", file.read(), re.DOTALL) is not None


def read_cvat(root: Path, tally: Tally) -> Iterator[Clip]:
    """annotations.xml beside a video or images: xtl, ytl, xbr, ybr in 0-based px.

    After a box with outside="1" the target is not in the picture until the next box. Between two boxes with frames
    left out lies a straight line, as CVAT draws it.
    """
    files = [path for path in visible(root, f"**/{NAME}") if is_cvat(path)]
    if not files:
        raise DataError(f"{root}: no {NAME} of tracks in it (export as CVAT for video 1.1)")
    for file in files:
        name = file.parent.resolve().name
        try:
            tree = read_xml(file)
            targets = tuple(
                Target(track.get("id", str(number)), f"{name}/{track.get('label', '')}", _boxes(track))
                for number, track in enumerate(tree.iter("track"))
            )
            yield Clip(name, "cvat", frames_beside(file.parent, NAME), targets)
        except (DataError, ValueError) as error:
            tally.drop("sequences that cannot be used", f"{file}: {error}")


def _boxes(track: Element) -> dict[int, tuple[float, ...]]:
    given: dict[int, tuple[float, ...] | None] = {}
    for one in track.iter("box"):
        x0, y0, x1, y1 = (float(one.get(corner, "")) for corner in ("xtl", "ytl", "xbr", "ybr"))
        given[int(one.get("frame", ""))] = None if one.get("outside") == "1" else (x0, y0, x1 - x0, y1 - y0)
    boxes = {frame: box for frame, box in given.items() if box}
    for before, after in pairwise(sorted(given)):
        first, last = given[before], given[after]
        if first and last:
            if len(boxes) + after - before > MOST_BOXES:
                raise InputError(f"a track of more than {MOST_BOXES} boxes: frame {after} follows on {before}")
            for frame in range(before + 1, after):
                share = (frame - before) / (after - before)
                boxes[frame] = tuple((1 - share) * a + share * b for a, b in zip(first, last, strict=True))
    return dict(sorted(boxes.items()))
