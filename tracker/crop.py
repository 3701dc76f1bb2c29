"""The only sampler of what networks see: tracking and training cut every crop here."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.geometry import CropWindow

Image = NDArray[np.uint8]


def mean_colour(frame: Image) -> tuple[float, float, float]:
    """Mean BGR of a (H, W, 3) frame: what crops show outside of it."""
    blue, green, red, _ = cv2.mean(frame)
    return blue, green, red


def stack_rgb(crops: Sequence[Image]) -> Image:
    """Crops (H, W, 3) BGR of one size as one (N, H, W, 3) RGB array: the order of channels that networks take."""
    return np.stack([cv2.cvtColor(c, cv2.COLOR_BGR2RGB) for c in crops]).astype(np.uint8, copy=False)


def crop(frame: Image, window: CropWindow, fill: tuple[float, float, float]) -> Image:
    """Cut `window` out of `frame`.

    frame: (H, W, 3) uint8 BGR, not mutated and never padded whole. fill: BGR shown outside the frame.
    Returns (size, size, 3) uint8. Its pixel (u, v) samples the frame at ((u + 0.5) / scale + x, (v + 0.5) / scale + y).
    A window that shrinks by k or more first averages k x k blocks (k whole), so that big targets do not alias:
    cv2.warpAffine alone would turn INTER_AREA into bilinear.
    """
    block = int(window.side / window.size)
    x0 = y0 = 0
    if block > 1:
        x0, y0 = int(np.floor(window.x)) - block, int(np.floor(window.y)) - block
        cells = int(np.ceil(window.side / block)) + 3
        frame = _block_mean(frame, x0, y0, cells, block, fill)
    else:
        block = 1
    step = window.side / window.size / block
    # cv2 puts pixel i at i, we put its centre at i + 0.5.
    matrix = np.array([[step, 0, (window.x - x0) / block + step / 2 - 0.5],
                       [0, step, (window.y - y0) / block + step / 2 - 0.5]])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (window.size, window.size)
    out = cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
    return np.asarray(out, np.uint8)


def _block_mean(frame: Image, x0: int, y0: int, cells: int, block: int, fill: tuple[float, float, float]) -> Image:
    """(cells, cells, 3) means of the block x block squares of the frame that start at (x0, y0)."""
    height, width = frame.shape[:2]
    means = np.full((cells, cells, 3), np.round(fill), np.uint8)
    # the squares that show some of the frame; the others cost nothing, however wide the window is
    left, right = max(-x0 // block, 0), min(-((x0 - width) // block), cells)
    top, bottom = max(-y0 // block, 0), min(-((y0 - height) // block), cells)
    if left >= right or top >= bottom:
        return means
    x0, x1, y0, y1 = x0 + left * block, x0 + right * block, y0 + top * block, y0 + bottom * block
    inside = frame[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if inside.shape[:2] != (y1 - y0, x1 - x0):
        borders = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
        inside = np.asarray(cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=fill), np.uint8)
    size = right - left, bottom - top
    means[top:bottom, left:right] = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    return means
