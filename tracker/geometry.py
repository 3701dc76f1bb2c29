"""Boxes and crop windows: the only place where coordinates change frames of reference. numpy only.

Coordinates are continuous and 0-based: pixel i covers [i, i + 1). A box is (x, y, w, h) and spans [x, x + w).
Suffixes name the frame of reference: `_frame` (frame px), `_search` / `_crop` (crop px), `_cell` (map cells).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.errors import InputError

Float = NDArray[np.float64]


class Box(NamedTuple):
    """An axis-aligned box: left and top edge, width and height, in px (floats)."""

    x: float
    y: float
    w: float
    h: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the centre, px."""
        return self.x + self.w / 2, self.y + self.h / 2

    def scaled(self, across: float, down: float) -> Box:
        """The same box in a frame that is `across` times as wide and `down` times as high."""
        return Box(self.x * across, self.y * down, self.w * across, self.h * down)

    @staticmethod
    def from_centre(cx: float, cy: float, w: float, h: float) -> Box:
        """The box of size (w, h) whose centre is (cx, cy)."""
        return Box(cx - w / 2, cy - h / 2, w, h)


def check_box(box: Sequence[float] | Float, frame_w: int, frame_h: int) -> Box:
    """Return `box` as a Box, or say what is wrong with it.

    box: x, y, w, h in frame px. Part of it may lie outside the frame, not all of it.
    Raises ValueError: not four finite numbers in one row (two corners are no box, nor is text), no positive size,
    wholly outside the frame, or more than ten times as wide or as high as it.
    """
    try:
        values = np.asarray(box)
    except (TypeError, ValueError, RuntimeError):  # rows of two lengths; tensors of a GPU
        values = np.empty(0)
    if values.shape != (4,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"box must be four finite numbers x, y, w, h; got {reprlib.repr(box)}")
    x, y, w, h = values.astype(np.float64).tolist()
    if w <= 0 or h <= 0:
        raise InputError(f"box must have a positive width and height; got w={w:g}, h={h:g}")
    if x >= frame_w or y >= frame_h or x + w <= 0 or y + h <= 0:
        raise InputError(f"box (x={x:g}, y={y:g}, w={w:g}, h={h:g}) lies wholly outside the {frame_w}x{frame_h} frame")
    if w > 10 * frame_w or h > 10 * frame_h:
        raise InputError(f"box {w:g} x {h:g} is more than ten times as large as the {frame_w}x{frame_h} frame")
    return Box(x, y, w, h)


def bounded(value: float, most: float) -> float:
    """`value` within +- `most`."""
    return min(max(value, -most), most)


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), in [0, 1], of any number."""
    return (1 + math.tanh(logit / 2)) / 2


def iou(a: ArrayLike, b: ArrayLike) -> Float:
    """Intersection over union, row by row.

    a, b: (..., 4) x, y, w, h; broadcast against each other. Returns (...) in [0, 1]; NaN boxes and empty unions give 0.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    left_top = np.maximum(a[..., :2], b[..., :2])
    right_bottom = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    intersection = np.prod(np.clip(right_bottom - left_top, 0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - intersection
    return np.where(union > 0, np.nan_to_num(intersection) / np.where(union > 0, union, 1.0), 0.0)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, [0, 1]: `iou` without arrays."""
    w, h = min(a.x + a.w, b.x + b.w) - max(a.x, b.x), min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return w * h / (a.w * a.h + b.w * b.h - w * h) if w > 0 and h > 0 else 0.0


def clip_box(box: Box, frame_w: int, frame_h: int) -> Box:
    """The part of `box` that lies in the frame; of zero size where there is none."""
    x0, y0 = min(max(box.x, 0.0), frame_w), min(max(box.y, 0.0), frame_h)
    x1, y1 = min(max(box.x + box.w, 0.0), frame_w), min(max(box.y + box.h, 0.0), frame_h)
    return Box(x0, y0, x1 - x0, y1 - y0)


def context_side(w: float, h: float, context_amount: float) -> float:
    """Side of the square that shows a target with its context, px.

    side^2 = (w + a(w + h)) (h + a(w + h)), a = `context_amount`; a = 0.5 gives SiamFC's p = (w + h) / 4 a side
    (Bertinetto et al. 2016, section 3.4).
    """
    pad = context_amount * (w + h)
    return float(np.sqrt((w + pad) * (h + pad)))


def hann_window(n: int) -> Float:
    """(n, n) cosine window without its zero border; 1 at the centre of an odd n."""
    line = np.hanning(n + 2)[1:-1]
    return np.outer(line, line)


@dataclass(frozen=True)
class CropWindow:
    """The rectangle of the frame that a square crop shows; where its sides differ, the crop is stretched.

    x, y: left and top edge, frame px (any real number, also outside the frame). w, h: frame px. size: crop px.
    """

    x: float
    y: float
    w: float
    h: float
    size: int

    @staticmethod
    def around(centre: tuple[float, float], w: float, h: float, size: int) -> CropWindow:
        """The window of (w, h) frame px about `centre` (x, y)."""
        return CropWindow(centre[0] - w / 2, centre[1] - h / 2, w, h, size)

    @property
    def scale(self) -> tuple[float, float]:
        """Crop px per frame px, along x and along y."""
        return self.size / self.w, self.size / self.h

    def to_crop(self, box_frame: Sequence[float]) -> Box:
        """A box in frame px, in crop px."""
        x, y, w, h = box_frame
        across, down = self.scale
        return Box((x - self.x) * across, (y - self.y) * down, w * across, h * down)

    def to_frame(self, box_crop: Sequence[float]) -> Box:
        """A box in crop px, in frame px: the inverse of `to_crop`."""
        x, y, w, h = box_crop
        across, down = self.scale
        return Box(x / across + self.x, y / down + self.y, w / across, h / down)


@dataclass(frozen=True)
class Grid:
    """Where the cells of a score map lie on the search crop: `cells` x `cells`, `stride` px apart.

    first: centre of cell 0, search px.
    """

    cells: int
    stride: int
    first: float

    @property
    def centres(self) -> Float:
        """(cells,) centres along one axis, search px."""
        return self.first + self.stride * np.arange(self.cells, dtype=np.float64)
