"""Where a target is searched: around its last place, and once it is lost in the whole frame and in a kept one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tracker.config import LongTerm
from tracker.crop import Image
from tracker.engine import View
from tracker.evidence import Judge
from tracker.geometry import Box, CropWindow, iou
from tracker.target import Found, Kept, Target, Track

PEAKS = 4  # of a score map that are looked at
SAME = 0.3  # IoU from which two boxes are of the same thing
BESIDE = 0.2  # IoU with the target's box below which a box is beside it
CLOSER_WINDOW = 0.2  # influence of the cosine window at the closer look at a candidate


class Search:
    """Says where to look, finds candidates for a lost target, and who stood beside it when it was last sure."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.engine = judge, judge.engine

    @property
    def rules(self) -> LongTerm:
        """The constants of belief and search."""
        return self.judge.rules

    def windows(self, frame: Image, target: Target) -> Iterator[CropWindow]:
        """The windows to search for a target in this frame; mutates its `scan` when all are taken."""
        rules, cfg = self.rules, self.engine.config
        yield cfg.search_window(target.followed.box, velocity=target.followed.velocity)
        if target.state != "lost":
            return
        yield cfg.search_window(target.box)
        wide = cfg.search_window(target.box, rules.coarse)
        tiles = whole_frame(wide, frame.shape[1], frame.shape[0])
        for k in range(rules.windows):
            yield CropWindow.around(tiles[(target.scan + k) % len(tiles)], wide.w, wide.h, wide.size)
        target.scan = (target.scan + rules.windows) % len(tiles)

    def candidates(self, target: Target, views: list[View]) -> list[Found]:
        """The boxes with the highest logits in all views, each after a closer look, verified."""
        found = self._closer_looks(target, views, self.rules.closer)
        return [self.judge.verify(target, views[0].frame, one) for one in found]

    def _closer_looks(self, target: Target, views: list[View], most: int, beside: Box | None = None) -> list[Found]:
        """The `most` boxes with the highest logits in all views, after a closer look; only those `beside` a box."""
        engine, frame = self.engine, views[0].frame
        seen: list[tuple[float, Box]] = []
        for view in views:
            for peak in engine.peaks(view, target.box, 2, 0.0, 0.0):
                box = view.box(peak)
                if peak[4] > self.rules.candidate and not (beside and overlap(box, beside) >= BESIDE):
                    seen.append((float(peak[4]), box))
        closer: list[Box] = []
        for _, box in sorted(seen, reverse=True):
            if len(closer) < most and all(overlap(box, other) < SAME for other in closer):
                closer.append(box)
        if not closer:
            return []
        group = [engine.config.search_window(_between(box, target.box)) for box in closer]
        (looks,) = engine.look(frame, [(target.appearance, group)])
        asked = [(view, engine.peaks(view, target.box, PEAKS, 0.0, CLOSER_WINDOW), 0, 0.0) for view in looks]
        return self.judge.examine(target, target.box, asked)

    # --- who stood beside the target

    def meet(self, target: Target, windows: list[CropWindow]) -> None:
        """See who stood beside the target when it was last sure, in the windows that are searched now; mutates it."""
        kept, rules = target.kept, self.rules
        if kept is None or kept.searched:
            return
        (views,) = self.engine.look(kept.frame, [(target.appearance, windows)])
        for found in self._closer_looks(target, views, rules.meet, kept.box):
            self._know(target, kept, found.box, found.patch)
        if target.scan < rules.windows:  # the whole frame was searched
            target.kept = replace(kept, searched=True)

    def look_back(self, target: Target, found: Found, frame: Image) -> None:
        """See what looks like a candidate around its place in the frame in which the target was last sure; mutates it.

        Where the camera stays, this is what the candidate was then. It is searched with the candidate as the exemplar.
        """
        kept, fill = target.kept, target.appearance.fill
        if kept is None:
            return
        self.engine.clock.lap("post_ms")
        asked = self.engine.exemplar(frame, found.box, fill)
        self.engine.clock.lap("network_ms")
        view = self.engine.look_once(kept.frame, asked, self.engine.config.search_window(found.box))
        peak = self.engine.peaks(view, found.box, 1, 0.0, 0.0)[0]
        if peak[4] > self.rules.candidate:
            self._know(target, kept, view.box(peak), self.engine.patch(view, peak))

    def _know(self, target: Target, kept: Kept, box: Box, look: NDArray[np.float32]) -> None:
        """What is in `box` of the kept frame is a distractor, unless it is the target; mutates the target."""
        if overlap(box, kept.box) < BESIDE:
            target.distractors = [*target.distractors, Track(box, look)][-self.rules.distractors :]

    def like_others(self, target: Target, found: Found) -> float:
        """By how much more (logit, >= 0) a box is like a distractor than like the target, lately or in the kept frame.

        The most of many is more than one would be by chance; so the first `LongTerm.chance` does not count.
        """
        others = [track.look for track in target.distractors if track.look is not None]
        if not (others and target.kept and target.reference):
            return 0.0
        likeness = self.engine.likenesses([target.reference.look, target.kept.look, *others], found.patch)
        return max(max(likeness[2:]) - max(likeness[:2]) - self.rules.chance, 0.0)


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes, [0, 1]."""
    return float(iou(np.array(a), np.array(b)))


def _between(box: Box, last: Box) -> Box:
    """`box` with a size half-way (geometrically) to that of `last`."""
    w, h = math.sqrt(box.w * last.w), math.sqrt(box.h * last.h)
    return Box.from_centre(*box.centre, w, h)


def whole_frame(first: CropWindow, width: int, height: int) -> list[tuple[float, float]]:
    """Centres of windows like `first` that overlap by half and cover the frame, the nearest to it first."""

    def line(length: int, side: float) -> list[float]:
        count = max(1, math.ceil(length / (side / 2)) - 1)
        return [length * (k + 1) / (count + 1) for k in range(count)]

    cx, cy = first.x + first.w / 2, first.y + first.h / 2
    centres = [(x, y) for y in line(height, first.h) for x in line(width, first.w)]
    return sorted(centres, key=lambda c: (c[0] - cx) ** 2 + (c[1] - cy) ** 2)
