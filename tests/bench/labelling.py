"""How many frames a person must correct until every span is right, with the tracker's proposals and without.

python tests/bench/labelling.py LIST.tsv NAME [NAME ...]

A simulated person gives the true box of the first frame. While a span between two keys overlaps the truth by 0.75 or
less in the mean, the frame of the worst of them that scores least gets its true box. Beside it: straight lines between
the same keys, and how many keys straight lines need by themselves (the middle of the worst span is corrected).
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack import Tracker
from tracker.footage import layouts
from tracker.footage.files import present
from tracker.footage.sequence import Sequence
from tracker.footage.video import Frame
from tracker.geometry import Box, iou
from tracker.label import Keys, Labeller, interpolate

ENOUGH = 0.75  # mean overlap with the truth, of every span
MOST = 60  # corrections


def overlaps(boxes: dict[int, Box], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) overlap in each frame, NaN where there is no truth."""
    nothing = (np.nan,) * 4
    found = iou([boxes.get(t, nothing) for t in range(len(truth))], truth)
    return np.where(present(truth), found, np.nan)


def worst_span(found: NDArray[np.float64], spans: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The span with the least mean overlap; None: all have enough."""
    means = {(a, b): np.nanmean(part) for a, b in spans if np.isfinite(part := found[a : b + 1]).any()}
    bad = [span for span, mean in means.items() if mean <= ENOUGH]
    return min(bad, key=lambda span: means[span]) if bad else None


def nearest(truth: NDArray[np.float64], index: int, span: tuple[int, int]) -> int:
    """The frame of a span with a true box that is next to `index`."""
    there = np.flatnonzero(present(truth[span[0] : span[1] + 1])) + span[0]
    return int(there[np.abs(there - index).argmin()])


def straight(keys: Keys, length: int) -> dict[int, Box]:
    """Boxes on straight lines; before the first and after the last key they stand still."""
    frames = sorted(keys)
    return {t: interpolate(keys, min(max(t, frames[0]), frames[-1])) for t in range(length)}


def with_proposals(tracker: Tracker, sequence: Sequence) -> tuple[Keys, NDArray[np.float64]]:
    """The keys that were needed, and the overlaps in the end."""

    def read(index: int) -> Frame | None:
        return Frame(sequence.image(index), index, index / 30) if 0 <= index < len(sequence) else None

    labeller = Labeller(tracker, read, 0, len(sequence))
    number = labeller.add(read(0), sequence.boxes[0])
    for _ in range(MOST):
        labeller.finish()
        found = overlaps({row.frame: Box(*row.box) for row in labeller.rows()}, sequence.boxes)
        span = worst_span(found, labeller.spans(number))
        if span is None:
            break
        index = nearest(sequence.boxes, labeller.worst(number, span), span)
        labeller.set_key(number, read(index), sequence.boxes[index])
    return labeller.targets[number].keys, found


def with_lines(sequence: Sequence) -> int:
    """Corrections that straight lines need by themselves; the last frame is the first of them."""
    truth = sequence.boxes
    there = np.flatnonzero(present(truth)).tolist()
    keys: Keys = {t: Box(*truth[t].tolist()) for t in (there[0], there[-1])}
    while len(keys) <= len(truth):
        frames = sorted(keys)
        spans = [(a + 1, b - 1) for a, b in pairwise(frames) if b - a > 1]
        span = worst_span(overlaps(straight(keys, len(truth)), truth), spans)
        if span is None:
            break
        index = nearest(truth, (span[0] + span[1]) // 2, span)
        keys[index] = Box(*truth[index].tolist())
    return len(keys) - 1


def main(path: str, names: list[str]) -> None:
    """Print a line for each target."""
    tracker = Tracker.load("swift")
    found, problems = layouts.select(layouts.entries(Path(path), "clips", None), names)
    for problem in problems:
        print(problem, file=sys.stderr)
    print("target | frames | mean overlap | corrections | straight lines, same keys | corrections by straight lines")
    for sequence in found:
        keys, overlap = with_proposals(tracker, sequence)
        lines = overlaps(straight(keys, len(sequence)), sequence.boxes)
        print(
            f"{sequence.name} | {len(sequence)} | {np.nanmean(overlap):.3f} | {len(keys) - 1} | "
            f"{np.nanmean(lines):.3f} | {with_lines(sequence)}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
