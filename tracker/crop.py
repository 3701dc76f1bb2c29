"""The only sampler of what networks see: tracking and training cut every crop here."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.geometry import CropWindow, check_box, context_side

Image = NDArray[np.uint8]
MOST_SIDE = 2**15 - 2 if int(cv2.__version__.split(".")[0]) < 5 else 2**31 - 1  # px, of what cv2.warpAffine takes


def mean_colour(frame: Image) -> tuple[float, float, float]:
    """Mean BGR of a (H, W, 3) frame: what crops show outside of it."""
    blue, green, red, _ = cv2.mean(frame)
    return blue, green, red


def resize(frame: Image, width: int, height: int) -> Image:
    """A whole frame (H, W, 3) at another size, px."""
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def stack_rgb(crops: Sequence[Image]) -> Image:
    """Crops (H, W, 3) BGR of one size as one (N, H, W, 3) RGB array: the order of channels that networks take."""
    rgb = np.empty((len(crops), *crops[0].shape), np.uint8)
    for one, out in zip(crops, rgb, strict=True):
        cv2.cvtColor(one, cv2.COLOR_BGR2RGB, dst=out)  # straight to its place
    return rgb


def crop(frame: Image, window: CropWindow, fill: tuple[float, float, float]) -> Image:
    """Cut `window` out of `frame`.

    frame: (H, W, 3) uint8 BGR, not mutated and never padded whole. fill: BGR shown outside the frame.
    Returns (size, size, 3) uint8. Its pixel (u, v) samples the frame at ((u + 0.5) / across + x, (v + 0.5) / down + y),
    (across, down) the window's scale. A window that shrinks by k or more along an axis first averages blocks of k px
    (k whole), so that big targets do not alias: cv2.warpAffine alone would turn INTER_AREA into bilinear.
    """
    wide, high = max(int(window.w / window.size), 1), max(int(window.h / window.size), 1)
    x0 = y0 = 0
    if wide > 1 or high > 1:
        x0, y0 = int(np.floor(window.x)) - wide, int(np.floor(window.y)) - high
        cells = int(np.ceil(window.w / wide)) + 3, int(np.ceil(window.h / high)) + 3
        frame = _block_mean(frame, x0, y0, cells, (wide, high), fill)
    step_x, step_y = window.w / window.size / wide, window.h / window.size / high
    # cv2 puts pixel i at i, we put its centre at i + 0.5.
    matrix = np.array([[step_x, 0, (window.x - x0) / wide + step_x / 2 - 0.5],
                       [0, step_y, (window.y - y0) / high + step_y / 2 - 0.5]])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (window.size, window.size)
    out = cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
    return np.asarray(out, np.uint8)


def patch(
    frame: Image,
    box: Sequence[float],
    size: int,
    context_amount: float,
    fill: tuple[float, float, float] | None = None,
) -> Image:
    """The square patch of a target that a similarity network compares, (size, size, 3) uint8 BGR.

    frame: (H, W, 3) uint8 BGR. box: x, y, w, h in frame px, 0-based. context_amount: see `geometry.context_side`. fill:
    BGR shown outside the frame; None takes the frame's mean. Raises ValueError: see `geometry.check_box`.
    """
    checked = check_box(box, frame.shape[1], frame.shape[0])
    side = context_side(checked.w, checked.h, context_amount)
    window = CropWindow.around(checked.centre, side, side, size)
    return crop(frame, window, mean_colour(frame) if fill is None else fill)


def _block_mean(
    frame: Image, x0: int, y0: int, cells: tuple[int, int], block: tuple[int, int], fill: tuple[float, float, float]
) -> Image:
    """(rows, columns, 3) means of blocks of (wide, high) frame px from (x0, y0) on; cells: columns, rows."""
    height, width = frame.shape[:2]
    (columns, rows), (wide, high) = cells, block
    # the blocks that show some of the frame; the others cost nothing, however wide the window is
    left, right = max(-x0 // wide, 0), min(-((x0 - width) // wide), columns)
    top, bottom = max(-y0 // high, 0), min(-((y0 - height) // high), rows)
    if left >= right or top >= bottom:
        return np.full((rows, columns, 3), np.round(fill), np.uint8)
    x0, x1, y0, y1 = x0 + left * wide, x0 + right * wide, y0 + top * high, y0 + bottom * high
    inside = frame[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if inside.shape[:2] != (y1 - y0, x1 - x0):
        borders = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
        inside = np.asarray(cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=fill), np.uint8)
    if wide == 2 and high <= 2:  # between two pixels linear interpolation is their mean, and here it is the fastest
        shown = cv2.resize(inside, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    else:
        from tracker.kernels import block_mean  # not above: Numba takes half a second, and many a command crops nothing

        shown = block_mean(inside.reshape(len(inside), -1), wide, high)
    borders = top, rows - bottom, left, columns - right
    if any(borders):
        shown = cv2.copyMakeBorder(shown, *borders, cv2.BORDER_CONSTANT, value=np.round(fill).tolist())
    return np.asarray(shown, np.uint8)
