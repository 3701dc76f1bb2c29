"""Boxes for footage that has none: what may be a target is followed forward and back, and kept where both ways agree.

A folder of harvested footage has a line a clip in harvest.csv, and of each clip that gave something a folder with
boxes.csv and a link to the video: the layout that `prepare` reads.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.draw import draw
from tracker.errors import DataError, InputError
from tracker.footage.clip import Clip, Tally
from tracker.footage.files import VIDEO_SUFFIXES, as_table, files_below
from tracker.footage.layouts import read
from tracker.footage.output import write_whole
from tracker.footage.video import frames
from tracker.geometry import Box, clip_box, iou
from train.sheet import KEPT, captioned

Boxes = NDArray[np.float64]  # (N, 4) x, y, w, h, frame px
Detector = Callable[[Image], Iterable[Sequence[float]]]  # BGR frame -> x, y, w, h of what it sees, the surest first
Kind = Literal["labelled", "detected", "moving", "part", "texture"]

LOG = "harvest.csv"
COLUMNS = ("clip", "frames", "proposals", "tracks", "boxes", "seconds")
CUT = 22.0  # mean difference of 16 x 16 thumbnails, grey levels, from which two frames are of different shots
FLOW_WIDTH = 320  # px, width at which motion is looked for
LEAST_FILLED = 0.3  # share of a box that moves
MIN_SIDE = 12.0  # px, of a proposal; `prepare` drops what gets smaller than half of it
MAX_SHARE = 0.5  # of the frame's area that a proposal covers at most
MOST_PARTED = 0.3  # share of a way's frames in which the way back may lead elsewhere
STILL_MOVE, STILL_CHANGE = 0.15, 8.0  # a target that moves by less, in its own sizes, and changes by less, grey levels


class Follower(Protocol):
    """A tracker: init, then update with a box and a score in [0, 1] (or NaN), see `tracker.benchmark.peers.Answer`."""

    def init(self, frame: Image, box: Box) -> Any: ...
    def update(self, frame: Image) -> Any: ...


@dataclass(frozen=True)
class Harvest:
    """What to look for and what to keep.

    length: frames of a track at most. every: take each n-th frame of a clip, of a shorter one than `length` each.
    detected, moving, parts, textures: most proposals of a kind at the start of each stretch. least_score: a lower one
    ends a track. overlap: least IoU of the way forward and the way back in a frame that is kept. least_frames: that a
    track must keep.
    """

    length: int = 45
    every: int = 2
    detected: int = 2
    moving: int = 2
    parts: int = 2
    textures: int = 2
    least_score: float = 0.5
    overlap: float = 0.65
    least_frames: int = 10


class Proposal(NamedTuple):
    """A box (frame px) that may be worth following, and where it comes from."""

    box: Box
    kind: Kind


class Found(NamedTuple):
    """A track that is kept: what it began as, frame numbers of the clip (N,) and boxes (N, 4) in them."""

    kind: Kind
    numbers: list[int]
    boxes: Boxes


def harvest(
    clips: Sequence[Path], out: Path, follower: Follower, detector: Detector | None, cfg: Harvest, seed: int = 0
) -> None:
    """Harvest videos into the folder `out`; clips that its harvest.csv names are done and left alone.

    clips: videos, or folders searched for them. detector: None does without. seed: of what is drawn at random.
    Says a line for each clip; one that cannot be read is left out. Raises DataError: no video, or two of one name.
    """
    videos = find_videos(clips)
    out.mkdir(parents=True, exist_ok=True)
    done = {row["clip"] for row in read_log(out)}
    for place, (name, video) in enumerate(videos.items(), 1):
        if name in done:
            continue
        begin = time.perf_counter()
        try:
            images, proposed, found = harvest_clip(
                video, follower, detector, cfg, np.random.default_rng((seed, *name.encode()))
            )
        except DataError as error:
            print(f"{place}/{len(videos)} {name}: left out: {error}", flush=True)
            continue
        if found:
            write_clip(out / name, video, found)
        count = sum(len(track.numbers) for track in found)
        seconds = time.perf_counter() - begin
        _append_log(out, (name, images, proposed, len(found), count, round(seconds, 1)))
        print(
            f"{place}/{len(videos)} {name}: {images} frames, {proposed} proposals, {len(found)} tracks, {count} boxes,"
            f" {seconds:.0f} s",
            flush=True,
        )


def harvest_clip(
    video: Path, follower: Follower, detector: Detector | None, cfg: Harvest, rng: np.random.Generator
) -> tuple[int, int, list[Found]]:
    """Harvest one video. Returns the frames looked at, the boxes proposed and the tracks kept. Raises DataError."""
    images = proposed = 0
    found: list[Found] = []
    known = labelled_boxes(video)
    for numbers, shot in stretches(video, cfg):
        images += len(shot)
        proposals = propose(shot, known.get(numbers[0], []), detector, cfg, rng)
        proposed += len(proposals)
        for proposal in proposals:
            kept = follow_both_ways(follower, shot, proposal.box, cfg)
            if kept is None:
                continue
            index, boxes = kept
            track = Found(proposal.kind, [numbers[i] for i in index], boxes)
            if not is_still([shot[i] for i in index], boxes) and not any(is_same(track, other) for other in found):
                found.append(track)
    return images, proposed, found


def find_videos(clips: Sequence[Path]) -> dict[str, Path]:
    """Videos by name: that of their folder where they are alone in it, else their own. Raises DataError."""
    found: dict[str, Path] = {}
    for path in clips:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        inside = files_below(path) if path.is_dir() else [path]
        videos = [p for p in inside if p.suffix.lower() in VIDEO_SUFFIXES]
        if not videos:
            raise DataError(f"{path}: no video in it ({', '.join(VIDEO_SUFFIXES)})")
        for video in videos:
            beside = [p for p in video.parent.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
            name = video.resolve().parent.name if len(beside) == 1 else video.stem
            if found.setdefault(name, video) != video:
                raise DataError(f"{video} and {found[name]} have one name, {name}; harvest them into two folders")
    return found


def labelled_boxes(video: Path) -> dict[int, list[Box]]:
    """Boxes that stand in a boxes.csv beside a video, by frame; none where there is none."""
    boxes: dict[int, list[Box]] = {}
    if (video.parent / "boxes.csv").is_file():
        for clip in read(video, "boxes", Tally()):
            for target in clip.targets:
                for number, box in target.boxes.items():
                    if np.isfinite(box).all() and min(box[2:]) > 0:
                        boxes.setdefault(number, []).append(Box(*box))
    return boxes


def stretches(video: Path, cfg: Harvest) -> Iterator[tuple[list[int], list[Image]]]:
    """Pieces of one shot, `least_frames` to `length` frames long, with the frames' numbers in the clip."""
    numbers: list[int] = []
    images: list[Image] = []
    last: NDArray[Any] | None = None
    with frames(video) as source:
        every = cfg.every if (source.length or cfg.length) >= cfg.length else 1
        for frame in source:
            if frame.index % every:
                continue
            thumbnail = cv2.resize(frame.image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
            cut = last is not None and np.abs(thumbnail - last).mean() > CUT
            last = thumbnail
            if cut or len(images) == cfg.length:
                if len(images) >= cfg.least_frames:
                    yield numbers, images
                numbers, images = [], []
            numbers.append(frame.index)
            images.append(np.asarray(frame.image, np.uint8))
    if len(images) >= cfg.least_frames:
        yield numbers, images


# --- what may be a target


def propose(
    shot: Sequence[Image], known: Sequence[Box], detector: Detector | None, cfg: Harvest, rng: np.random.Generator
) -> list[Proposal]:
    """What may be worth following from the first frame of a shot on.

    known: boxes that have labels; they are not proposed again, but parts of them are. Parts: people draw boxes on
    faces, heads, wheels, logos; so a box within an object, where there is texture.
    """
    image = shot[0]
    height, width = image.shape[:2]
    texture = cv2.integral(np.sqrt(np.maximum(cv2.cornerMinEigenVal(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 5), 0)))
    chosen: list[Proposal] = []
    seen: list[Box] = []

    def add(candidates: Iterable[Box], kind: Kind, most: int) -> None:
        count = 0
        for candidate in candidates:
            box = clip_box(candidate, width, height)
            fits = min(box.w, box.h) >= MIN_SIDE and box.w * box.h <= MAX_SHARE * width * height
            taken = np.array([*known, *(p.box for p in chosen)], np.float64).reshape(-1, 4)
            if count < most and fits and not (iou(taken, np.array(box)) > 0.5).any():
                chosen.append(Proposal(box, kind))
                count += 1

    def richest(boxes: Sequence[Box]) -> list[Box]:
        return sorted(boxes, key=lambda box: -_mean_inside(texture, box))

    if detector is not None:
        seen = [clip_box(Box(*map(float, box)), width, height) for box in detector(image)]
        add(seen, "detected", cfg.detected)
    add(moving_boxes(image, shot[min(2, len(shot) - 1)]), "moving", cfg.moving)
    objects = [*known, *seen, *(p.box for p in chosen if p.kind == "moving")]
    if objects:
        parts = [_part(objects[int(rng.integers(len(objects)))], rng) for _ in range(8 * cfg.parts)]
        add(richest(parts), "part", cfg.parts)
    add(richest([_anywhere(width, height, rng) for _ in range(16)]), "texture", cfg.textures)
    return chosen


def _mean_inside(integral: NDArray[Any], box: Box) -> float:
    """Mean of an image in a box, from its integral image."""
    rows, columns = integral.shape
    x0, y0 = min(max(round(box.x), 0), columns - 2), min(max(round(box.y), 0), rows - 2)
    x1 = min(max(round(box.x + box.w), x0 + 1), columns - 1)
    y1 = min(max(round(box.y + box.h), y0 + 1), rows - 1)
    total = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
    return float(total) / ((x1 - x0) * (y1 - y0))


def _part(whole: Box, rng: np.random.Generator) -> Box:
    """A box within a box, half of the time in its upper part, where heads are."""
    side = np.sqrt(whole.w * whole.h) * rng.uniform(0.25, 0.6)
    aspect = np.exp(rng.normal(0, 0.2))
    w, h = min(side * aspect, whole.w), min(side / aspect, whole.h)
    x = whole.x + rng.uniform(0, 1) * (whole.w - w)
    y = whole.y + rng.uniform(0, 0.25 if rng.random() < 0.5 else 1) * (whole.h - h)
    return Box(float(x), float(y), float(w), float(h))


def _anywhere(width: int, height: int, rng: np.random.Generator) -> Box:
    side = min(width, height) * np.exp(rng.uniform(np.log(0.08), np.log(0.4)))
    aspect = np.exp(rng.normal(0, 0.3))
    w, h = min(side * aspect, width), min(side / aspect, height)
    return Box(float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), float(w), float(h))


def moving_boxes(first: Image, second: Image) -> list[Box]:
    """Boxes (frame px of `first`) of what moves against the motion of the camera, the largest first.

    Dense optical flow, less the similarity transform that most of it follows. What reaches the frame's edge is left
    out: it is cut off, or ground that the camera passes.
    """
    height, width = first.shape[:2]
    scale = min(1.0, FLOW_WIDTH / width)
    size = round(width * scale), round(height * scale)
    small = [
        cv2.cvtColor(cv2.resize(i, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY) for i in (first, second)
    ]
    if min(size) < 64:  # too small for the flow's pyramid
        return []
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = estimator.calc(small[0], small[1], np.zeros((*small[0].shape, 2), np.float32))
    rows, columns = np.mgrid[4 : size[1] : 8, 4 : size[0] : 8]
    points = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float32)
    moved = points + flow[rows.ravel(), columns.ravel()]
    camera, _ = cv2.estimateAffinePartial2D(points, moved, ransacReprojThreshold=1.0)
    if camera is None:
        return []
    rows, columns = np.mgrid[: size[1], : size[0]]
    expected = np.stack([camera[k, 0] * columns + camera[k, 1] * rows + camera[k, 2] for k in (0, 1)], -1)
    rest = np.hypot(*(flow + np.stack([columns, rows], -1) - expected).transpose(2, 0, 1))
    shown = (rest > 1.0).astype(np.uint8)
    shown = cv2.morphologyEx(shown, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    shown = cv2.morphologyEx(shown, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    count, _, statistics, _ = cv2.connectedComponentsWithStats(shown)
    boxes = sorted(statistics[1:count].tolist(), key=lambda s: -s[4])
    filled = [s[:4] for s in boxes if s[4] > LEAST_FILLED * s[2] * s[3]]
    whole = [(x, y, w, h) for x, y, w, h in filled if min(x, y) > 0 and x + w < size[0] and y + h < size[1]]
    return [Box(x / scale, y / scale, w / scale, h / scale) for x, y, w, h in whole]


# --- following


def follow_both_ways(
    follower: Follower, shot: Sequence[Image], box: Box, cfg: Harvest
) -> tuple[list[int], Boxes] | None:
    """Follow a box from the first frame of a shot to the end, or to where the score falls, and from there back.

    If the way back does not lead to where it began, half of the way is tried, and a quarter. Returns the frames in
    which both ways agree and the means of their boxes; None if the ways part or too little is left.
    """
    forward = _follow(follower, shot, box, cfg.least_score)
    for part in (1, 2, 4):  # the whole way; else a shorter one may be right
        length = len(forward) // part
        if length < cfg.least_frames:
            return None
        there = forward[:length]
        back = _follow(follower, shot[:length][::-1], Box(*there[-1].tolist()), cfg.least_score)[::-1]
        if len(back) < length:
            continue
        overlap = iou(there, back)
        boxes = (there + back) / 2
        height, width = shot[0].shape[:2]
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        fits = (centres > 0).all(1) & (centres < (width, height)).all(1) & (boxes[:, 2:].min(1) >= MIN_SIDE / 2)
        kept = np.flatnonzero((overlap >= cfg.overlap) & fits)
        if overlap[0] >= cfg.overlap and len(kept) >= max(cfg.least_frames, (1 - MOST_PARTED) * length):
            return kept.tolist(), boxes[kept]
    return None


def _follow(follower: Follower, shot: Sequence[Image], box: Box, least_score: float) -> Boxes:
    """Boxes (n, 4) in the first n frames, as far as the score is high enough; of the first the given one."""
    follower.init(shot[0], box)
    boxes: list[Sequence[float]] = [box]
    for image in shot[1:]:
        answer = follower.update(image)
        if answer.score < least_score:
            break
        boxes.append(answer.box)
    return np.array(boxes, np.float64)


def is_still(images: Sequence[Image], boxes: Boxes) -> bool:
    """Whether a track shows the same picture at the same place all the time, such as background of a fixed camera."""
    size = np.sqrt(boxes[:, 2:].prod(1)).mean()
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    if np.ptp(centres, axis=0).max() > STILL_MOVE * size:
        return False
    looks = []
    for i in np.linspace(0, len(images) - 1, 5).astype(int):
        x, y, w, h = (int(v) for v in clip_box(Box(*boxes[i].tolist()), images[i].shape[1], images[i].shape[0]))
        inside = images[i][y : y + max(h, 1), x : x + max(w, 1)]
        looks.append(cv2.resize(inside, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32))
    return max(float(np.abs(look - looks[0]).mean()) for look in looks) < STILL_CHANGE


def is_same(track: Found, other: Found) -> bool:
    """Whether two tracks follow the same thing: where both have boxes, these overlap by more than a half."""
    common = sorted(set(track.numbers) & set(other.numbers))
    if not common:
        return False
    first, second = (t.boxes[np.searchsorted(t.numbers, common)] for t in (track, other))
    return float(iou(first, second).mean()) > 0.5


# --- files


def write_clip(folder: Path, video: Path, found: Sequence[Found]) -> None:
    """Write boxes.csv and, beside it, a link to the video (a copy where there are no links)."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"clip{video.suffix.lower()}"
    link.unlink(missing_ok=True)
    try:
        os.symlink(video.resolve(), link)
    except OSError:
        shutil.copyfile(video, link)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("frame", "id", "x", "y", "w", "h"))
    for i, track in enumerate(found):
        for number, box in zip(track.numbers, track.boxes.tolist(), strict=True):
            table.writerow((number, f"{track.kind}-{i}", *(f"{v:.2f}" for v in box)))
    write_whole(folder / "boxes.csv", text.getvalue().encode())


def read_log(out: Path) -> list[dict[str, str]]:
    """The lines of harvest.csv, a clip each."""
    if not (out / LOG).is_file():
        return []
    with open(out / LOG, newline="", encoding="utf-8") as file, as_table(out / LOG):
        return [row for row in csv.DictReader(file) if row.get("seconds")]


def _append_log(out: Path, row: tuple[Any, ...]) -> None:
    new = not (out / LOG).is_file()
    with open(out / LOG, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, row] if new else [row])


def load_detector(spec: str) -> Detector:
    """The detector MODULE:FUNCTION. Raises ValueError: not to be found."""
    module, _, name = spec.partition(":")
    try:
        detector: Detector = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"detector {spec!r}: expected MODULE:FUNCTION; {error}") from error
    if not callable(detector):
        raise InputError(f"detector {spec!r}: expected MODULE:FUNCTION; it is {detector!r:.60}")

    def detect(image: Image) -> list[Sequence[float]]:
        try:
            return [Box(*map(float, box)) for box in detector(image)]
        except Exception as error:  # of a function of the user's
            raise InputError(
                f"detector {spec!r}: given a frame, it returns boxes x, y, w, h; {type(error).__name__}: {error}"
            ) from error

    return detect


def track_tiles(out: Path, tiles: int, seed: int = 0, side: int = 112) -> list[Image]:
    """Pictures of harvested tracks, as many clips as there are first: the first, the middle and the last box."""
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, float, int, Clip, int]] = []
    clips = [clip for clip in read(out, "boxes", Tally()) if isinstance(clip.frames, Path)]
    for place, clip in enumerate(clips):
        for rank, t in enumerate(rng.permutation(len(clip.targets)).tolist()):
            chosen.append((rank, rng.random(), place, clip, t))
    wanted: dict[int, list[int]] = {}
    for _, _, place, _, t in sorted(chosen, key=lambda c: c[:3])[:tiles]:
        wanted.setdefault(place, []).append(t)
    pictures = []
    for place in sorted(wanted):
        clip = clips[place]
        moments = {t: _moments(sorted(clip.targets[t].boxes)) for t in wanted[place]}
        needed = {number for numbers in moments.values() for number in numbers}
        shown: dict[int, Image] = {}
        with frames(clip.frames) as source:  # type: ignore[arg-type]
            for frame in source:
                if frame.index in needed:
                    shown[frame.index] = frame.image
        for t, numbers in moments.items():
            target = clip.targets[t]
            views = [_view(shown[n], Box(*map(float, target.boxes[n])), side) for n in numbers if n in shown]
            views += [np.zeros((side, side, 3), np.uint8)] * (3 - len(views))
            pictures.append(captioned(np.hstack(views), f"{clip.name}  {target.name}  {len(target.boxes)}"))
    return pictures


def _moments(numbers: list[int]) -> list[int]:
    return [numbers[0], numbers[len(numbers) // 2], numbers[-1]]


def _view(image: Image, box: Box, side: int) -> Image:
    """A square around a box, twice as large."""
    reach = max(box.w, box.h)
    scale = side / (2 * reach)
    cx, cy = box.centre
    matrix = np.array([[scale, 0, side / 2 - scale * cx], [0, scale, side / 2 - scale * cy]])
    view = np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_AREA), np.uint8)
    return draw(view, Box.from_centre(side / 2, side / 2, box.w * scale, box.h * scale), colour=KEPT)
