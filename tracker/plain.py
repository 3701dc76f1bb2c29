"""Policies for weights that were not calibrated: the target is where the score map has its peak, whatever happens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tracker.config import BoxTracking, PyramidTracking
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.geometry import Box, CropWindow, hann_window, sigmoid
from tracker.kernels import cubic_weights, pyramid_peak
from tracker.target import Result, Target


class PyramidPolicy:
    """Searches at several scales: the size is that of the best one (Bertinetto et al. 2016, section 3.4)."""

    def __init__(self, engine: Engine, tracking: PyramidTracking) -> None:
        self.engine, self.tracking = engine, tracking
        cells = engine.grid.cells
        window = hann_window(cells * tracking.upsample)
        self._window = window / window.sum()
        self._cubic = cubic_weights(cells, tracking.upsample)
        offsets = np.arange(tracking.num_scales) - (tracking.num_scales - 1) / 2
        self._scales: list[float] = (tracking.scale_step**offsets).tolist()

    def begin(self, frame: Image, target: Target) -> None:
        """Nothing but the box and its appearance is known."""

    def windows(self, frame: Image, target: Target, passes: int = 1) -> list[CropWindow]:
        """What to search: a window around the last position, once for each scale."""
        return [self.engine.config.search_window(target.box, scale) for scale in self._scales]

    def update(self, frame: Image, targets: Sequence[Target], seen: Iterable[list[View]]) -> list[Result]:
        """One frame of each target; mutates them."""
        return [self._update(target, views) for target, views in zip(targets, seen, strict=True)]

    def _update(self, target: Target, views: list[View]) -> Result:
        tracking, box = self.tracking, target.box
        response = np.stack([view.logits for view in views])
        scale, dx, dy, peak = pyramid_peak(
            response, self._window, *self._cubic, float(self.engine.grid.stride), tracking.upsample,
            tracking.scale_penalty, tracking.window_influence,
        )  # fmt: skip
        across, down = views[scale].window.scale
        cx, cy = box.centre[0] + dx / across, box.centre[1] + dy / down
        grow = 1 + tracking.size_lr * (self._scales[scale] - 1)
        target.put(
            target.followed.again(keep_inside(Box.from_centre(cx, cy, box.w * grow, box.h * grow), views[0].frame))
        )
        return Result(target.box, sigmoid(peak))


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
