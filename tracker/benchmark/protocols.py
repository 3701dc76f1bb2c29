"""Protocols: which parts of a sequence a tracker runs, from which box, and under which clock.

ope         one pass from the first box (Wu, Lim, Yang, CVPR 2013)
tre         20 starts spread over the sequence, each run to the end (same paper, start frames as its toolkit)
sre         one pass from each of 12 perturbed first boxes: 8 shifts of 10 %, 4 scales (same paper, same rounding)
realtime    the video runs at its own rate. A tracker that is late misses frames, and the box in force counts: the
            newest answer finished before the next frame arrives. A tracker faster than the video scores as in ope
supervised  VOT 2013-2019: a failure (no overlap) restarts the tracker five frames later
anchors     VOT 2020 and later: a run from every 50th frame, forward or backward, whichever is longer
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.metrics import present
from tracker.benchmark.sequences import Sequence

Protocol = Literal["ope", "tre", "sre", "realtime", "supervised", "anchors"]
Box = tuple[float, float, float, float]

TRE_STARTS = 20
TRE_SHORTEST = 20  # frames a run needs
SRE_KINDS = (
    "left", "right", "up", "down", "top-left", "top-right", "bottom-left", "bottom-right",
    "scale-0.8", "scale-0.9", "scale-1.1", "scale-1.2",
)  # fmt: skip
ANCHOR_EVERY = 50


@dataclass(frozen=True)
class Part:
    """One run of a protocol.

    label: "" or the name of the start or perturbation, unique in its sequence.
    sequence: the frames to run over, with their truth.
    box: x, y, w, h, 0-based px, given to the tracker on the first frame.
    """

    label: str
    sequence: Sequence
    box: Box


def plan(protocol: Protocol, sequence: Sequence) -> list[Part]:
    """Return the runs that a protocol makes on a sequence; ValueError names an unknown protocol."""
    if protocol in ("ope", "realtime", "supervised"):
        return [Part("", sequence, _box(sequence.boxes[0]))]
    if protocol == "tre":
        return [_from(sequence, start) for start in tre_starts(sequence.boxes)]
    if protocol == "sre":
        height, width = sequence.image(0).shape[:2]
        boxes = {kind: sre_box(_box(sequence.boxes[0]), kind, width, height) for kind in SRE_KINDS}
        return [Part(kind, sequence, box) for kind, box in boxes.items()]
    if protocol == "anchors":
        return _anchors(sequence)
    raise ValueError(f"protocol must be one of {', '.join(get_args(Protocol))}, got {protocol!r}")


def _box(row: NDArray[np.float64]) -> Box:
    x, y, w, h = (float(value) for value in row)
    return x, y, w, h


def _from(sequence: Sequence, start: int) -> Part:
    part = sequence.part(start)
    return Part(f"{start:05d}", part, _box(part.boxes[0]))


def tre_starts(boxes: NDArray[np.float64]) -> list[int]:
    """Return the 0-based start frames of TRE: 20 spread evenly over the frames whose target is present and whose corner
    is in the image, the last at least 20 frames before the end; fewer when there are fewer such frames."""
    with np.errstate(invalid="ignore"):
        usable = np.flatnonzero(present(boxes) & (boxes[:, 0] > -1) & (boxes[:, 1] > -1))
    usable = usable[len(boxes) - usable >= TRE_SHORTEST]
    if not usable.size:
        return [0]
    step = usable.size / (TRE_STARTS - 1)
    places = [math.floor(1 + index * step) for index in range(TRE_STARTS - 1) if 1 + index * step <= usable.size]
    return sorted({int(usable[place - 1]) for place in [*places, usable.size]})


def sre_box(box: Box, kind: str, width: int, height: int) -> Box:
    """Return the first box of SRE perturbed: whole pixels, kept in a (width, height) image as the toolkit does.

    kind: one of SRE_KINDS. Shifts by 10 % of the size; corner kinds move one corner outwards by 10 %.
    """
    if kind not in SRE_KINDS:
        raise ValueError(f"kind must be one of {', '.join(SRE_KINDS)}, got {kind!r}")
    x, y, w, h = box[0] + 1, box[1] + 1, box[2], box[3]  # the toolkit's arithmetic and rounding are one-based
    right, bottom = x + w - 1, y + h - 1
    if kind.startswith("scale"):
        ratio = float(kind.removeprefix("scale-"))
        x, y = _round(x + w / 2 - ratio * w / 2), _round(y + h / 2 - ratio * h / 2)
        w, h = _round(ratio * w), _round(ratio * h)
    elif kind in ("left", "right"):
        x += math.copysign(math.ceil(0.1 * w), -1 if kind == "left" else 1)
    elif kind in ("up", "down"):
        y += math.copysign(math.ceil(0.1 * h), -1 if kind == "up" else 1)
    else:
        dx, dy = 0.1 * w, 0.1 * h
        x, right = (_round(x - dx), right) if kind.endswith("left") else (x, _round(right + dx))
        y, bottom = (_round(y - dy), bottom) if kind.startswith("top") else (y, _round(bottom + dy))
        w, h = right - x + 1, bottom - y + 1
    x, y = max(x, 1), max(y, 1)
    return x - 1, y - 1, min(w, width - x + 1), min(h, height - y + 1)


def _round(value: float) -> float:
    return math.copysign(math.floor(abs(value) + 0.5), value)  # halves away from zero, not to even


def _anchors(sequence: Sequence) -> list[Part]:
    last = len(sequence) - 1
    there = present(sequence.boxes)
    parts = []
    for anchor in sorted({*range(0, last + 1, ANCHOR_EVERY), last}):
        if not there[anchor]:
            continue
        if anchor <= last - anchor:
            part = sequence.part(anchor)
        else:
            part = replace(sequence, frames=sequence.frames[anchor::-1], boxes=sequence.boxes[anchor::-1].copy())
        parts.append(Part(f"{anchor:05d}", part, _box(part.boxes[0])))
    return parts
