"""Footage with boxes, decoded once into one flat file of pixels that the sampler maps into memory.

A store is a folder: pixels.bin (raw BGR frames and BGRA cut-outs, end to end) and index.npz, which is written last: a
store without it is unfinished and refused.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.crop import mean_colour

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
MAX_CUTOUT = 224  # px, longest side of a stored cut-out
MIN_SIDE = 6.0  # px, smaller targets are dropped
CUTOUT_EVERY = 4  # frames between the cut-outs kept of one track


class StoreError(ValueError):
    """Footage or a store that cannot be used; the message says why."""


@dataclass(frozen=True)
class Track:
    """One target: in `images[i]` (index into the store) it is at `boxes[i]` (x, y, w, h px); cut-out index or -1."""

    source: str
    label: str
    images: NDArray[np.int64]
    boxes: NDArray[np.float32]
    cutouts: NDArray[np.int64]


class Store:
    """Random access to the images, tracks and cut-outs of a prepared folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self.folder / "index.npz"
        if not index.is_file():
            hint = f"make one with: python -m train prepare DATA --store {self.folder}"
            raise StoreError(f"{self.folder} is not a finished store; {hint}")
        with np.load(index, allow_pickle=False) as data:
            self._images, self._cutouts, self._means = data["images"], data["cutouts"], data["means"]
            start, observed, boxes, cut = data["start"], data["observed"], data["boxes"], data["cut"]
            names = json.loads(str(data["names"]))
        self._pixels = np.memmap(self.folder / "pixels.bin", np.uint8, "r")
        self.tracks = [
            Track(source, label, observed[a:b], boxes[a:b], cut[a:b])
            for (source, label), a, b in zip(names, start[:-1], start[1:], strict=True)
        ]
        self.by_source: dict[str, list[int]] = defaultdict(list)
        self.by_label: dict[str, list[int]] = defaultdict(list)  # tracks with cut-outs only
        for i, track in enumerate(self.tracks):
            self.by_source[track.source].append(i)
            if (track.cutouts >= 0).any():
                self.by_label[track.label].append(i)

    @property
    def num_images(self) -> int:
        """How many frames and photos there are."""
        return len(self._images)

    @property
    def num_cutouts(self) -> int:
        """How many cut-outs there are."""
        return len(self._cutouts)

    def image(self, i: int) -> NDArray[np.uint8]:
        """(H, W, 3) BGR, read-only."""
        offset, h, w = self._images[i]
        return self._pixels[offset : offset + h * w * 3].reshape(h, w, 3)

    def mean_colour(self, i: int) -> tuple[float, float, float]:
        """Mean BGR of image i."""
        blue, green, red = self._means[i].tolist()
        return blue, green, red

    def cutout(self, i: int) -> NDArray[np.uint8]:
        """(H, W, 4) BGR and coverage, cropped to the mask, read-only."""
        offset, h, w = self._cutouts[i]
        return self._pixels[offset : offset + h * w * 4].reshape(h, w, 4)


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.offset = 0
        self.images: list[tuple[int, int, int]] = []
        self.means: list[tuple[float, float, float]] = []
        self.cutouts: list[tuple[int, int, int]] = []
        self.tracks: dict[tuple[str, str, str], list[tuple[int, tuple[float, ...], int]]] = defaultdict(list)

    def _append(self, pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
        entry = self.offset, pixels.shape[0], pixels.shape[1]
        self.file.write(np.ascontiguousarray(pixels).tobytes())
        self.offset += pixels.size
        return entry

    def image(self, pixels: NDArray[np.uint8]) -> int:
        self.images.append(self._append(pixels))
        self.means.append(mean_colour(pixels))
        return len(self.images) - 1

    def cutout(self, image: NDArray[np.uint8], mask_file: Path) -> int:
        mask = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            return -1
        if mask.shape != image.shape[:2]:
            mask = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        x, y, w, h = cv2.boundingRect((mask > 127).astype(np.uint8))
        if min(w, h) < 2 * MIN_SIDE:
            return -1
        patch = np.dstack([image[y : y + h, x : x + w], mask[y : y + h, x : x + w]])
        scale = MAX_CUTOUT / max(w, h)
        if scale < 1:
            patch = cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self.cutouts.append(self._append(patch))
        return len(self.cutouts) - 1


def prepare(sources: list[Path], folder: Path) -> dict[str, int]:
    """Decode `sources` into a new store at `folder`; returns counts of what was kept and dropped.

    sources: folders of clips (each a folder with boxes.csv beside clip.mp4 or images) or of stills (images/ beside
    boxes.csv). Raises StoreError when nothing usable is found. An interrupted run leaves no index and is refused later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.npz").unlink(missing_ok=True)
    counts: dict[str, int] = defaultdict(int)
    with open(folder / "pixels.bin", "wb") as file:
        writer = _Writer(file)
        folders = [d for source in sources for d in sorted({p.parent for p in Path(source).rglob("boxes.csv")})]
        for data in (bar := tqdm(folders, desc="prepare", unit="folder", mininterval=1)):
            bar.set_postfix_str(data.name, refresh=False)
            if (data / "images").is_dir():
                _add_stills(writer, data, counts)
            else:
                _add_clip(writer, data, counts)
    if not writer.tracks:
        raise StoreError(f"no footage with a boxes.csv beside it in {', '.join(map(str, sources))}")
    names = [(source, label) for source, label, _ in writer.tracks]
    rows = [row for track in writer.tracks.values() for row in track]
    partial = folder / "index.partial.npz"
    np.savez(
        partial,
        images=np.array(writer.images, np.int64).reshape(-1, 3),
        means=np.array(writer.means, np.float64).reshape(-1, 3),
        cutouts=np.array(writer.cutouts, np.int64).reshape(-1, 3),
        start=np.cumsum([0] + [len(t) for t in writer.tracks.values()]),
        observed=np.array([r[0] for r in rows], np.int64),
        boxes=np.array([r[1] for r in rows], np.float32),
        cut=np.array([r[2] for r in rows], np.int64),
        names=json.dumps(names),
    )
    partial.rename(folder / "index.npz")
    counts["tracks"] = len(names)
    counts["boxes"] = len(rows)
    counts["cut-outs"] = len(writer.cutouts)
    return dict(counts)


def _usable(box: tuple[float, ...], width: int, height: int) -> bool:
    x, y, w, h = box
    return bool(np.isfinite(box).all()) and min(w, h) >= MIN_SIDE and 0 <= x + w / 2 < width and 0 <= y + h / 2 < height


def _clip_frames(data: Path) -> Iterator[NDArray[np.uint8]]:
    videos = sorted(p for p in data.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        capture = cv2.VideoCapture(str(videos[0]))
        try:
            while (got := capture.read())[0]:
                yield np.asarray(got[1], np.uint8)
        finally:
            capture.release()
        return
    for path in sorted(p for p in data.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and "masks" not in p.parts):
        image = cv2.imread(str(path))
        if image is not None:
            yield np.asarray(image, np.uint8)


def _add_clip(writer: _Writer, data: Path, counts: dict[str, int]) -> None:
    rows: dict[int, list[tuple[str, tuple[float, ...]]]] = defaultdict(list)
    with open(data / "boxes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[k]) for k in "xywh")
            rows[int(row["frame"])].append((row.get("id") or "0", box))
    for number, image in enumerate(_clip_frames(data)):
        index = -1
        for target, box in rows.pop(number, []):
            if not _usable(box, image.shape[1], image.shape[0]):
                counts["boxes dropped (too small or outside)"] += 1
                continue
            if index < 0:
                index = writer.image(image)
                counts["frames"] += 1
            mask = data / "masks" / target / f"{number:05d}.png"
            cut = writer.cutout(image, mask) if number % CUTOUT_EVERY == 0 and mask.is_file() else -1
            writer.tracks["video", f"{data.name}/{target}", str(data)].append((index, box, cut))
    counts["boxes without a frame"] += sum(map(len, rows.values()))


def _add_stills(writer: _Writer, data: Path, counts: dict[str, int]) -> None:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with open(data / "boxes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["image"]].append(row)
    for name, objects in rows.items():
        read = cv2.imread(str(data / "images" / name))
        if read is None:
            counts["images that cannot be read"] += 1
            continue
        image = np.asarray(read, np.uint8)
        index = writer.image(image)
        counts["stills"] += 1
        for i, row in enumerate(objects):
            box = tuple(float(row[k]) for k in "xywh")
            if not _usable(box, image.shape[1], image.shape[0]):
                counts["boxes dropped (too small or outside)"] += 1
                continue
            cut = writer.cutout(image, data / row["mask"]) if row.get("mask") else -1
            label = f"{data.name}/{row.get('label', '')}"
            writer.tracks[data.name, label, f"{name}#{i}"].append((index, box, cut))
