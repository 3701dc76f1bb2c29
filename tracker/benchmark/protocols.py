"""Protocols: which parts of a sequence a tracker runs, from which box, and under which clock.

ope         one pass from the first box (Wu, Lim, Yang, CVPR 2013)
tre         20 starts spread over the sequence, each run to the end (same paper, start frames as its toolkit)
sre         one pass from each of 12 perturbed first boxes: 8 shifts of 10 %, 4 scales (same paper, same rounding)
streaming   the video runs at its own rate, a tracker that is free takes the newest frame, and each frame is judged when
            it arrives by the last answer that was there: one for an earlier frame (Li, Wang, Ramanan, ECCV 2020)
realtime    the video runs at its own rate. A tracker that is late misses frames, and the box in force counts: the
            newest answer finished before the next frame arrives. A tracker faster than the video scores as in ope
supervised  VOT 2013-2019: a failure (no overlap) restarts the tracker five frames later
anchors     VOT 2020 and later: a run from each anchor of the data set (without them from every 50th frame), forward or
            backward, whichever is longer
longterm    the runs of ope, judged as VOT-LT does: the target may be absent, and the tracker's score should say so
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tracker.errors import InputError
from tracker.footage.files import present
from tracker.footage.sequence import Sequence
from tracker.geometry import Box

Protocol = Literal["ope", "tre", "sre", "realtime", "streaming", "supervised", "anchors", "longterm"]

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
    length: frames of the whole sequence.
    latency: milliseconds that each answer takes under a clock; None for those that are measured.
    """

    label: str
    sequence: Sequence
    box: Box
    length: int
    latency: float | None = None


def runs_of(protocol: Protocol) -> Protocol:
    """Return the protocol under which the runs are made: the long-term measure judges those of ope."""
    return "ope" if protocol == "longterm" else protocol


def plan(protocol: Protocol, sequence: Sequence, repeats: int = 1) -> list[Part]:
    """Return the runs that a protocol makes on a sequence; ValueError names an unknown protocol.

    repeats: how often each run is made, for trackers that draw at random and for latency.
    """
    runs = _once(protocol, sequence)
    again = [replace(run, label=f"{run.label}r{time}") for time in range(2, repeats + 1) for run in runs]
    return runs + again


def _once(protocol: Protocol, sequence: Sequence) -> list[Part]:
    if protocol in ("ope", "realtime", "streaming", "supervised", "longterm"):
        return [Part("", sequence, Box(*sequence.boxes[0].tolist()), len(sequence))]
    if protocol == "tre":
        return [_from(sequence, start) for start in tre_starts(sequence.boxes, sequence.omitted)]
    if protocol == "sre":
        width, height = sequence.size()
        boxes = {kind: sre_box(Box(*sequence.boxes[0].tolist()), kind, width, height) for kind in SRE_KINDS}
        return [Part(kind, sequence, box, len(sequence)) for kind, box in boxes.items()]
    if protocol == "anchors":
        return _anchors(sequence)
    raise InputError(f"protocol must be one of {', '.join(get_args(Protocol))}, got {protocol!r}")


def _from(sequence: Sequence, start: int) -> Part:
    part = sequence.part(start)
    return Part(f"{start:05d}", part, Box(*part.boxes[0].tolist()), len(sequence))


def tre_starts(boxes: NDArray[np.float64], omitted: frozenset[int] = frozenset()) -> list[int]:
    """Return the 0-based start frames of TRE: 20 spread evenly over the frames whose target is present, whose corner is
    in the image and which are not omitted, the last at least 20 frames before the end; fewer when there are fewer."""
    with np.errstate(invalid="ignore"):
        usable = np.flatnonzero(present(boxes) & (boxes[:, 0] > -1) & (boxes[:, 1] > -1))
    usable = usable[(len(boxes) - usable >= TRE_SHORTEST) & ~np.isin(usable, list(omitted))]
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
        raise InputError(f"kind must be one of {', '.join(SRE_KINDS)}, got {kind!r}")
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
    return Box(x - 1, y - 1, min(w, width - x + 1), min(h, height - y + 1))


def _round(value: float) -> float:
    return math.copysign(math.floor(abs(value) + 0.5), value)  # halves away from zero, not to even


def _anchors(sequence: Sequence) -> list[Part]:
    last = len(sequence) - 1
    spread = [at if at <= last - at else -1 - at for at in sorted({*range(0, last + 1, ANCHOR_EVERY), last})]
    parts = []
    for start in sequence.anchors or spread:
        anchor = start if start >= 0 else -1 - start
        if not present(sequence.boxes[anchor])[0]:
            continue
        part = sequence.part(anchor) if start >= 0 else sequence.backwards(anchor)
        parts.append(Part(f"{anchor:05d}", part, Box(*part.boxes[0].tolist()), last + 1))
    return parts
