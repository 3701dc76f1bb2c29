"""Events that happen to a target, made in real footage: it is painted out, the scene is cut away, the camera fails.

Every event starts after a third of the sequence (or where told) and lasts one to three seconds, at most another third:

erased     the target is painted out of the picture and comes back where it then is
cut        another scene is shown
blackout   the frames are black, as of a camera that was lost
freeze     the last frame before the event is repeated; the target in it counts as present
lookalike  a copy of the target, with other colours, crosses its way; the target stays in view
imposter   the target is painted out while such a copy stands where it was

All is decided by a seed. `write_events` makes a data set of them, which is read as any other.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.config import parse_json
from tracker.crop import Image
from tracker.errors import DataError, InputError
from tracker.footage.decoder import ClipFrame
from tracker.footage.files import inside, present
from tracker.footage.layouts import load_folder
from tracker.footage.sequence import Sequence
from tracker.geometry import Box

Kind = Literal["erased", "cut", "blackout", "freeze", "lookalike", "imposter"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Read = Callable[[int], Image]  # frame of a sequence by its index

MARGIN = 0.2  # share of the box by which what is painted out is larger than it
SECONDS = 1.0, 3.0  # shortest and longest event
SHORTEST = 24  # frames of a sequence in which an event has room
BEGIN = 1 / 3  # share of the sequence before the event


@dataclass(frozen=True)
class Event:
    """What happens to `sequence` in frames start .. stop - 1. other: the scene that a cut shows."""

    sequence: Sequence
    kind: Kind
    start: int
    stop: int
    other: Sequence | None = None

    @property
    def name(self) -> str:
        """Name of the sequence and kind of the event."""
        return f"{self.sequence.name}@{self.kind}"

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) boxes of the target, px: NaN where it is absent, that of the frozen frame in a freeze."""
        boxes = self.sequence.boxes.copy()
        if self.kind == "freeze":
            boxes[self.start : self.stop] = boxes[self.start - 1]
        elif self.kind != "lookalike":
            boxes[self.start : self.stop] = np.nan
        return boxes

    def copy_box(self, index: int) -> Box:
        """x, y, w, h of the copy of the target in frame `index` of a lookalike or imposter, px."""
        x, y, w, h = self.sequence.boxes[index if self.kind == "lookalike" else self.start - 1].tolist()
        if self.kind == "lookalike":  # comes from one side, passes the target half covering it, leaves on the other
            share = (index - self.start) / max(self.stop - self.start - 1, 1)
            x, y = x + 3 * w * (1 - 2 * share), y + 0.5 * h
        return Box(x, y, w, h)

    def image(self, index: int, painter: Painter) -> Image:
        """Frame `index`, in start .. stop - 1, as (H, W, 3) uint8 BGR with what happens in it."""
        if self.kind == "freeze":
            return painter.read(self.start - 1)
        frame = painter.read(index)
        if self.kind == "blackout":
            return np.zeros_like(frame)
        if self.kind == "cut":
            assert self.other is not None
            scene = self.other.image((index - self.start) % len(self.other))
            return np.asarray(cv2.resize(scene, frame.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        if self.kind in ("erased", "imposter"):
            frame = painter.without_target(index)
        if self.kind in ("lookalike", "imposter"):
            source = painter.read(self.start - 1), Box(*self.sequence.boxes[self.start - 1].tolist())
            frame = paste_copy(frame, self.copy_box(index), *source)
        return frame


def happen(sequence: Sequence, kind: Kind, others: list[Sequence], seed: int = 0, begin: float = BEGIN) -> Event | None:
    """One event in `sequence`; None when it is too short or the target is absent around the event.

    others: sequences of which a cut shows one. seed: decides length and scene, for each name and kind anew. begin:
    share of the sequence before the event, in (0, 2/3).
    """
    if not 0 < begin < 2 / 3:
        raise InputError(f"an event begins after a share of the sequence between 0 and 2/3, got {begin:g}")
    count = len(sequence)
    if count < SHORTEST or (kind == "cut" and not others):
        return None
    rng = np.random.default_rng((seed, KINDS.index(kind), zlib.crc32(sequence.name.encode())))
    start = max(1, int(count * begin))
    stop = start + max(3, min(round(rng.uniform(*SECONDS) * sequence.fps), count // 3))
    there = present(sequence.boxes)
    if not (there[start - 1 : stop].all() and there[stop:].any()):
        return None
    return Event(sequence, kind, start, stop, others[int(rng.integers(len(others)))] if kind == "cut" else None)


def all_events(
    sequences: list[Sequence], kinds: tuple[Kind, ...] = KINDS, seed: int = 0, begin: float = BEGIN
) -> list[Event]:
    """Every kind of event in every sequence that has room for it; a cut shows one of the others. See `happen`."""
    found = []
    for sequence in sequences:
        others = [s for s in sequences if s.name != sequence.name]
        found += [event for kind in kinds if (event := happen(sequence, kind, others, seed, begin))]
    return found


class Written(NamedTuple):
    """A sequence with an event, as read from a folder that `write_events` made.

    copies: (stop - start, 4) boxes of the copy of the target, px; empty where there is none.
    """

    sequence: Sequence
    kind: Kind
    start: int
    stop: int
    copies: NDArray[np.float64]


def write_events(events: list[Event], folder: Path, quiet: bool = False) -> None:
    """Write events as a data set: FOLDER/<name>/img, groundtruth_rect.txt (0-based, nan = absent) and event.json.

    Image files in which nothing happens are linked to where they lie (copied where that cannot be); frames of a video
    are written, all alike. An event that is there
    is kept, a half-written one made again; nothing else in the folder is touched.
    """
    for event in tqdm(events, "events", unit="event", disable=quiet, mininterval=1):
        place = inside(folder, event.name)
        if place.is_dir():
            continue
        partial = place.with_name(f".{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "img").mkdir(parents=True)
        painter = Painter(event.sequence)
        for index, source in enumerate(event.sequence.frames):
            happens = event.start <= index < event.stop
            if happens or isinstance(source, ClipFrame):
                image = event.image(index, painter) if happens else event.sequence.image(index)
                coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                (partial / "img" / f"{index:06d}.jpg").write_bytes(coded.tobytes())
                continue
            link = partial / "img" / f"{index:06d}{source.suffix}"
            try:
                os.symlink(source.resolve(), link)
            except OSError:
                shutil.copyfile(source, link)
        rows = [",".join(f"{v:.9g}" for v in row) for row in event.boxes]
        (partial / "groundtruth_rect.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        copied = event.kind in ("lookalike", "imposter")
        about = {
            "kind": event.kind,
            "start": event.start,
            "stop": event.stop,
            "fps": event.sequence.fps,
            "copies": [event.copy_box(index) for index in range(event.start, event.stop)] if copied else [],
        }
        (partial / "event.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
        partial.replace(place)


def load_events(folder: Path) -> list[Written]:
    """Read what `write_events` wrote. Raises DataError: a folder without event.json, or a damaged one."""
    found = []
    for sequence in load_folder(folder, one_based=False):
        path = folder / sequence.name / "event.json"
        try:
            about = parse_json(path.read_text(encoding="utf-8"))
            copies = np.array(about["copies"], np.float64).reshape(-1, 4)
            kind, start, stop = about["kind"], int(about["start"]), int(about["stop"])
            fps = float(about["fps"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not an event ({error})") from None
        found.append(Written(replace(sequence, fps=fps), kind, start, stop, copies))
    return found


def paste_copy(frame: Image, box: Box, source: Image, target: Box) -> Image:
    """`frame` with a mirrored, recoloured copy of what is at `target` in `source` in an ellipse in `box`."""
    scale_x, scale_y = box[2] / target[2], box[3] / target[3]
    # cv2 puts pixel i at i, we put its centre at i + 0.5
    matrix = np.array([[-scale_x, 0.0, box[0] + scale_x * (target[0] + target[2] - 0.5) - 0.5],
                       [0.0, scale_y, box[1] - scale_y * (target[1] - 0.5) - 0.5]])  # fmt: skip
    copy = cv2.warpAffine(other_colours(source), matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    cover = np.zeros(frame.shape[:2], np.float32)
    centre = round(box[0] + box[2] / 2), round(box[1] + box[3] / 2)
    axes = max(round(box[2] / 2), 1), max(round(box[3] / 2), 1)
    cv2.ellipse(cover, centre, axes, 0, 0, 360, 1.0, -1)
    return _blend(frame, np.asarray(copy, np.uint8), cover)


def _blend(frame: Image, other: Image, cover: NDArray[np.float32]) -> Image:
    """`other` where `cover` (H, W) is 1, with a soft seam."""
    soft = np.asarray(cv2.GaussianBlur(cover, (0, 0), 1.5), np.float32)[..., None]
    return (frame + (other.astype(np.float32) - frame) * soft + 0.5).astype(np.uint8)


def other_colours(image: Image) -> Image:
    """A third of the colour circle away, and a little darker: what a grey picture shows of it."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + 60) % 180
    hsv[..., 2] = hsv[..., 2] * 8 // 10
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR), np.uint8)


class Painter:
    """Paints the target of a sequence out of its frames; keeps what it knows of each frame."""

    STEPS = (6, -6, 12, -12, 20, -20, 30, -30, 45, -45, 60, -60)  # frames between a frame and what is laid over it

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self._images: dict[int, Image] = {}
        self._features: dict[int, Features] = {}

    def read(self, index: int) -> Image:
        """Frame `index`, (H, W, 3) uint8 BGR."""
        if index not in self._images:
            self._images[index] = self.sequence.image(index)
        return self._images[index]

    def without_target(self, index: int) -> Image:
        """Frame `index` without its target: what other frames show behind it, or what surrounds it.

        The frame nearest in time whose target leaves the place free is laid over it by a homography of background
        features; where none fits, the place is filled from its edges (Telea 2004).
        """
        frame = self.read(index)
        left, top, right, bottom = _grown(self.sequence.boxes[index], frame.shape)
        if right <= left or bottom <= top:
            return frame
        mask = np.zeros(frame.shape[:2], np.uint8)
        mask[top:bottom, left:right] = 255
        for near in (index + step for step in self.STEPS):
            if not 0 <= near < len(self.sequence) or not present(self.sequence.boxes[near : near + 1])[0]:
                continue
            other = self.read(near)
            matrix = _homography(self._background(near), self._background(index))
            if other.shape != frame.shape or matrix is None:
                continue
            behind = np.full(frame.shape[:2], 255, np.uint8)
            x0, y0, x1, y1 = _grown(self.sequence.boxes[near], frame.shape)
            behind[y0:y1, x0:x1] = 0
            free = cv2.warpPerspective(behind, matrix, frame.shape[1::-1], flags=cv2.INTER_NEAREST)
            if (free[top:bottom, left:right] == 255).all():
                filled = cv2.warpPerspective(other, matrix, frame.shape[1::-1])
                return _blend(frame, np.asarray(filled, np.uint8), mask.astype(np.float32) / np.float32(255))
        return _blend(frame, _fill(frame, mask), mask.astype(np.float32) / np.float32(255))

    def _background(self, index: int) -> Features:
        """Features of frame `index` beside the target."""
        if index not in self._features:
            frame = self.read(index)
            mask = np.full(frame.shape[:2], 255, np.uint8)
            left, top, right, bottom = _grown(self.sequence.boxes[index], frame.shape)
            mask[top:bottom, left:right] = 0
            points, words = cv2.ORB.create(500).detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), mask)
            found = np.empty((0, 32), np.uint8) if words is None else np.asarray(words, np.uint8)
            self._features[index] = Features(np.array([p.pt for p in points], np.float32).reshape(-1, 2), found)
        return self._features[index]


class Features(NamedTuple):
    """points: (N, 2) float32 x, y, px. words: (N, 32) uint8 ORB descriptors."""

    points: NDArray[np.float32]
    words: NDArray[np.uint8]


def _grown(box: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the whole pixels to paint out, within the frame."""
    x, y, w, h = box
    left, top = int(np.floor(x - MARGIN / 2 * w - 2)), int(np.floor(y - MARGIN / 2 * h - 2))
    right, bottom = int(np.ceil(x + w + MARGIN / 2 * w + 2)), int(np.ceil(y + h + MARGIN / 2 * h + 2))
    return max(left, 0), max(top, 0), min(right, shape[1]), min(bottom, shape[0])


def _homography(source: Features, target: Features) -> NDArray[np.float64] | None:
    """From the pixels of one frame to those of another, (3, 3); None when fewer than 30 features agree."""
    if min(len(source.words), len(target.words)) < 30:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(source.words, target.words)
    if len(matches) < 30:
        return None
    a = source.points[[m.queryIdx for m in matches]]
    b = target.points[[m.trainIdx for m in matches]]
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.findHomography(a, b, cv2.RANSAC, 2.0)
    return None if matrix is None or int(inliers.sum()) < 30 else np.asarray(matrix, np.float64)


def _fill(frame: Image, mask: NDArray[np.uint8]) -> Image:
    """`frame` with the place where `mask` is 255 filled from its edges, at a resolution at which it is 60 px wide."""
    _, _, w, h = cv2.boundingRect(mask)
    shrink = max(1.0, max(w, h) / 60)
    small = cv2.resize(frame, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate(cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(small, hole, 3, cv2.INPAINT_TELEA)
    return np.asarray(cv2.resize(filled, frame.shape[1::-1]), np.uint8)
