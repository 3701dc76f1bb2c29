"""What is counted pixel by pixel or cell by cell, one pass each; tests/reference.py has the float64 twins. numba only.

Compiled when a `Tracker` is made, before its first frame, and cached on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


def compiled(function: Callable[..., Any], types_taken: Any = None) -> Any:
    """Compile, and keep the machine code on disk where there is a place for it: a container may have none.

    A temporary folder is none: who else may write there could plant code. types_taken: the only signature;
    None: a version for each that is met.
    """
    try:
        return njit(types_taken, cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return njit(types_taken, nogil=True)(function)


def _block_mean(rows: U8, wide: int, high: int) -> U8:
    """Means of blocks of (wide, high) px of an image, rounded.

    rows: (R high, C wide 3) whole rows of it, three channels side by side. Returns (R, C, 3).
    """
    height, width = rows.shape[0] // high, rows.shape[1] // (3 * wide)
    out = np.empty((height, 3 * width), np.uint8)
    sums = np.empty(3 * width * wide, np.uint32)
    share, half = np.float32(1.0 / (wide * high)), np.float32(0.5)
    for v in range(height):
        sums[:] = 0
        for r in range(v * high, (v + 1) * high):
            row = rows[r]
            for x in range(sums.size):  # down first: neighbours in memory, many at once
                sums[x] += row[x]
        if wide == 1:
            for x in range(3 * width):
                out[v, x] = np.uint8(np.float32(sums[x]) * share + half)
            continue
        for u in range(width):
            for c in range(3):
                total = sums[3 * u * wide + c]
                for k in range(1, wide):
                    total += sums[3 * (u * wide + k) + c]
                out[v, 3 * u + c] = np.uint8(np.float32(total) * share + half)
    return out.reshape(height, width, 3)


# Frames of users may be parts of others, and read-only: one version for all.
_ROWS = types.Array(types.uint8, 2, "A", readonly=True)
block_mean = compiled(_block_mean, types.uint8[:, :, ::1](_ROWS, types.int64, types.int64))


@compiled
def colour_shares(pixels: U8, inside: NDArray[np.bool_]) -> F64:
    """(512,) shares of 8 x 8 x 8 colours in the part `inside` (H, W) of an image (H, W, 3)."""
    counts, total = np.zeros(512), 0
    for v in range(pixels.shape[0]):
        for u in range(pixels.shape[1]):
            if inside[v, u]:
                blue, green, red = int(pixels[v, u, 0]), int(pixels[v, u, 1]), int(pixels[v, u, 2])
                counts[(blue >> 5) * 64 + (green >> 5) * 8 + (red >> 5)] += 1
                total += 1
    return counts / total


@compiled
def stretched(box_map: F32, factors: F32) -> F32:
    """Boxes with other sizes about their centres. box_map: (N, 4, H, W), see `decode_peaks`. factors: (N, 2)."""
    out = np.empty(box_map.shape, np.float32)
    for n in range(box_map.shape[0]):
        for axis in range(2):
            more = (factors[n, axis] - np.float32(1)) / np.float32(2)
            for r in range(box_map.shape[2]):
                for c in range(box_map.shape[3]):
                    near, far = box_map[n, axis, r, c], box_map[n, axis + 2, r, c]
                    out[n, axis, r, c] = near + more * (near + far)
                    out[n, axis + 2, r, c] = far + more * (near + far)
    return out


@compiled
def decode_peaks(
    logits: F32,
    box_map: F32,
    window: F64,
    first: float,
    stride: float,
    width: float,
    height: float,
    penalty_k: float,
    window_influence: float,
    count: int,
) -> F64:
    """The best boxes of a score map and a box map, each with little overlap with those before it.

    logits: (H, W). box_map: (4, H, W) distances to left, top, right, bottom, search px. window: (H, W) cosine window,
    peak 1. first: centre of cell 0; stride: between cells, search px. width, height: the target's last size, search px.
    penalty_k: p = exp(-k (r s - 1)) with r, s >= 1 the change of aspect and of overall size, (Li et al., SiamRPN, 2018,
    section 4.3). window_influence: total <- (1 - w) p score + w window. count: how many peaks at most, >= 1.
    Returns (n, 7), 1 <= n <= count, the highest total first: cx, cy, w, h (search px), logit, penalty p in (0, 1], and
    agreement in [0, 1]: the mean IoU of the box with those of the cells around, weighted by their scores. A cell whose
    box overlaps a better one by an IoU above 0.2, or whose centre lies in it, makes no peak of its own.
    """
    rows, cols = logits.shape
    total = np.full((rows, cols), -1.0)
    for r in range(rows):
        for c in range(cols):
            w = np.float64(box_map[0, r, c]) + np.float64(box_map[2, r, c])
            h = np.float64(box_map[1, r, c]) + np.float64(box_map[3, r, c])
            if w > 0.0 and h > 0.0:
                score = _penalty(w, h, width, height, penalty_k) * _sigmoid(logits[r, c])
                total[r, c] = (1.0 - window_influence) * score + window_influence * window[r, c]
    peaks = np.zeros((count, 7))
    found = 0
    while found < count:
        best, row, col = -1.0, 0, 0
        for r in range(rows):
            for c in range(cols):
                if total[r, c] > best:
                    best, row, col = total[r, c], r, c
        if best < 0.0 and found > 0:
            break
        left, top = np.float64(box_map[0, row, col]), np.float64(box_map[1, row, col])
        right, bottom = np.float64(box_map[2, row, col]), np.float64(box_map[3, row, col])
        w, h = left + right, top + bottom
        x0, y0 = first + stride * col - left, first + stride * row - top
        weight, agreement = 0.0, 0.0
        for r in range(rows):
            for c in range(cols):
                x, y = first + stride * c, first + stride * r
                other = _iou(x0, y0, w, h, x - np.float64(box_map[0, r, c]), y - np.float64(box_map[1, r, c]),
                             np.float64(box_map[0, r, c]) + np.float64(box_map[2, r, c]),
                             np.float64(box_map[1, r, c]) + np.float64(box_map[3, r, c]))  # fmt: skip
                if abs(r - row) <= 1 and abs(c - col) <= 1 and (r != row or c != col):
                    score = _sigmoid(logits[r, c])
                    weight += score
                    agreement += score * other
                if other > 0.2 or (x0 <= x <= x0 + w and y0 <= y <= y0 + h):
                    total[r, c] = -1.0
        total[row, col] = -1.0
        peaks[found, 0], peaks[found, 1], peaks[found, 2], peaks[found, 3] = x0 + w / 2, y0 + h / 2, w, h
        peaks[found, 4] = logits[row, col]
        peaks[found, 5] = _penalty(w, h, width, height, penalty_k)
        peaks[found, 6] = agreement / weight if weight > 0.0 else 0.0
        found += 1
    return peaks[:found]


@compiled
def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-np.float64(logit)))


@compiled
def _iou(ax: float, ay: float, aw: float, ah: float, bx: float, by: float, bw: float, bh: float) -> float:
    w = min(ax + aw, bx + bw) - max(ax, bx)
    h = min(ay + ah, by + bh) - max(ay, by)
    return w * h / (aw * ah + bw * bh - w * h) if w > 0.0 and h > 0.0 else 0.0


@compiled
def _penalty(w: float, h: float, last_w: float, last_h: float, penalty_k: float) -> float:
    ratio, size = w / h * last_h / last_w, _overall(w, h) / _overall(last_w, last_h)
    return math.exp(-penalty_k * (max(ratio, 1.0 / ratio) * max(size, 1.0 / size) - 1.0))


@compiled
def _overall(w: float, h: float) -> float:
    pad = (w + h) / 2
    return math.sqrt((w + pad) * (h + pad))
