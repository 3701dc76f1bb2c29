"""Where a target is searched: around its last place, and once it is lost in the whole frame and in a kept one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.engine import View
from tracker.evidence import Judge
from tracker.geometry import Box, CropWindow, bounded, overlap
from tracker.target import Found, Target, Track

WIDER = 1.5  # how much wider than usual the windows are that search the whole frame
DISTRACTORS = 40  # that are known at most
PEAKS = 4  # the strongest ones, which are looked at, of a view and of one search of the kept frame
SAME = 0.3  # IoU from which two boxes are of the same thing
MOST_ALONG = 60  # windows along a side of the frame
LEAST = 4  # passes of the network that a lost target costs, if no budget allows more: what is followed, and a search


class Search:
    """Finds candidates for a lost target, and who stood beside it when it was last sure."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.engine = judge, judge.engine

    def windows(self, frame: Image, target: Target, passes: int) -> Iterator[CropWindow]:
        """The windows to search for a target in this frame; mutates its `scan`, and the `passes` it has left.

        While it is lost, its last place and windows of the whole frame take turns; half of the passes are left to the
        kept frame until all of that is searched. While candidates wait, nothing is.
        """
        target.passes = passes - 1
        yield self.engine.config.search_window(target.followed.box, velocity=target.followed.velocity)
        if target.state != "lost" or target.waiting:
            return
        half = target.passes // 2 if target.kept and not target.kept.searched else 0
        last, *around = self._places(target.box, frame)
        turns = range(target.scan, target.scan + min(target.passes - half, 1 + len(around)))
        windows = dict.fromkeys(around[n // 2 % len(around)] if n % 2 else last for n in turns)  # none twice in a frame
        target.scan, target.passes = turns.stop, target.passes - len(windows)
        yield from windows

    def _places(self, box: Box, frame: Image) -> list[CropWindow]:
        """Where a target is searched that was last in `box`: its place, then wider windows all over the frame."""
        wide = self.engine.config.search_window(box, WIDER)
        tiles = whole_frame(wide, frame.shape[1], frame.shape[0])
        around = [CropWindow.around(centre, wide.w, wide.h, wide.size) for centre in tiles]
        return [self.engine.config.search_window(box), *around]

    def candidates(self, target: Target, views: Sequence[View], known: Sequence[Box]) -> tuple[Box, ...]:
        """The boxes with the highest logits in all views, but those that are `known`."""
        return tuple(view.box(peak) for view, peak in self._strongest(target, views, self.judge.rules.closer, known))

    def look_closer(self, target: Target, frame: Image, boxes: Sequence[Box]) -> list[Found]:
        """What is found in the windows of candidates, each of one's own size, verified; mutates `passes`."""
        if not boxes:
            return []
        target.passes -= len(boxes)
        group = [self.engine.config.search_window(box) for box in boxes]
        (looks,) = self.engine.look(frame, [(target.appearance, group)])
        asked = [(view, self.engine.peaks(view, target.box, PEAKS, penalty_k=0.0), 0, 0.0) for view in looks]
        return [self.judge.verify(target, one) for one in self.judge.examine(target, target.box, asked)]

    def _strongest(
        self, target: Target, views: Sequence[View], most: int, known: Sequence[Box]
    ) -> list[tuple[View, NDArray[np.float64]]]:
        """The `most` peaks with the highest logits in all views, no two of one place and none of what is `known`."""
        peaks = [(view, peak) for view in views for peak in self.engine.peaks(view, target.box, 2, 0.0, 0.0)]
        best: list[tuple[View, NDArray[np.float64]]] = []
        for view, peak in sorted(peaks, key=lambda one: -one[1][4]):
            box = view.box(peak)
            if len(best) < most and peak[4] > self.judge.rules.candidate and is_none_of(box, known):
                best, known = [*best, (view, peak)], [*known, box]
        return best

    # --- who stood beside the target

    def meet(self, target: Target) -> None:
        """See who stood beside the target when it was last sure, in some more windows of that frame; mutates it."""
        kept = target.kept
        if kept is None or kept.searched or target.passes < 1:
            return
        places = self._places(kept.box, kept.frame)
        windows = places[kept.scan : kept.scan + target.passes]
        (views,) = self.engine.look(kept.frame, [(target.appearance, windows)])
        target.passes -= len(windows)
        met = self._strongest(target, views, PEAKS, [kept.box])
        for found in self.engine.refine(target.appearance, met) if met else []:
            if overlap(found.box, kept.box) < SAME:
                target.distractors = [*target.distractors, Track(found.box, found.patch)][-DISTRACTORS:]
        scan = kept.scan + len(windows)
        target.kept = replace(kept, scan=scan, searched=scan >= len(places))

    def like_others(self, target: Target, found: Found) -> float:
        """By how much more (logit, >= 0) a box is like a distractor than like the target, lately or when kept."""
        others = [track.patch for track in target.distractors if track.patch is not None]
        if not (others and target.kept and target.reference):
            return 0.0
        known = [target.reference.patch, target.kept.patch, *others]
        lately, kept, *theirs = self.engine.likenesses(known, found.patch)
        return max(max(theirs) - max(lately, kept), 0.0)


def is_none_of(box: Box, others: Sequence[Box]) -> bool:
    """Whether a box shows another thing than all the others."""
    return all(overlap(box, other) < SAME for other in others)


def whole_frame(first: CropWindow, width: int, height: int) -> list[tuple[float, float]]:
    """Centres of windows like `first` that overlap by half and cover the frame, the nearest to it first.

    There are no more than `MOST_ALONG` along a side; what is so small in so large a frame is found by chance.
    """

    def line(length: int, side: float) -> list[float]:
        count = int(bounded(math.ceil(2 * length / max(side, 1.0)) - 1, MOST_ALONG)) or 1
        return [length * (k + 1) / (count + 1) for k in range(count)]

    cx, cy = first.x + first.w / 2, first.y + first.h / 2
    centres = [(x, y) for y in line(height, first.h) for x in line(width, first.w)]
    return sorted(centres, key=lambda c: (c[0] - cx) ** 2 + (c[1] - cy) ** 2)
