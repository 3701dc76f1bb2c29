"""Our tracker in the shapes of other packages, a few lines each; the packages are imported where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.crop import Image
from tracker.detections import MATCH, Crowd, from_boxmot
from tracker.draw import as_jpeg
from tracker.errors import InputError, MissingError
from tracker.extras import how_to_get
from tracker.footage.boxes import Row
from tracker.footage.video import Frame
from tracker.geometry import iou
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

    shown = [(n, r) for _, n, r in _shown(results, ids)]
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
    rows = [(*_corners(r.box), n, r.score, 0, place) for place, n, r in _shown(results, ids)]
    return np.array(rows, np.float32).reshape(-1, 8)


class LikeBoxmot:
    """In the place of boxmot's trackers: update(detections, image) -> rows; between detections targets are followed.

    A target is given from the first detection on, also in frames in which it was not detected, until it is lost.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._crowd = Crowd(tracker, confirm=1)

    def update(self, dets: ArrayLike, img: Image) -> NDArray[np.float32]:
        """Follow into an image.

        dets: (N, 6) x0, y0, x1, y1, score, class. img: (H, W, 3) uint8 BGR.
        Returns (M, 8) x0, y0, x1, y1, id, score, class, row of the detection or -1. Raises ValueError: another shape.
        """
        rows = np.asarray(dets, float).reshape(-1, np.shape(dets)[-1] if np.size(dets) else 6)
        followed = [one for one in self._crowd.update(img, from_boxmot(rows)) if one.result]
        found = np.empty((len(followed), 8), np.float32)
        boxes = np.column_stack([rows[:, :2], rows[:, 2:4] - rows[:, :2]])
        for k, one in enumerate(followed):
            overlap = np.where(rows[:, 5].astype(int) == int(one.label), iou(boxes, one.result.box), 0.0)
            row = int(np.argmax(overlap)) if overlap.max(initial=0.0) >= MATCH else -1
            found[k] = *_corners(one.result.box), one.id, one.result.score, int(one.label), row
        return found


def to_norfair(results: States, ids: Sequence[int] | None = None) -> list[Any]:
    """norfair.Detection of each target that is not lost: points (2, 2), scores (2,), data its id."""
    import norfair

    return [
        norfair.Detection(np.array(_corners(r.box)).reshape(2, 2), np.array([r.score, r.score]), data=n)
        for _, n, r in _shown(results, ids)
    ]


def log_to_rerun(
    frame: Frame, results: States, ids: Sequence[int] | None = None, path: str = "camera", recording: Any = None
) -> None:
    """Log a frame and what was found in it to Rerun, on the timelines frame and time.

    The picture goes to `path` as JPEG, the boxes of targets that are not lost to path/targets, score and state of each
    to score/ID and state/ID, the times of an update to ms/crop, ms/network and ms/post. recording: a RecordingStream;
    None: the one of the process. Raises ImportError: rerun-sdk is not installed.
    """
    try:
        import rerun
    except ImportError as error:
        raise MissingError(f"logging to Rerun needs rerun-sdk: {how_to_get('rerun')}") from error

    numbers = list(range(len(results)) if ids is None else ids)
    shown = [(n, r) for _, n, r in _shown(results, numbers)]
    rerun.set_time("frame", sequence=frame.index, recording=recording)
    rerun.set_time("time", duration=frame.time, recording=recording)

    def log(where: str, what: Any) -> None:
        rerun.log(where, what, recording=recording)

    jpeg = as_jpeg(frame.image, frame.image.shape[1])
    log(path, rerun.EncodedImage(contents=jpeg, media_type="image/jpeg"))
    if shown:
        boxes = np.array([r.box for _, r in shown], np.float32)
        words = [f"{n} {r.score:.2f}" + f" {r.state}" * (r.state != "tracking") for n, r in shown]
        kinds = [n % 2**16 for n, _ in shown]
        log(
            f"{path}/targets",
            rerun.Boxes2D(array=boxes, array_format=rerun.Box2DFormat.XYWH, labels=words, class_ids=kinds),
        )
    else:
        log(f"{path}/targets", rerun.Clear(recursive=False))
    for n, r in zip(numbers, results, strict=True):
        log(f"score/{n}", rerun.Scalars(r.score))
        log(f"state/{n}", rerun.TextLog(r.state, level="WARN" if r.state == "lost" else "INFO"))
    timed = next((r for r in results if isinstance(r, Result)), None)
    if timed is not None:
        for name in ("crop", "network", "post"):
            log(f"ms/{name}", rerun.Scalars(getattr(timed, f"{name}_ms")))


def _shown(results: States, ids: Sequence[int] | None) -> list[tuple[int, int, Result | Row]]:
    """The place, the id and the result of each target that is not lost. Raises InputError: another number of ids."""
    numbers = range(len(results)) if ids is None else ids
    if len(numbers) != len(results):
        raise InputError(f"{len(numbers)} ids for {len(results)} results")
    known = zip(numbers, results, strict=True)
    return [(place, n, r) for place, (n, r) in enumerate(known) if r.state != "lost"]


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x, y, x + w, y + h


def _from_one(box: NDArray[np.float64]) -> list[float]:
    return np.subtract(box, (1, 1, 0, 0)).tolist()


def _bgr(image: Any) -> Image:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
