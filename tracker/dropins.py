"""Our tracker in the shapes of other packages, a few lines each; the packages are imported where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.footage.boxes import Row
from tracker.target import Result
from tracker.tracker import Tracker

States = Sequence[Result | Row]


class LikeOpenCV:
    """In the place of cv2.TrackerCSRT_create() and its like: init, update -> (ok, (x, y, w, h)), getTrackingScore."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._score = tracker, 1.0

    def init(self, image: Image, boundingBox: Sequence[float]) -> None:
        """Begin. boundingBox: x, y, w, h, px."""
        self._tracker.init(image, boundingBox)
        self._score = 1.0

    def update(self, image: Image) -> tuple[bool, tuple[int, int, int, int]]:
        """Whether the target is there, and its box in whole pixels; with numbers of 0 where it is lost, as OpenCV's."""
        result = self._tracker.update(image)
        self._score = result.score
        if not result:
            return False, (0, 0, 0, 0)
        x, y, w, h = (round(v) for v in result.box)
        return True, (x, y, w, h)

    def getTrackingScore(self) -> float:
        """Score of the last update, [0, 1]."""
        return self._score


def got10k_tracker(tracker: Tracker, name: str = "siamtrack") -> Any:
    """A got10k.trackers.Tracker for its experiments; the frames of that toolkit are RGB, its boxes count from 1."""
    from got10k.trackers import Tracker as Base

    class Adapter(Base):
        def init(self, image: Any, box: NDArray[np.float64]) -> None:
            tracker.init(_bgr(image), _from_one(box))

        def update(self, image: Any) -> NDArray[np.float64]:
            return np.add(tracker.update(_bgr(image)).box, (1, 1, 0, 0))

    return Adapter(name, is_deterministic=True)


def to_supervision(results: States, ids: Sequence[int] | None = None) -> Any:
    """supervision.Detections with tracker_id, for its annotators, zones and counters; lost targets are left out."""
    import supervision

    numbers = range(len(results)) if ids is None else ids
    shown = [(n, r) for n, r in zip(numbers, results, strict=True) if r.state != "lost"]
    if not shown:
        return supervision.Detections.empty()
    return supervision.Detections(
        xyxy=np.array([_corners(r.box) for _, r in shown], np.float32),
        confidence=np.array([r.score for _, r in shown], np.float32),
        class_id=np.zeros(len(shown), int),
        tracker_id=np.array([n for n, _ in shown]),
    )


def to_boxmot(results: States, ids: Sequence[int] | None = None) -> NDArray[np.float32]:
    """(N, 8) x0, y0, x1, y1, id, score, class 0, place in `results`, as boxmot's trackers return; without lost ones."""
    numbers = range(len(results)) if ids is None else ids
    rows = [
        (*_corners(r.box), n, r.score, 0, place)
        for place, (n, r) in enumerate(zip(numbers, results, strict=True))
        if r.state != "lost"
    ]
    return np.array(rows, np.float32).reshape(-1, 8)


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x, y, x + w, y + h


def _from_one(box: NDArray[np.float64]) -> list[float]:
    return np.subtract(box, (1, 1, 0, 0)).tolist()


def _bgr(image: Any) -> Image:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
