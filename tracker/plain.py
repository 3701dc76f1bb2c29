"""The policy of weights with a box map that were not calibrated: the target is where the score map has its peak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tracker.config import BoxTracking
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.geometry import Box, CropWindow, sigmoid
from tracker.target import Result, Target


class PeakPolicy:
    """Takes the best box of the box map, after a closer look at it."""

    def __init__(self, engine: Engine, tracking: BoxTracking) -> None:
        self.engine, self.tracking = engine, tracking

    def begin(self, frame: Image, target: Target) -> None:
        """Nothing but the box and its appearance is known."""

    def windows(self, frame: Image, target: Target, passes: int = 1) -> list[CropWindow]:
        """What to search: a window where the target will be if it goes on as it did."""
        return [self.engine.config.search_window(target.box, velocity=target.followed.velocity)]

    def update(self, frame: Image, targets: Sequence[Target], seen: Iterable[list[View]]) -> list[Result]:
        """One frame of each target; mutates them."""
        return [self._update(target, view) for target, (view,) in zip(targets, seen, strict=True)]

    def _update(self, target: Target, view: View) -> Result:
        last, peak = target.box, self.engine.peaks(view, target.box, 1)[0]
        found = self.engine.refine(target.appearance, [(view, peak)])[0].box if self.tracking.refine else view.box(peak)
        score = sigmoid(peak[4])
        rate = self.tracking.size_lr * score * float(peak[5])
        w, h = last.w + rate * (found.w - last.w), last.h + rate * (found.h - last.h)
        target.put(target.followed.again(keep_inside(Box.from_centre(*found.centre, w, h), view.frame)))
        return Result(target.box, score)
