"""What detectors find, turned into boxes of ours, and all objects of a kind followed from it."""

from __future__ import annotations

import ast
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.crop import Image, resize
from tracker.errors import InputError, InputTypeError, MissingError
from tracker.extras import how_to_get
from tracker.geometry import Box, clip_box, iou
from tracker.graphs import check_threads, missing, session
from tracker.target import Result, Target
from tracker.tracker import Tracker

YOLO_SIDE = 640  # px, of the input of a YOLO graph that takes any size
MATCH = 0.3  # overlap from which on a detection is the target
EXCLUSIVE = 0.7  # overlap from which on two targets are one
ALIKE = 0.0  # the refiner's logit from which on a detection is a lost target, see `engine.Engine.likenesses`


class Detection(NamedTuple):
    """One object that a detector found. box: x, y, w, h, frame px. score: [0, 1]. label: its class."""

    box: Box
    score: float = 1.0
    label: str = ""


def from_corners(
    corners: ArrayLike, scores: ArrayLike | None = None, labels: Iterable[object] | None = None, least: float = 0.0
) -> list[Detection]:
    """Detections from corners, as most detectors give them. Those below the score `least`, or not finite, are left out.

    corners: (N, 4) x0, y0, x1, y1, frame px. scores: (N,), None: all 1. labels: N of them.
    Raises ValueError: shapes that do not fit.
    """
    boxes = _array(corners).reshape(-1, 4) if np.size(_array(corners)) == 0 else _array(corners)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"corners of shape {boxes.shape}; wanted (N, 4): x0, y0, x1, y1")
    sure = np.ones(len(boxes)) if scores is None else _array(scores).reshape(-1)
    words = [""] * len(boxes) if labels is None else [str(label) for label in labels]
    if not len(boxes) == len(sure) == len(words):
        raise InputError(f"{len(boxes)} boxes, {len(sure)} scores and {len(words)} labels")
    found = []
    for (x0, y0, x1, y1), score, label in zip(boxes.tolist(), sure.tolist(), words, strict=True):
        if all(map(math.isfinite, (x0, y0, x1, y1, score))) and x1 > x0 and y1 > y0 and score >= least:
            found.append(Detection(Box(x0, y0, x1 - x0, y1 - y0), float(score), label))
    return found


def from_ultralytics(result: Any, least: float = 0.0) -> list[Detection]:
    """What `model(image)[0]` of ultralytics holds: boxes.xyxy, boxes.conf, boxes.cls and the names of the classes."""
    names, _ = _known(result, "names", "boxes")
    return from_corners(
        result.boxes.xyxy, result.boxes.conf, [names[int(k)] for k in _array(result.boxes.cls).reshape(-1)], least
    )


def from_torchvision(output: Mapping[str, Any], names: Sequence[str] = (), least: float = 0.5) -> list[Detection]:
    """What `model([image])[0]` of a torchvision detector holds. names: of the classes by number."""
    if not isinstance(output, Mapping) or not {"boxes", "labels", "scores"} <= output.keys():
        raise InputTypeError(f"{reprlib.repr(output)} is no output of a torchvision detector: boxes, labels, scores")
    numbers = [int(k) for k in _array(output["labels"]).reshape(-1)]
    labels = [names[k] if k < len(names) else k for k in numbers]
    return from_corners(output["boxes"], output["scores"], labels, least)


def from_supervision(detections: Any, least: float = 0.0) -> list[Detection]:
    """A supervision.Detections: xyxy, confidence, class_id, data["class_name"]."""
    data, *_ = _known(detections, "data", "xyxy", "confidence", "class_id")
    names = data.get("class_name")
    labels = detections.class_id if names is None else names
    return from_corners(detections.xyxy, detections.confidence, labels, least)


def from_norfair(detections: Iterable[Any], least: float = 0.0) -> list[Detection]:
    """A list of norfair.Detection: points (2, 2), two corners of a box; the mean of its scores, its label.

    Raises ValueError: other points.
    """
    given = list(detections)
    for one in given:
        if np.shape(_known(one, "points", "scores", "label")[0]) != (2, 2):
            raise InputError(f"points of shape {np.shape(one.points)}; wanted (2, 2): two corners of a box")
    corners = [[*np.min(one.points, 0), *np.max(one.points, 0)] for one in given]
    scores = [1.0 if one.scores is None else float(np.mean(one.scores)) for one in given]
    return from_corners(corners, scores, ["" if one.label is None else one.label for one in given], least)


def from_boxmot(rows: ArrayLike, names: Sequence[str] = (), least: float = 0.0) -> list[Detection]:
    """(N, 6) x0, y0, x1, y1, score, class, as boxmot's trackers take them. names: of the classes by number.

    Raises ValueError: another shape.
    """
    known = _array(rows)
    known = known.reshape(0, 6) if known.size == 0 else known
    if known.ndim != 2 or known.shape[1] != 6:
        raise InputError(f"detections of shape {known.shape}; wanted (N, 6): x0, y0, x1, y1, score, class")
    labels = [names[k] if 0 <= k < len(names) else k for k in known[:, 5].astype(int).tolist()]
    return from_corners(known[:, :4], known[:, 4], labels, least)


def from_yolo(
    output: ArrayLike,
    frame_size: tuple[int, int],
    input_size: tuple[int, int] = (640, 640),
    names: Sequence[str] = (),
    least: float = 0.25,
    most_overlap: float = 0.45,
) -> list[Detection]:
    """The raw output of a YOLO graph (version 8 and later), with non-maximum suppression for each class.

    output: (1, 4 + K, N) centre x, centre y, width, height in px of the input, and K class scores. frame_size,
    input_size: (width, height); the frame was shrunk to fit and centred, with bars on two sides. names: of the classes.
    Raises ValueError: another shape.
    """
    raw = _array(output)
    raw = raw[0] if raw.ndim == 3 and len(raw) == 1 else raw
    if raw.ndim != 2 or raw.shape[0] < 5 or raw.shape[0] > raw.shape[1]:
        raise InputError(f"output of shape {np.shape(output)}; wanted (1, 4 + classes, boxes), as YOLO 8 gives it")
    kinds, scores = raw[4:].argmax(0), raw[4:].max(0)
    kept = scores >= least
    (cx, cy, w, h), kinds, scores = raw[:4, kept], kinds[kept], scores[kept]
    scale = min(input_size[0] / frame_size[0], input_size[1] / frame_size[1])
    bars = [(i - f * scale) / 2 for i, f in zip(input_size, frame_size, strict=True)]
    boxes = np.stack([cx - w / 2 - bars[0], cy - h / 2 - bars[1], w, h], 1) / scale
    best = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), kinds.tolist(), least, most_overlap)
    labels = [names[k] if k < len(names) else str(k) for k in kinds.tolist()]
    return [Detection(Box(*boxes[i].tolist()), float(scores[i]), labels[i]) for i in np.asarray(best, int).reshape(-1)]


class YoloDetector:
    """A detector from a YOLO graph (version 8 and later, as ultralytics exports it to ONNX): image -> detections.

    path: NAME.onnx; the names of the classes are read from it. least: of the scores. threads: CPU threads.
    Raises ImportError: ONNX Runtime is missing. ValueError: no graph, or one that takes no image. OSError: no file.
    """

    def __init__(self, path: str | Path, least: float = 0.25, threads: int = 1) -> None:
        if missing("onnxruntime"):
            raise MissingError(f"a detector runs in ONNX Runtime: {how_to_get('fast')}")
        check_threads(threads)
        model = Path(path).read_bytes()
        try:
            self._session = session(model, threads)
        except Exception as error:  # of ONNX Runtime, which has kinds of its own
            raise InputError(
                f"{path}: not a graph that ONNX Runtime runs: {str(error).splitlines()[0][:200]}"
            ) from None
        given = self._session.get_inputs()[0]
        if len(given.shape) != 4 or given.shape[1] != 3 or "float" not in given.type:
            raise InputError(f"{path}: takes {given.type} {given.shape}; wanted an image, float (1, 3, height, width)")
        height, width = (side if isinstance(side, int) else YOLO_SIDE for side in given.shape[2:])
        self._input, self._size, self._least = given.name, (width, height), least
        self.names = _class_names(self._session.get_modelmeta().custom_metadata_map.get("names", ""))

    def __call__(self, image: Image) -> list[Detection]:
        """What it finds in an (H, W, 3) uint8 BGR image; boxes in its px."""
        (height, width), (across, down) = image.shape[:2], self._size
        scale = min(across / width, down / height)
        w, h = min(across, round(width * scale)), min(down, round(height * scale))
        left, top = (across - w) // 2, (down - h) // 2
        framed = np.full((down, across, 3), 114, np.uint8)  # grey bars, as in its training
        framed[top : top + h, left : left + w] = resize(image, w, h)
        crops = framed[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
        output = self._session.run(None, {self._input: np.ascontiguousarray(crops)})[0]
        return from_yolo(output, (width, height), self._size, self.names, self._least)


def _class_names(text: str) -> list[str]:
    """Names of classes by number, from the dict that ultralytics writes into a graph."""
    try:
        known = ast.literal_eval(text)
        return [str(known[k]) for k in range(len(known))]
    except (ValueError, SyntaxError, KeyError, TypeError):
        return []


def inside(found: Iterable[Detection], frame: Image, most: int = 200) -> list[Detection]:
    """The surest `most` of the detections that have finite numbers and lie in a frame, at least partly."""
    height, width = frame.shape[:2]
    good = []
    for one in found:
        if not isinstance(one, Detection) or np.shape(one.box) != (4,):
            raise InputTypeError(f"{reprlib.repr(one)} is no Detection; the functions from_... make them")
        numbers = (*one.box, one.score)
        if all(math.isfinite(number) for number in numbers) and min(one.box[2:]) > 0:
            part = clip_box(Box(*one.box), width, height)
            if min(part.w, part.h) > 1:
                good.append(one)
    return sorted(good, key=lambda one: -one.score)[:most]


def _known(given: Any, *names: str) -> list[Any]:
    """The attributes of what another package made."""
    if not all(hasattr(given, name) for name in names):
        raise InputTypeError(f"{reprlib.repr(given)} has not all of {', '.join(names)}")
    return [getattr(given, name) for name in names]


def _array(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers of numpy, or of a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputTypeError(f"{reprlib.repr(values)} are no numbers") from None


# --- all of a kind


class Followed(NamedTuple):
    """A target in one frame. id: never given to another one. label: the class that the detector named."""

    id: int
    result: Result
    label: str


@dataclass
class _Known:
    """A target of the crowd. seen: calls of the detector in which it was found. gone: frames since it was not lost."""

    target: Target
    label: str
    box: Box
    seen: int = 1
    gone: int = 0


class Crowd:
    """Follows all that a detector finds, between its calls and after them.

    The detector may be called in every frame or now and then. A detection that is none of the targets becomes one,
    which has results when it was found in `confirm` calls. A lost target that a detection shows again (by its look,
    where the weights have a reference) is begun anew there and keeps its id. Of two targets on one thing the younger
    goes. A target that is lost is forgotten after `patience` frames, one whose centre left the frame at once.
    """

    def __init__(self, tracker: Tracker, confirm: int = 2, patience: int = 60) -> None:
        if confirm < 1 or patience < 1:
            raise InputError(f"confirm {confirm} and patience {patience} must be at least 1")
        self.tracker, self.confirm, self.patience = tracker, confirm, patience
        self.count = 0  # of all that were ever confirmed
        self._known: dict[int, _Known] = {}
        self._born = 0
        self._ids: dict[int, int] = {}  # of the targets inside -> as they are shown, in the order of confirmation

    def update(self, frame: Image, found: Sequence[Detection] | None = None) -> list[Followed]:
        """Follow all targets into a frame; returns those that are confirmed, by id.

        frame: (H, W, 3) uint8 BGR. found: what the detector says of it; None: it was not asked.
        """
        known = dict(self._known)
        results = self.tracker.update_all(frame, [one.target for one in known.values()])
        now = dict(zip(known, results, strict=True))
        for number, result in now.items():
            one = known[number]
            one.box, one.gone = result.box, 0 if result else one.gone + 1
        if found is not None:
            now |= self._match(frame, inside(found, frame), now)
        self._forget(frame, now)
        shown = [n for n in self._known if self._known[n].seen >= self.confirm]
        for number in shown:
            if number not in self._ids:
                self._ids[number] = self.count
                self.count += 1
        return sorted(Followed(self._ids[n], now[n], self._known[n].label) for n in shown)

    def _match(self, frame: Image, found: list[Detection], now: dict[int, Result]) -> dict[int, Result]:
        """Give each detection to a target, or begin one; returns the results of those that begin here."""
        there = [n for n in self._known if now[n]]
        overlaps = iou(
            np.array([self._known[n].box for n in there]).reshape(-1, 1, 4),
            np.array([one.box for one in found]).reshape(1, -1, 4),
        )
        taken: set[int] = set()
        detected: set[int] = set()
        for row, column in sorted(np.ndindex(overlaps.shape), key=lambda pair: -overlaps[pair]):
            if overlaps[row, column] < MATCH:
                break
            number = there[row]
            if column not in taken and number not in detected:
                taken.add(column)
                detected.add(number)
                self._known[number].seen += 1
        begun: dict[int, Result] = {}
        for column, one in enumerate(found):
            covered = len(overlaps) and overlaps[:, column].max(initial=0) >= MATCH
            if column in taken or covered:
                continue
            target = self.tracker.init(frame, one.box)
            again = self._lost_one_like(target, one, now, begun)
            number = self._born if again is None else again
            if again is None:
                self._born += 1
                self._known[number] = _Known(target, one.label, one.box)
            else:
                known = self._known[number]
                known.target, known.box, known.gone = target, one.box, 0
            begun[number] = Result(one.box, one.score)
        return begun

    def _lost_one_like(
        self, target: Target, one: Detection, now: dict[int, Result], begun: dict[int, Result]
    ) -> int | None:
        """The lost target that a detection shows; None: it is a new one."""
        lost = [n for n, known in self._known.items() if n not in begun and not now[n] and known.label == one.label]
        if not lost:
            return None
        if target.reference is None:  # weights that know no look: the nearest, if it is near
            n = min(lost, key=lambda n: math.dist(self._known[n].target.box.centre, one.box.centre))
            near = math.dist(self._known[n].target.box.centre, one.box.centre) < 2 * math.hypot(one.box.w, one.box.h)
            return n if near else None
        looks = [known.patch for n in lost if (known := self._known[n].target.reference)]
        logits = self.tracker.engine.likenesses(looks, target.reference.patch)
        best = int(np.argmax(logits))
        return lost[best] if logits[best] > ALIKE else None

    def _forget(self, frame: Image, now: dict[int, Result]) -> None:
        height, width = frame.shape[:2]
        for number, one in list(self._known.items()):
            x, y = one.box.centre
            if one.gone > self.patience or not (0 <= x < width and 0 <= y < height):
                del self._known[number]
        kept: list[int] = []
        for number in sorted(self._known):
            twin = any(now[number] and iou(self._known[n].box, self._known[number].box) > EXCLUSIVE for n in kept)
            if twin:
                del self._known[number]
            elif now[number]:
                kept.append(number)
