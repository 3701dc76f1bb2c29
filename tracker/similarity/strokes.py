"""A drawing as the way of a pen: its skeleton, walked from end to end."""

from __future__ import annotations

import math
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 48  # px that drawings are scaled to before they are thinned
Mask = NDArray[np.bool_]
Point = tuple[int, int]


def strokes(image: NDArray[np.uint8], steps: int) -> NDArray[np.float32]:
    """The strokes of a drawing, dark on light or light on dark, as `steps` points in the order of a guessed pen.

    A stroke begins at the uppermost free end, goes straight on where it can, and ends where no ink is left to follow.
    image: (H, W) or (H, W, 3) uint8. Returns (steps, 3): x and y in [-1, 1] from the middle of the ink, and 1 where a
    stroke begins. A blank image gives zeros.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image, np.uint8)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    _, light = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    ink = light == 0
    found = walk(thin(~ink if ink.mean() > 0.5 else ink))
    points = np.array([(x, y, i == 0) for stroke in found for i, (y, x) in enumerate(stroke)], np.float32)
    if not len(points):
        return np.zeros((steps, 3), np.float32)
    number = np.repeat(np.arange(len(found)), [len(stroke) for stroke in found])
    chosen = np.linspace(0, len(points) - 1, steps).round().astype(int)
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    out = points[chosen]
    out[:, :2] = (out[:, :2] - (low + high) / 2) * (2 / max(*(high - low), 1.0))
    out[:, 2] = np.diff(number[chosen], prepend=-1) > 0
    return out


def thin(ink: Mask) -> Mask:
    """The skeleton of a mask, one pixel wide; a skeleton stays as it is (Guo & Hall 1989, algorithm A1).

    (H, W) bool, not mutated.
    """
    here = np.pad(ink, 1)
    while True:
        before = here.copy()
        for below in (True, False):
            ring = [here[1 + dy : here.shape[0] - 1 + dy, 1 + dx : here.shape[1] - 1 + dx] for dy, dx in RING]
            sides, corners = ring[::2], ring[1::2]
            turn = list(zip(sides, corners, [*sides[1:], sides[0]], strict=True))  # a side, a corner, the next side
            parts = sum((~side & (corner | after)).astype(int) for side, corner, after in turn)
            clockwise = sum((side | corner).astype(int) for side, corner, _ in turn)
            other_way = sum((corner | after).astype(int) for _, corner, after in turn)
            near = np.minimum(clockwise, other_way)
            up, up_right, right, down_right, down, down_left, left, up_left = ring
            kept = (down | down_left | ~up_left) & left if below else (up | up_right | ~down_right) & right
            here[1:-1, 1:-1] &= ~((parts == 1) & (near >= 2) & (near <= 3) & ~kept)
        if np.array_equal(before, here):
            return here[1:-1, 1:-1]


RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # neighbours, clockwise from above


def _straight(here: Point, way: Point, there: Point) -> tuple[float, int, Point]:
    """How well a step keeps the direction `way` (its cosine, times the length of `way`); then, how short it is."""
    dy, dx = there[0] - here[0], there[1] - here[1]
    return (dy * way[0] + dx * way[1]) / math.hypot(dy, dx), -abs(dy) - abs(dx), there


def walk(skeleton: Mask) -> list[list[Point]]:
    """The pixels (y, x) of a skeleton as strokes, each pixel once."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(skeleton)), strict=True))

    def beside(point: Point) -> list[Point]:
        return [(point[0] + dy, point[1] + dx) for dy, dx in RING if (point[0] + dy, point[1] + dx) in left]

    found = []
    while left:
        ends = [point for point in left if len(beside(point)) < 2]
        point = min(ends or left)
        stroke, way = [point], (0, 0)
        left.remove(point)
        while near := beside(point):
            point = max(near, key=partial(_straight, point, way))
            tail = stroke[-4:][0]  # the direction of the last pixels
            way = (point[0] - tail[0], point[1] - tail[1])
            stroke.append(point)
            left.remove(point)
        found.append(stroke)
    return found
