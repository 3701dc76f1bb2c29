"""Footage in the layouts people have, read lazily into one shape: clips of frames with targets.

`read` yields a Clip at a time and `look` decodes it: what cannot be used is skipped, counted and named in a Tally.
The single-object data sets are read by tracker/benchmark/sequences.py; boxes are 0-based from here on.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import os
import re
import warnings
import xml.etree.ElementTree as ElementTree
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from tracker.benchmark import layouts, sequences
from tracker.benchmark.sequences import DataError, list_images, read_image, read_numbers, read_text
from tracker.geometry import Box
from tracker.video import SourceError, SourceWarning, frames

Layout = Literal[
    "boxes", "otb", "got10k", "lasot", "trackingnet", "uav123", "uav20l", "vot", "davis", "youtubevos", "mot", "coco",
    "voc", "yolo",
]  # fmt: skip
Mask = Callable[[int, int], "NDArray[np.uint8]"]  # (width, height) of the frame -> (H, W) coverage, 0 to 255

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
MIN_SIDE = 6.0  # px, smaller targets are dropped
MIN_VISIBLE = 0.2  # share of a MOT target that must be in view
NAMED = 5  # names kept of everything that is dropped
LOOK = 100  # folders of a level that are searched for the signs of a layout

# What a tree must hold to be taken for a layout: one of these; "+" joins what must be there together.
SIGNS: dict[Layout, tuple[str, ...]] = {
    "boxes": ("boxes.csv", "*/boxes.csv", "*/*/boxes.csv"),
    "otb": ("groundtruth_rect*.txt", "*/groundtruth_rect*.txt"),
    "got10k": ("list.txt + */meta_info.ini",),
    "lasot": ("*/full_occlusion.txt", "*/*/full_occlusion.txt"),
    "trackingnet": ("anno/*.txt + frames/",),
    "uav123": ("anno/UAV123/*.txt + data_seq/",),
    "uav20l": ("anno/UAV20L/*.txt + data_seq/",),
    "vot": ("*/groundtruth.txt + */sequence", "*/groundtruth.txt + */color/", "*/groundtruth.txt of polygons or masks"),
    "davis": ("JPEGImages/480p/ + Annotations/480p/*/*.png",),
    "youtubevos": ("JPEGImages/ + Annotations/*/*.png",),
    "mot": ("gt/gt.txt", "*/gt/gt.txt"),
    "coco": ("*.json of images and annotations", "*/*.json of images and annotations"),
    "voc": ("*.xml", "Annotations/*.xml", "annotations/*.xml"),
    "yolo": ("images/ + labels/", "*/images/ + */labels/", "classes.txt"),
}


@dataclass(frozen=True)
class Target:
    """One target of a clip.

    name: unique in the clip. label: equal for targets of the same kind, where the data set says so.
    boxes: frame number -> (x, y, w, h), 0-based; NaN or no size: absent. masks: frame number -> Mask.
    """

    name: str
    label: str
    boxes: Mapping[int, tuple[float, ...]]
    masks: Mapping[int, Mask] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """Frames with targets; a photo is a clip of one frame.

    name: for messages. source: name for `pairs.mix`. frames: a video, or image files in order; frame numbers count from
    0. shares: boxes are shares of the frame's size, not px. starts: where the data set lets a tracker start (VOT).
    """

    name: str
    source: str
    frames: Path | tuple[Path, ...]
    targets: tuple[Target, ...]
    shares: bool = False
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A target in a decoded frame: its box (frame px), why it cannot be used ("" if it can), and its mask."""

    target: Target
    box: Box
    fault: str
    mask: Mask | None


@dataclass
class Tally:
    """Counts of what was found and of what was dropped, with the first few names; filled while reading."""

    kept: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)  # tracks
    sides: array[float] = field(default_factory=lambda: array("f"))  # sqrt(w h) of the kept boxes, px
    dropped: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def drop(self, reason: str, name: str, count: int = 1) -> None:
        """Count `count` things dropped for `reason`; `name` says which, or where."""
        self.dropped[reason] += count
        if len(self.names[reason]) < NAMED:
            self.names[reason].append(name)

    def lines(self) -> Iterator[str]:
        """For people: what is there, then what was dropped and why."""
        for what in ("sequences", "photos", "frames", "tracks", "boxes", "cut-outs"):
            count, more = self.kept[what], ""
            if not count:
                continue
            if what == "tracks":
                more = f" ({', '.join(f'{n} {source}' for source, n in self.sources.items())})"
            elif what == "boxes" and self.sides:
                low, middle, high = np.quantile(self.sides, (0, 0.5, 1))
                more = f", sqrt(w h) from {low:.0f} to {high:.0f} px, median {middle:.0f}"
            yield f"{count:8d} {what}{more}"
        if self.dropped:
            yield "dropped:"
        for reason, count in self.dropped.most_common():
            names = self.names[reason]
            more = ", .." if len(names) == NAMED and count > NAMED else ""
            yield f"{count:8d} {reason}: {', '.join(names)}{more}"


# --- which layout


def detect(path: Path) -> Layout:
    """Return the layout of a tree or file by its signs (SIGNS). DataError: none fits, or several."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES or path.name == "boxes.csv":
            if not (path.parent / "boxes.csv").is_file():
                raise DataError(f"{path}: no boxes.csv beside it (columns {CLIP_COLUMNS}, frames count from 0)")
            return "boxes"
        if path.suffix.lower() == ".json" and _is_coco(path):
            return "coco"
        raise DataError(f"{path}: neither a video with a boxes.csv beside it nor a COCO json")
    fits = _fitting(path)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(f"{path}: fits {' and '.join(fits)}; say which with --format")
    looked = "".join(f"\n  {layout:12s}{'  or  '.join(signs)}" for layout, signs in SIGNS.items())
    inner = ((p, _fitting(p)) for p in islice(_folders(path), 20))
    near = [f"{p.name} ({', '.join(fit)})" for p, fit in inner if fit]
    hint = f"\nfolders in it that fit: {', '.join(near)}" if near else ""
    raise DataError(f"{path}: in no known layout; looked for{looked}{hint}")


def _fitting(root: Path) -> list[Layout]:
    fits = [layout for layout, signs in SIGNS.items() if any(_shows(root, sign) for sign in signs)]
    if "uav123" in fits and "uav20l" in fits:  # one archive; UAV20L is the same footage, uncut
        fits.remove("uav20l")
    return fits


def _shows(root: Path, sign: str) -> bool:
    if sign.endswith("of polygons or masks"):
        return any(map(_is_region, islice(_matches(root, sign.split()[0]), 1)))
    if sign.endswith("of images and annotations"):
        return any(map(_is_coco, _matches(root, sign.split()[0])))
    return all(next(_matches(root, part), None) for part in sign.split(" + "))


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    """Files (folders, if the pattern ends in "/") below `root`; like glob, but cheap in trees of many folders."""
    head, slash, rest = pattern.partition("/")
    if not slash or not rest:
        with os.scandir(root) as entries:
            for e in entries:
                if fnmatch.fnmatchcase(e.name, head) and not e.name.startswith(".") and e.is_dir() == bool(slash):
                    yield Path(e.path)
        return
    for folder in _folders(root)[:LOOK] if head == "*" else [root / head]:
        if folder.is_dir():
            yield from _matches(folder, rest)


def _is_region(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        line = file.readline(400).strip()
    return line.startswith("m") or len(re.findall(r"[^,;\s]+", line)) >= 6


def _is_coco(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, path.stat().st_size - 2**16))
        tail = file.read()
    return re.search(rb'"(images|annotations)"\s*:\s*\[', head + tail) is not None


# --- reading


def read(path: Path, layout: Layout | None, tally: Tally) -> Iterator[Clip]:
    """Yield the clips of a data set one by one; what cannot be used is dropped into `tally`.

    path: folder of the data set, or a video or COCO json. layout: None finds it out.
    DataError: no such path, no known layout, or nothing of that layout in it.
    """
    layout = layout or detect(path)
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if layout == "boxes":
        return _plain(path, tally)
    if layout == "coco":
        return _coco(path, tally)
    if not path.is_dir():
        raise DataError(f"{path}: not a folder; layout {layout} is one")
    if layout == "otb":
        return _single(_otb(path), layout, tally)
    if layout == "lasot":
        return _single(_lasot(path, tally), layout, tally)
    if layout in ("got10k", "trackingnet", "uav123", "uav20l"):
        return _single(sequences.entries(path, layout, None), layout, tally)
    if layout == "vot":
        return _single(sequences.entries(path, layout, None), layout, tally, _anchors)
    if layout in ("davis", "youtubevos"):
        return _masked(path, layout, tally)
    if layout == "mot":
        return _mot(path, tally)
    if layout == "voc":
        return _voc(path, tally)
    return _yolo(path, tally)


def look(clip: Clip, tally: Tally) -> Iterator[tuple[int, NDArray[np.uint8], list[Seen]]]:
    """Decode the frames of a clip that have boxes: (number, (H, W, 3) uint8 BGR, targets in it); fills `tally`."""
    wanted: dict[int, list[Target]] = defaultdict(list)
    labelled: set[int] = set()
    for target in clip.targets:
        for number, box in target.boxes.items():
            labelled.add(number)
            if np.isfinite(box).all() and min(box[2:]) > 0:
                wanted[number].append(target)
            else:
                tally.drop("target absent (NaN or no size)", f"{clip.name}/{target.name} frame {number}")
    used: set[str] = set()
    for number, image in _decode(clip, wanted, labelled, tally):
        height, width = image.shape[:2]
        scale = (width, height) * 2 if clip.shares else (1, 1, 1, 1)
        seen = []
        for target in wanted.pop(number):
            box = Box(*(float(v) * s for v, s in zip(target.boxes[number], scale, strict=True)))
            fault = _fault(box, width, height)
            if fault:
                tally.drop(fault, f"{clip.name}/{target.name} frame {number}")
            else:
                used.add(target.name)
                tally.kept["boxes"] += 1
                tally.sides.append(float(np.sqrt(box.w * box.h)))
            seen.append(Seen(target, box, fault, target.masks.get(number)))
        yield number, image, seen
        tally.kept["frames"] += any(not s.fault for s in seen)
    for number, targets in sorted(wanted.items()):
        tally.drop("boxes without a frame", f"{clip.name} frame {number}", len(targets))
    if used:
        tally.kept["photos" if isinstance(clip.frames, tuple) and len(clip.frames) == 1 else "sequences"] += 1
        tally.kept["tracks"] += len(used)
        tally.sources[clip.source] += len(used)


def _fault(box: Box, width: int, height: int) -> str:
    if min(box.w, box.h) < MIN_SIDE:
        return f"smaller than {MIN_SIDE:g} px"
    cx, cy = box.centre
    return "" if 0 <= cx < width and 0 <= cy < height else "centre outside the frame"


def _decode(
    clip: Clip, wanted: dict[int, list[Target]], labelled: set[int], tally: Tally
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames that are wanted; takes those out of `wanted` that are there but cannot be decoded."""
    if isinstance(clip.frames, tuple):
        for number in sorted(n for n in wanted if 0 <= n < len(clip.frames) and clip.frames[n].exists()):
            try:
                image = read_image(clip.frames[number])
            except DataError as error:
                tally.drop("images that cannot be read", str(error))
                del wanted[number]
                continue
            yield number, image
        total: int | None = len(clip.frames)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # counted here
            try:
                with frames(clip.frames) as source:
                    total = source.length
                if wanted and max(wanted) >= 0:
                    with frames(clip.frames, stop=max(wanted) + 1) as source:
                        for frame in source:
                            if frame.index in wanted:
                                yield frame.index, np.asarray(frame.image, np.uint8)
            except SourceError as error:
                tally.drop("videos that cannot be read", str(error))
                wanted.clear()
                return
        for number in [n for n in wanted if 0 <= n < (total or 0)]:
            tally.drop("frames that cannot be decoded", f"{clip.name} frame {number}")
            del wanted[number]
    empty = [n for n in range(total or 0) if n not in labelled]
    if empty:
        tally.drop("frames without a box", f"{clip.name} from frame {empty[0]}", len(empty))


def _single(
    entries: Iterable[sequences.Entry],
    layout: str,
    tally: Tally,
    starts: Callable[[Path], tuple[int, ...]] | None = None,
) -> Iterator[Clip]:
    """Sequences of one target."""
    for name, build in entries:
        try:
            sequence = build()
            begin = starts(sequence.frames[0].parent) if starts else ()
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))
            continue
        boxes = {number: tuple(box) for number, box in enumerate(sequence.boxes.tolist())}
        yield Clip(name, layout, sequence.frames, (Target("0", f"{name}/0", boxes),), starts=begin)


def _otb(root: Path) -> Iterator[sequences.Entry]:
    """Sequences that OTB names, with its start and end frames and two targets; others as they lie there."""
    alone = any(root.glob("groundtruth_rect*.txt"))
    root = root.resolve()
    folders = [root] if alone else [p for p in _folders(root) if any(p.glob("groundtruth_rect*.txt"))]
    if not folders:
        raise DataError(f"{root}: no sequence in it; expected <name>/img/*.jpg and <name>/groundtruth_rect.txt")
    official = {name.lower(): name for name in (layouts.OTB100 + " " + layouts.OTB2013).split()}
    for folder in folders:
        if folder.name.lower() in official:
            yield from layouts.otb(folder.parent, [official[folder.name.lower()]], one_based=True)
        else:
            yield from layouts.folder(folder, one_based=True)


def _lasot(root: Path, tally: Tally) -> Iterator[sequences.Entry]:
    listed = root / "testing_set.txt"
    testing = set(read_text(listed).split()) if listed.is_file() else set()
    groups = [root] if any(_matches(root, "*/groundtruth.txt")) else _folders(root)
    groups = [group for group in groups if any(_matches(group, "*/groundtruth.txt"))]
    if not groups:
        raise DataError(f"{root}: no sequence in it; expected <class>/<name>/img/*.jpg and groundtruth.txt")
    for group in groups:
        for name, build in layouts.lasot(group, one_based=True):
            if name in testing:
                tally.drop("sequences kept for testing (testing_set.txt)", name)
            else:
                yield name, build


def _anchors(folder: Path) -> tuple[int, ...]:
    """Frames of a VOT sequence at which a tracker is started, forwards or backwards."""
    for place in (folder, folder.parent):
        if (place / "anchor.value").is_file():
            return tuple(np.flatnonzero(read_numbers(place / "anchor.value").ravel()).tolist())
    return ()


# --- a video or images beside a boxes.csv

CLIP_COLUMNS = "frame,x,y,w,h[,id]"
PHOTO_COLUMNS = "image,x,y,w,h[,label][,mask]"


def _plain(path: Path, tally: Tally) -> Iterator[Clip]:
    """boxes.csv beside a video or images (column frame), or beside images/ of photos (column image).

    Masks, if any: masks/<id>/<frame>.png, or the file named in the column mask.
    """
    video = path if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() else None
    root = path.parent if path.is_file() else path
    files = [root / "boxes.csv"] if path.is_file() else sorted(root.rglob("boxes.csv"), key=lambda p: p.parent)
    if not files:
        raise DataError(f"{root}: no boxes.csv in it (columns {CLIP_COLUMNS} or {PHOTO_COLUMNS})")
    for file in files:
        try:
            columns, rows = _read_csv(file)
            if "image" in columns:
                yield from _plain_photos(file, rows)
            else:
                yield _plain_clip(file, rows, video, tally)
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))


def _read_csv(file: Path) -> tuple[list[str], list[tuple[dict[str, str], tuple[float, ...]]]]:
    reader = csv.reader(read_text(file).splitlines())
    columns = [name.strip().lower() for name in next(reader, [])]
    if not {"x", "y", "w", "h"} < set(columns) or ("frame" in columns) == ("image" in columns):
        raise DataError(f"{file}: columns are {','.join(columns)}; expected {CLIP_COLUMNS} or {PHOTO_COLUMNS}")
    rows = []
    for line in reader:
        row = dict(zip(columns, map(str.strip, line), strict=False))
        if not any(row.values()):
            continue
        try:
            box = tuple(float(row[k] or "nan") for k in "xywh")
            if "frame" in row:
                int(row["frame"])
        except (KeyError, ValueError):
            raise DataError(f"{file}, line {reader.line_num}: not a box: {','.join(line)[:60]!r}") from None
        rows.append((row, box))
    return columns, rows


def _plain_clip(
    file: Path, rows: list[tuple[dict[str, str], tuple[float, ...]]], video: Path | None, tally: Tally
) -> Clip:
    folder = file.parent
    name = folder.resolve().name
    boxes: dict[str, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for row, box in rows:
        target, number = row.get("id") or "0", int(row["frame"])
        if number in boxes[target]:
            tally.drop("second box of a target in a frame", f"{name}/{target} frame {number}")
        else:
            boxes[target][number] = box
    targets = []
    for target, observed in boxes.items():
        masks = {
            int(p.stem): partial(_mask_file, p) for p in (folder / "masks" / target).glob("*.png") if p.stem.isdigit()
        }
        targets.append(Target(target, f"{name}/{target}", observed, masks))
    return Clip(name, "video", video or _frames_beside(folder), tuple(targets))


def _frames_beside(folder: Path) -> Path | tuple[Path, ...]:
    videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    if len(videos) == 1:
        return videos[0]
    if videos:
        raise DataError(f"{folder}: {len(videos)} videos beside one boxes.csv ({videos[0].name}, {videos[1].name}, ..)")
    for place in (folder, *(p for p in _folders(folder) if p.name != "masks")):
        if any(p.suffix.lower() in sequences.IMAGE_SUFFIXES for p in place.iterdir()):
            return list_images(place)
    raise DataError(f"{folder}: boxes.csv without a video or a folder of images beside it")


def _plain_photos(file: Path, rows: list[tuple[dict[str, str], tuple[float, ...]]]) -> Iterator[Clip]:
    folder = file.parent
    source = folder.resolve().name
    images = folder / "images" if (folder / "images").is_dir() else folder
    photos: dict[str, list[Target]] = defaultdict(list)
    for row, box in rows:
        masks = {0: partial(_mask_file, folder / row["mask"])} if row.get("mask") else {}
        targets = photos[row["image"]]
        targets.append(Target(str(len(targets)), f"{source}/{row.get('label', '')}", {0: box}, masks))
    for name, targets in photos.items():
        yield Clip(f"{source}/{name}", source, (images / name,), tuple(targets))


def _mask_file(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    mask = read_image(path, cv2.IMREAD_GRAYSCALE)
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return mask


# --- DAVIS and YouTube-VOS: an image of object numbers a frame


def _masked(root: Path, layout: Layout, tally: Tally) -> Iterator[Clip]:
    size = "480p" if layout == "davis" else ""
    held = root / "ImageSets" / "2017" / "val.txt"
    testing = set(read_text(held).split()) if layout == "davis" and held.is_file() else set()
    kinds: dict[str, Any] = _json(root / "meta.json").get("videos", {}) if (root / "meta.json").is_file() else {}
    folders = _folders(root / "Annotations" / size) if (root / "Annotations" / size).is_dir() else []
    if not folders:
        raise DataError(f"{root}: no sequence in it; expected Annotations/{size}/<name>/*.png and JPEGImages")
    for folder in folders:
        name = folder.name
        if name in testing:
            tally.drop("sequences kept for testing (ImageSets/2017/val.txt)", name)
            continue
        try:
            images, files = list_images(root / "JPEGImages" / size / name), list_images(folder)
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))
            continue
        numbers = {path.stem: number for number, path in enumerate(images)}
        boxes: dict[int, dict[int, tuple[float, ...]]] = defaultdict(dict)
        masks: dict[int, dict[int, Mask]] = defaultdict(dict)
        for file in files:
            if file.stem not in numbers:
                tally.drop("masks without a frame", str(file))
                continue
            try:
                objects = _objects(file)
            except DataError as error:
                tally.drop("masks that cannot be read", str(error))
                continue
            for value, mask in objects.items():
                x, y, w, h = cv2.boundingRect(mask)
                boxes[value][numbers[file.stem]] = (x, y, w, h)
                masks[value][numbers[file.stem]] = partial(_object_mask, file, value)
        if not boxes:
            tally.drop("sequences that cannot be used", f"{name}: no object in its masks")
            continue
        known = kinds.get(name, {}).get("objects", {})
        targets = []
        for value in sorted(boxes):
            kind = known.get(str(value), {}).get("category")
            label = f"{layout}/{kind}" if kind else f"{name}/{value}"
            targets.append(Target(str(value), label, boxes[value], masks[value]))
        yield Clip(name, layout, images, tuple(targets))


def _objects(file: Path) -> dict[int, NDArray[np.uint8]]:
    """Masks (H, W) of 0 and 255 of the objects in a mask file: palette colours, grey values, or black and white."""
    image = read_image(file, cv2.IMREAD_UNCHANGED)  # cv2 resolves a palette to its colours
    if image.ndim == 2:
        return {int(v): np.where(image == v, 255, 0).astype(np.uint8) for v in np.unique(image[image > 0])}
    codes = image[..., :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    found = {}
    for code in np.unique(codes[codes > 0]).tolist():
        bgr = code & 255, code >> 8 & 255, code >> 16
        # bit k of the number is bit 7 - k // 3 of red, green or blue, in turn: the palette of PASCAL VOC and DAVIS
        value = sum((bgr[2 - k % 3] >> (7 - k // 3) & 1) << k for k in range(8))
        found[value] = np.where(codes == code, 255, 0).astype(np.uint8)
    return found


def _object_mask(file: Path, value: int, width: int, height: int) -> NDArray[np.uint8]:
    mask = _objects(file)[value]
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return mask


# --- MOT


def _mot(root: Path, tally: Tally) -> Iterator[Clip]:
    """Lines of frame, identity, left, top, width, height, flag[, class, visibility]; all count from 1."""
    folders = [p for p in (root, *_folders(root)) if (p / "gt" / "gt.txt").is_file()]
    if not folders:
        raise DataError(f"{root}: no sequence in it; expected <name>/gt/gt.txt and <name>/img1/*.jpg")
    done: set[str] = set()
    for folder in folders:
        name = folder.resolve().name
        footage = re.sub(r"-(DPM|FRCNN|SDP)$", "", name)  # MOT17 comes three times, once for each detector
        if footage in done:
            tally.drop("copies of a sequence for another detector", name)
            continue
        try:
            rows = read_numbers(folder / "gt" / "gt.txt")
            if rows.shape[1] < 6:
                raise DataError(f"{folder / 'gt' / 'gt.txt'}: {rows.shape[1]} numbers a line, expected 6 to 10")
            info = folder / "seqinfo.ini"
            place = re.search(r"(?m)^imDir\s*=\s*(\S+)", read_text(info)) if info.is_file() else None
            images = list_images(folder / (place[1] if place else "img1"))
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))
            continue
        done.add(footage)
        boxes: dict[int, dict[int, tuple[float, ...]]] = defaultdict(dict)
        for row in rows.tolist():
            number, identity = int(row[0]) - 1, int(row[1])
            where = f"{name}/{identity} frame {number}"
            if len(row) > 6 and row[6] == 0:
                tally.drop("boxes that the data set says to ignore", where)
            elif len(row) == 9 and row[8] < MIN_VISIBLE:
                tally.drop(f"less than {MIN_VISIBLE:.0%} visible", where)
            elif number in boxes[identity]:
                tally.drop("second box of a target in a frame", where)
            else:
                boxes[identity][number] = (row[2] - 1, row[3] - 1, row[4], row[5])
        targets = (Target(str(i), f"{name}/{i}", observed) for i, observed in boxes.items() if observed)
        yield Clip(name, "mot", images, tuple(targets))


# --- photos: COCO, Pascal VOC, YOLO


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(file))
    except ValueError as error:
        raise DataError(f"{file}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: expected an object, got {type(data).__name__}")
    return data


def _coco(path: Path, tally: Tally) -> Iterator[Clip]:
    if path.is_file():
        root, files = path.parent, [path]
        root = root.parent if root.name.lower() == "annotations" else root
    else:
        root = path
        files = sorted([*_matches(root, "*.json"), *_matches(root, "*/*.json")])
        files = [p for p in files if p.name.startswith("instances_")] or files  # not captions and keypoints of the same
        files = [p for p in files if _is_coco(p)]
    if not files:
        raise DataError(f"{path}: no json of images and annotations in it")
    for file in files:
        yield from _coco_file(file, root, tally)


def _coco_file(file: Path, root: Path, tally: Tally) -> Iterator[Clip]:
    data = _json(file)
    source = root.resolve().name
    split = file.stem.split("_")[-1]  # instances_train2017 -> train2017
    places = [root / split, root / "images" / split, root / "images", root, file.parent]
    try:
        names = {c["id"]: str(c["name"]) for c in data.get("categories", [])}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for one in data["annotations"]:
            by_image[one["image_id"]].append(one)
        images = [(image["id"], str(image["file_name"])) for image in data["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: not in COCO's form: {type(error).__name__} {error}") from None
    for key, name in images:
        place = next((p for p in places if (p / name).is_file()), root)
        targets: list[Target] = []
        for one in by_image.pop(key, []):
            where = f"{source}/{name} annotation {one.get('id')}"
            box = one.get("bbox")
            if one.get("iscrowd"):
                tally.drop("crowds", where)
            elif not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
                tally.drop("annotations without a box", where)
            else:
                label = f"{source}/{names.get(one.get('category_id'), '')}"
                targets.append(Target(str(len(targets)), label, {0: tuple(box)}, _coco_mask(one.get("segmentation"))))
        yield Clip(f"{source}/{name}", source, (place / name,), tuple(targets))
    for key, rest in by_image.items():
        tally.drop("boxes without a frame", f"{file.name} image {key}", len(rest))


def _coco_mask(shape: Any) -> dict[int, Mask]:
    if isinstance(shape, list) and shape:
        return {0: partial(_fill, shape, False)}
    if isinstance(shape, dict) and isinstance(shape.get("counts"), list):  # the packed form needs pycocotools: no mask
        return {0: partial(_runs, shape)}
    return {}


def _fill(polygons: list[list[float]], shares: bool, width: int, height: int) -> NDArray[np.uint8]:
    """Mask of polygons x1, y1, x2, y2, ... in px or in shares of the frame."""
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        try:
            points = np.asarray(polygon, np.float64).reshape(-1, 2) * ((width, height) if shares else 1)
        except (TypeError, ValueError):
            raise DataError(f"not a polygon x1, y1, x2, y2, ..: {str(polygon)[:60]}") from None
        if len(points):
            cv2.fillPoly(mask, [np.round((points - 0.5) * 16).astype(np.int32)], 255, shift=4)  # cv2: pixel i at i
    return mask


def _runs(shape: dict[str, Any], width: int, height: int) -> NDArray[np.uint8]:
    """Mask of run lengths, column by column, background first."""
    try:
        flat = np.repeat(np.arange(len(shape["counts"])) % 2 * 255, shape["counts"])
        return np.ascontiguousarray(flat.reshape(width, height).T, np.uint8)
    except (TypeError, ValueError):
        raise DataError(f"run lengths that do not make up a mask of {width} x {height}") from None


def _voc(root: Path, tally: Tally) -> Iterator[Clip]:
    """One xml a photo: xmin, ymin, xmax, ymax count pixels from 1, both ends included."""
    source = root.resolve().name
    folder = next((p for p in (root / "Annotations", root / "annotations") if p.is_dir()), root)
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DataError(f"{root}: no xml in it; expected Annotations/*.xml and JPEGImages/*.jpg")
    places = [root / "JPEGImages", root / "images", folder]
    for file in files:
        try:
            tree = ElementTree.fromstring(read_text(file))
            named = tree.findtext("filename") or f"{file.stem}.jpg"
            targets: list[Target] = []
            for one in tree.iter("object"):
                x0, y0, x1, y1 = (float(one.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
                label = f"{source}/{one.findtext('name', '')}"
                targets.append(Target(str(len(targets)), label, {0: (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)}))
        except (DataError, ElementTree.ParseError, ValueError) as error:
            tally.drop("labels that cannot be read", f"{file.name}: {error}")
            continue
        names = [named, *(file.stem + suffix for suffix in sequences.IMAGE_SUFFIXES)]
        image = next((p / n for n in names for p in places if (p / n).is_file()), places[0] / named)
        yield Clip(f"{source}/{image.name}", source, (image,), tuple(targets))


def _yolo(root: Path, tally: Tally) -> Iterator[Clip]:
    """One txt a photo, lines of class, centre x, y, width, height as shares, or of class and a polygon."""
    source = root.resolve().name
    pairs = [(base / "images", base / "labels") for base in (root, *_folders(root))]
    pairs = [(images, labels) for images, labels in pairs if images.is_dir() and labels.is_dir()] or [(root, root)]
    names = _yolo_names(root)
    found = False
    for images, labels in pairs:
        texts = {p.relative_to(labels).with_suffix("") for p in labels.rglob("*.txt") if p.name != "classes.txt"}
        for image in sorted(p for p in images.rglob("*") if p.suffix.lower() in sequences.IMAGE_SUFFIXES):
            key = image.relative_to(images).with_suffix("")
            targets: list[Target] = []
            if key in texts:
                texts.remove(key)
                found = True
                try:
                    targets = _yolo_targets((labels / key).with_name(key.name + ".txt"), source, names)
                except DataError as error:
                    tally.drop("labels that cannot be read", str(error))
                    continue
            yield Clip(f"{source}/{image.name}", source, (image,), tuple(targets), shares=True)
        for key in sorted(texts):
            tally.drop("labels without a frame", f"{key}.txt")
    if not found:
        raise DataError(f"{root}: no photo with a label in it; expected images/*.jpg and labels/*.txt")


def _yolo_targets(file: Path, source: str, names: dict[str, str]) -> list[Target]:
    targets: list[Target] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        kind, *words = line.split() or [""]
        if not kind:
            continue
        try:
            values = [float(word) for word in words]
            if len(values) != 4 and (len(values) < 6 or len(values) % 2):
                raise ValueError
        except ValueError:
            raise DataError(f"{file}, line {number}: neither class x y w h nor a polygon: {line[:60]!r}") from None
        masks: dict[int, Mask] = {}
        if len(values) == 4:
            cx, cy, w, h = values
            box = (cx - w / 2, cy - h / 2, w, h)
        else:
            points = np.reshape(values, (-1, 2))
            box = (*points.min(0).tolist(), *np.ptp(points, axis=0).tolist())
            masks = {0: partial(_fill, [values], True)}
        targets.append(Target(str(len(targets)), f"{source}/{names.get(kind, kind)}", {0: box}, masks))
    return targets


def _yolo_names(root: Path) -> dict[str, str]:
    for file in (root / "data.yaml", root / "classes.txt"):
        if file.is_file():
            if file.suffix == ".txt":
                return {str(i): name for i, name in enumerate(read_text(file).split("\n"))}
            try:
                data = yaml.safe_load(read_text(file))
            except yaml.YAMLError as error:
                raise DataError(f"{file}: not YAML: {error}") from None
            names = data.get("names") if isinstance(data, dict) else None
            pairs = names.items() if isinstance(names, dict) else enumerate(names or [])
            return {str(i): str(name) for i, name in pairs}
    return {}
