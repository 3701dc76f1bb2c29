"""Footage with boxes, decoded once into one flat file of pixels that the sampler maps into memory.

A store is a folder: pixels.bin (raw BGR frames and BGRA cut-outs, end to end) and index.npz, which is written last: a
store without it is unfinished and refused.
"""

from __future__ import annotations

import copy
import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.crop import mean_colour
from tracker.errors import DISK_FULL, DataError, InputError
from tracker.footage.clip import MIN_SIDE, Clip, Mask, Tally, seen_frames
from tracker.footage.layouts import detect, read
from tracker.footage.output import only_run

MAX_CUTOUT = 224  # px, longest side of a stored cut-out
CUTOUT_EVERY = 4  # frames between the cut-outs kept of one track

# Each array of index.npz: its type and its columns; None: one number a row.
COLUMNS: dict[str, tuple[type[np.generic], int | None]] = {
    "images": (np.int64, 3),  # offset in pixels.bin, height, width
    "means": (np.float64, 3),
    "cutouts": (np.int64, 3),  # as of images
    "start": (np.int64, None),  # of each track in the next three, and their end
    "observed": (np.int64, None),  # index into images
    "boxes": (np.float32, 4),
    "cut": (np.int64, None),  # index into cutouts or -1
}
LARGEST = 2**16  # px, side of an image
# What np.load raises for an archive of other bytes.
UNREADABLE = (
    ValueError, TypeError, KeyError, EOFError, OSError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


class StoreError(InputError):
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
            hint = f"make one with: siamtrack train prepare DATA --store {self.folder}"
            raise StoreError(f"{self.folder} is not a finished store; {hint}")
        try:
            with np.load(index, allow_pickle=False) as data:
                names = json.loads(str(data["names"]))
                part = {name: data[name].astype(kind, "C", "same_kind") for name, (kind, _) in COLUMNS.items()}
            size = _check_index(part, names)
        except UNREADABLE as error:
            said = "it holds Python objects" if "pickle" in str(error) else error  # NumPy advises to run them
            raise StoreError(f"{index} is damaged ({said}); prepare the store again") from None
        pixels = self.folder / "pixels.bin"
        if not pixels.is_file() or pixels.stat().st_size != size:
            raise StoreError(f"{pixels} does not hold the {size} bytes of its index; prepare the store again")
        self._files = [np.memmap(pixels, np.uint8, "r")]
        self._images, self._cutouts = (np.insert(part[name], 0, 0, axis=1) for name in ("images", "cutouts"))
        self._means = part["means"]
        self._set_tracks(
            [
                Track(source, label, part["observed"][a:b], part["boxes"][a:b], part["cut"][a:b])
                for (source, label), a, b in zip(names, part["start"][:-1], part["start"][1:], strict=True)
            ]
        )

    def _set_tracks(self, tracks: list[Track]) -> None:
        self.tracks = tracks
        self.by_source: dict[str, list[int]] = defaultdict(list)
        self.by_label: dict[str, list[int]] = defaultdict(list)  # tracks with cut-outs only
        for i, track in enumerate(tracks):
            self.by_source[track.source].append(i)
            if (track.cutouts >= 0).any():
                self.by_label[track.label].append(i)

    def joined(self, other: Store, prefix: str) -> Store:
        """This store and `other` as one; the names of the sources of `other` get `prefix`."""
        both = copy.copy(self)
        both._files = self._files + other._files
        shift = [len(self._files), 0, 0, 0]
        both._images = np.concatenate([self._images, other._images + shift])
        both._cutouts = np.concatenate([self._cutouts, other._cutouts + shift])
        both._means = np.concatenate([self._means, other._means])
        moved = [
            replace(
                track,
                source=prefix + track.source,
                images=track.images + self.num_images,
                cutouts=np.where(track.cutouts < 0, -1, track.cutouts + self.num_cutouts),
            )
            for track in other.tracks
        ]
        both._set_tracks(self.tracks + moved)
        return both

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
        file, offset, h, w = self._images[i]
        return self._files[file][offset : offset + h * w * 3].reshape(h, w, 3)

    def mean_colour(self, i: int) -> tuple[float, float, float]:
        """Mean BGR of image i."""
        blue, green, red = self._means[i].tolist()
        return blue, green, red

    def cutout(self, i: int) -> NDArray[np.uint8]:
        """(H, W, 4) BGR and coverage, cropped to the mask, read-only."""
        file, offset, h, w = self._cutouts[i]
        return self._files[file][offset : offset + h * w * 4].reshape(h, w, 4)


def _check_index(part: dict[str, NDArray[Any]], names: Any) -> int:
    """The bytes of pixels.bin that an index tells of; ValueError: it says what cannot be."""

    def need(true: bool | np.bool_, what: str) -> None:
        if not true:
            raise InputError(what)

    for name, (_, columns) in COLUMNS.items():
        shape = part[name].shape
        need(len(shape) > 0 and shape[1:] == (() if columns is None else (columns,)), f"{name}: of shape {shape}")
    places = np.concatenate(
        [np.insert(part[name], 3, depth, axis=1) for name, depth in (("images", 3), ("cutouts", 4))]
    )
    need(((places[:, 1:] > 0) & (places[:, 1:] < LARGEST)).all(), "images, cutouts: sides that cannot be")
    offset, *sides = places[places[:, 0].argsort()].T
    sizes = np.prod(sides, axis=0)
    end = sizes.cumsum()
    need((offset == end - sizes).all(), "images, cutouts: not end to end")
    tracks, rows = part["start"], len(part["observed"])
    pairs = isinstance(names, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in names)
    need(pairs and all(isinstance(text, str) for pair in names for text in pair), "names: not pairs of texts")
    need(len(tracks) == len(names) + 1, f"{len(names)} names of {len(tracks) - 1} tracks")
    need(tracks[0] == 0 and tracks[-1] == rows and (np.diff(tracks) > 0).all(), "start: not rising to the last row")
    need(len(part["boxes"]) == len(part["cut"]) == rows, "boxes, cut: not a row for each in observed")
    need(len(part["means"]) == len(part["images"]) and np.isfinite(part["means"]).all(), "means: not one an image")
    need(np.isfinite(part["boxes"]).all() and (part["boxes"][:, 2:] > 0).all(), "boxes: not finite, or without size")
    for name, least, of in (("observed", 0, "images"), ("cut", -1, "cutouts")):
        need(((part[name] >= least) & (part[name] < len(part[of]))).all(), f"{name}: not rows of {of}")
    return int(end[-1]) if len(end) else 0


class _Writer:
    def __init__(self, file: BinaryIO, tally: Tally) -> None:
        self.file, self.tally = file, tally
        self.offset = 0
        self.images: list[tuple[int, int, int]] = []
        self.means: list[tuple[float, float, float]] = []
        self.cutouts: list[tuple[int, int, int]] = []
        self.names: list[tuple[str, str]] = []
        self.tracks: list[list[tuple[int, tuple[float, ...], int]]] = []  # image, box, cut-out or -1

    def _append(self, pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
        entry = self.offset, pixels.shape[0], pixels.shape[1]
        self.file.write(np.ascontiguousarray(pixels).tobytes())
        self.offset += pixels.size
        return entry

    def clip(self, clip: Clip) -> None:
        """Append the frames of a clip that have a usable box, and its tracks."""
        tracks: dict[str, list[tuple[int, tuple[float, ...], int]]] = defaultdict(list)
        last: dict[str, int] = {}  # frame of the last cut-out
        for number, image, seen in seen_frames(clip, self.tally):
            usable = [one for one in seen if not one.fault]
            if not usable:
                continue
            self.images.append(self._append(image))
            self.means.append(mean_colour(image))
            for one in usable:
                name, cut = one.target.name, -1
                if one.mask and number - last.get(name, -CUTOUT_EVERY) >= CUTOUT_EVERY:
                    last[name] = number
                    cut = self._cutout(image, one.mask, f"{clip.name}/{name} frame {number}")
                if name not in tracks:
                    self.names.append((clip.source, one.target.label))
                    self.tracks.append(tracks[name])
                tracks[name].append((len(self.images) - 1, one.box, cut))

    def _cutout(self, image: NDArray[np.uint8], read_mask: Mask, where: str) -> int:
        try:
            mask = read_mask(image.shape[1], image.shape[0])
        except DataError as error:
            self.tally.drop("masks that cannot be read", f"{where}: {error}")
            return -1
        x, y, w, h = cv2.boundingRect((mask > 127).astype(np.uint8))
        if min(w, h) < 2 * MIN_SIDE:
            return -1
        patch = np.dstack([image[y : y + h, x : x + w], mask[y : y + h, x : x + w]])
        scale = MAX_CUTOUT / max(w, h)
        if scale < 1:
            patch = np.asarray(cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        self.cutouts.append(self._append(patch))
        self.tally.kept["cut-outs"] += 1
        return len(self.cutouts) - 1

    def index(self, path: Path) -> None:
        rows = list(chain.from_iterable(self.tracks))
        np.savez(
            path,
            images=np.array(self.images, np.int64).reshape(-1, 3),
            means=np.array(self.means, np.float64).reshape(-1, 3),
            cutouts=np.array(self.cutouts, np.int64).reshape(-1, 3),
            start=np.cumsum([0] + [len(t) for t in self.tracks]),
            observed=np.array([r[0] for r in rows], np.int64),
            boxes=np.array([r[1] for r in rows], np.float32),
            cut=np.array([r[2] for r in rows], np.int64),
            names=json.dumps(self.names),
        )


def prepare(sources: Sequence[Path], folder: Path, layout: str | None = None) -> Tally:
    """Decode `sources` into a new store at `folder`; returns counts of what was kept and dropped.

    sources: data sets or clips, see `layouts.read`. layout: of all of them; None finds it out for each.
    A store that stands there is replaced when the new one is whole; an interrupted run leaves it as it was.
    Raises DataError for a layout that is not known or when nothing can be used, StoreError when the disk is full.
    """
    known = [(Path(source), layout or detect(Path(source))) for source in sources]
    with only_run(folder):
        return _prepare(known, folder)


def _prepare(known: list[tuple[Path, str]], folder: Path) -> Tally:
    tally = Tally()
    pixels, index = folder / "pixels.partial.bin", folder / "index.partial.npz"
    try:
        with open(pixels, "wb") as file:
            writer = _Writer(file, tally)
            for source, form in known:
                for clip in (bar := tqdm(read(source, form, tally), desc=source.name, unit="clip", mininterval=1)):
                    bar.set_postfix_str(clip.name, refresh=False)
                    writer.clip(clip)
        if not writer.tracks:
            raise DataError(
                "\n".join([f"no usable box in {', '.join(str(source) for source, _ in known)}", *tally.lines()])
            )
        writer.index(index)
        (folder / "index.npz").unlink(missing_ok=True)  # from here to the end there is no store
        pixels.replace(folder / "pixels.bin")
        index.replace(folder / "index.npz")
    except OSError as error:
        if error.errno in DISK_FULL:
            written = pixels.stat().st_size / 1e9 if pixels.is_file() else 0
            raise StoreError(f"{folder}: {error.strerror} after {written:.1f} GB; no store was written") from None
        raise
    finally:
        pixels.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
    return tally
