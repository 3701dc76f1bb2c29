"""Overlap of boxes with rotated truth, drawn pixel by pixel as the VOT toolkit draws it.

The toolkit rounds the corners to whole pixels, fills a polygon row by row between its crossings with the middle of the
row (both ends belong to it), cuts both regions to the image and counts pixels.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.errors import InputError
from tracker.footage.files import Floats, as_boxes, present

Size = tuple[int, int]  # width, height of the image, px


def overlaps(predicted: ArrayLike, polygons: ArrayLike, size: Size | None) -> Floats:
    """Return the overlap of each frame, (N,) in [0, 1].

    predicted: (N, 4) x, y, w, h in px; a row that is not finite or has no area says that there is no target.
    polygons: (N, K, 2) corners x, y in px; a polygon of NaN says the same. Two such rows agree: overlap 1.
    size: of the image, to which both are cut; None: they are not cut.
    ValueError: shapes differ.
    """
    boxes, corners = as_boxes(predicted, "predicted"), np.asarray(polygons, float)
    if corners.ndim != 3 or corners.shape[2] != 2 or len(corners) != len(boxes):
        raise InputError(f"expected ({len(boxes)}, K, 2) corners for {len(boxes)} boxes, got {corners.shape}")
    given, drawn = present(boxes), np.isfinite(corners).all(axis=(1, 2))
    return np.array([
        _overlap(box if a else None, points if b else None, size)
        for box, points, a, b in zip(boxes, corners, given, drawn, strict=True)
    ], float)  # fmt: skip


def _overlap(box: Floats | None, points: Floats | None, size: Size | None) -> float:
    first_a, last_a = _ends(box)
    corners = np.zeros((1, 2)) if points is None else np.round(points.astype(np.float32)).astype(float)
    low, high = np.minimum(first_a, corners.min(axis=0)), np.maximum(last_a, corners.max(axis=0))
    if (low >= high).any():
        return 1.0  # neither has an area
    if size is not None:
        low, high = np.maximum(low, 0), np.minimum(high, np.subtract(size, 1))
    if (low >= high).any():
        return 0.0  # both lie outside the image
    width, height = (int(value) for value in high - low + 1)
    mask = np.zeros((height, width), bool) if points is None else fill(corners - low, width, height)
    if box is None:
        return 0.0
    x0, y0 = (int(value) for value in np.maximum(first_a - low, 0))
    x1, y1 = (int(value) for value in np.minimum(last_a, high) - low + 1)
    shared = np.count_nonzero(mask[y0:y1, x0:x1]) if x1 > x0 and y1 > y0 else 0
    union = np.count_nonzero(mask) + max(x1 - x0, 0) * max(y1 - y0, 0) - shared
    return float(shared / union) if union else 0.0


def _ends(box: Floats | None) -> tuple[Floats, Floats]:
    """Return the first and last pixel of a box, 0 where there is none."""
    if box is None:
        return np.zeros(2), np.zeros(2)
    rounded = np.round(box.astype(np.float32)).astype(float)
    return rounded[:2], rounded[:2] + rounded[2:] - 1


def fill(corners: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """Return the pixels of a polygon, (height, width); corners: (K, 2) whole px x, y."""
    rows = np.arange(height)[:, None]
    x, y = corners[:, 0], corners[:, 1]
    to_x, to_y = np.roll(x, 1), np.roll(y, 1)
    low, high = np.minimum(y, to_y), np.maximum(y, to_y)
    crossed = (low <= rows) & (rows <= high)  # (height, K): both ends of an edge belong to it
    with np.errstate(invalid="ignore", divide="ignore"):
        at = np.where(to_y == y, x, x + (rows - y) / (to_y - y) * (to_x - x))
    nodes = np.sort(np.where(crossed, np.trunc(at), np.inf), axis=1)
    count = crossed.sum(axis=1)
    columns = np.arange(width)
    pair = count == 2
    first, last = np.where(pair, nodes[:, 0], 1)[:, None], np.where(pair, nodes[:, 1], 0)[:, None]
    mask = (columns >= first) & (columns <= last)
    for row in np.flatnonzero(count > 2):  # through a corner
        _fill_row(mask[row], nodes[row, : count[row]])
    return mask


def _fill_row(row: NDArray[np.bool_], nodes: Floats) -> None:
    """Fill a row between pairs of crossings; a corner is crossed twice and counts once, unless it ends the row."""
    index, count = 0, len(nodes)
    while index < count - 1:
        if nodes[index] == nodes[index + 1] and index < count - 2:
            index += 1
            continue
        row[int(max(nodes[index], 0)) : int(max(nodes[index + 1], -1)) + 1] = True
        index += 2
