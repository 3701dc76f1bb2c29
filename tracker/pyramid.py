"""The policy of siamfc, whose map has no boxes: it searches at several scales (Bertinetto et al. 2016, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tracker.config import PyramidTracking
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.geometry import Box, CropWindow, hann_window, sigmoid
from tracker.kernels import F32, F64, compiled
from tracker.target import Result, Target


class PyramidPolicy:
    """The size is that of the best scale; the target is always tracked."""

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


@compiled
def cubic_weights(cells: int, factor: int) -> tuple[NDArray[np.int64], F64]:
    """Bicubic up-sampling of `cells` by `factor` along one axis (Keys 1981, a = -0.75), borders repeated.

    Returns the four source cells (cells * factor, 4) and their weights (cells * factor, 4).
    """
    a = -0.75
    index = np.empty((cells * factor, 4), np.int64)
    weight = np.empty((cells * factor, 4), np.float64)
    for u in range(cells * factor):
        position = (u + 0.5) / factor - 0.5
        base = math.floor(position)
        for k in range(4):
            d = abs(position - (base - 1 + k))
            if d <= 1.0:
                value = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
            else:
                value = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
            index[u, k] = min(max(base - 1 + k, 0), cells - 1)
            weight[u, k] = value
    return index, weight


@compiled
def _upsample(response: F32, index: NDArray[np.int64], weight: F64) -> F64:
    cells, fine = response.shape[0], index.shape[0]
    rows = np.empty((cells, fine))
    for r in range(cells):
        for u in range(fine):
            value = 0.0
            for k in range(4):
                value += weight[u, k] * np.float64(response[r, index[u, k]])
            rows[r, u] = value
    out = np.empty((fine, fine))
    for v in range(fine):
        a, b, c, d = index[v]
        wa, wb, wc, wd = weight[v]
        for u in range(fine):
            out[v, u] = wa * rows[a, u] + wb * rows[b, u] + wc * rows[c, u] + wd * rows[d, u]
    return out


@compiled
def pyramid_peak(
    response: F32,
    window: F64,
    index: NDArray[np.int64],
    weight: F64,
    stride: float,
    factor: int,
    scale_penalty: float,
    window_influence: float,
) -> tuple[int, float, float, float]:
    """The best scale and the displacement of the target at it (Bertinetto et al. 2016, section 3.4).

    response: (S, H, H) raw responses, the current scale in the middle. window: (H factor, H factor) cosine window that
    sums to 1. index, weight: from `cubic_weights`. stride: search px a cell. scale_penalty: factor on the peak of every
    other scale; a negative peak is divided by it, so that it never gains. The response of the best scale is shifted to
    a minimum of 0, scaled to a sum of 1, and mixed: (1 - w) response + w window; its peak is refined by a parabola.
    Returns the scale's index, dx, dy (search px, from the centre of the crop) and the up-sampled raw response there.
    """
    middle = response.shape[0] // 2
    best_scale, best_peak = middle, -np.inf
    best_map = np.empty((0, 0))
    for step in range(response.shape[0]):
        s = (middle + step) % response.shape[0]  # the current scale first: it wins a tie
        fine_map = _upsample(response[s], index, weight)
        peak = fine_map.max()
        if s != middle:
            peak = peak * scale_penalty if peak > 0.0 else peak / scale_penalty
        if peak > best_peak:
            best_scale, best_peak, best_map = s, peak, fine_map
    low, total = best_map.min(), 0.0
    fine = best_map.shape[0]
    for v in range(fine):
        for u in range(fine):
            total += best_map[v, u] - low
    gain = (1.0 - window_influence) / (total + 1e-16)
    mixed = np.empty_like(best_map)
    best, best_v, best_u = -np.inf, 0, 0
    for v in range(fine):
        for u in range(fine):
            value = gain * (best_map[v, u] - low) + window_influence * window[v, u]
            mixed[v, u] = value
            if value > best:
                best, best_v, best_u = value, v, u
    du = dv = 0.0
    if 0 < best_u < fine - 1:
        du = parabola(mixed[best_v, best_u - 1], best, mixed[best_v, best_u + 1])
    if 0 < best_v < fine - 1:
        dv = parabola(mixed[best_v - 1, best_u], best, mixed[best_v + 1, best_u])
    centre = (fine - 1) / 2
    dx = (best_u + du - centre) / factor * stride
    dy = (best_v + dv - centre) / factor * stride
    return best_scale, dx, dy, best_map[best_v, best_u]


@compiled
def parabola(before: float, peak: float, after: float) -> float:
    """Where the parabola through three neighbours has its top, in [-0.5, 0.5] cells from the middle one."""
    curvature = before - 2.0 * peak + after
    if curvature >= 0.0:
        return 0.0
    return min(max(0.5 * (before - after) / curvature, -0.5), 0.5)
