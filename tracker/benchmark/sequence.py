"""One sequence of a single-object tracking data set, and the reading of its files: images, numbers, boxes."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker import video
from tracker.video import IMAGE_SUFFIXES, natural_key

Floats = NDArray[np.float64]
Bound = tuple[float, float, float, float]  # left, top, right, bottom, px
Entry = tuple[str, "Callable[[], Sequence]"]  # the name of a sequence, and what reads it


class DataError(OSError):
    """A data set that is missing, incomplete or inconsistent; the message names the file."""


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> Floats:
    """Return boxes as (N, 4) float64; ValueError names a wrong shape."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim == 1 and array.size in (0, 4):
        array = array.reshape(-1, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: expected shape (N, 4) of x, y, w, h, got {array.shape}")
    return array


def present(truth: ArrayLike) -> NDArray[np.bool_]:
    """Return (N,) True where a truth box is finite and has an area, False where the target is absent."""
    boxes = as_boxes(truth, "truth")
    with np.errstate(invalid="ignore"):
        return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


@dataclass(frozen=True)
class Sequence:
    """One video with the boxes of one target.

    name: unique in its data set.
    frames: (N,) image files in order, read when asked for.
    boxes: (N, 4) float64 x, y, w, h, 0-based continuous px; a row of NaN is a frame where the target is absent.
    attributes: names such as "IV" or "OCC", for tables by attribute.
    fps: rate of the video in frames a second, for the latency-aware protocol.
    bound: left, top, right, bottom px to which the data set's own measure clips boxes (GOT-10k), or None.
    anchors: frames from which VOT's anchor runs start, those of backward runs as -1 - frame; () where none are given.
    omitted: frames from which no TRE run starts, because the target is hidden (OTB).
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    attributes: tuple[str, ...] = ()
    fps: float = 30.0
    bound: Bound | None = None
    anchors: tuple[int, ...] = ()
    omitted: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"{self.name}: no frames")
        if self.boxes.shape != (len(self.frames), 4):
            raise DataError(f"{self.name}: {len(self.frames)} frames but {len(self.boxes)} boxes")
        if not present(self.boxes[:1])[0]:
            raise DataError(f"{self.name}: the first box {self.boxes[0].tolist()} is empty, nothing to start on")

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read frame `index` as (H, W, 3) uint8 BGR; DataError names an unreadable file."""
        return read_image(self.frames[index])

    def part(self, start: int, stop: int | None = None) -> "Sequence":
        """Return frames start .. stop - 1 as a sequence of the same name."""
        cut = slice(start, stop)
        return replace(self, frames=self.frames[cut], boxes=self.boxes[cut], anchors=(), omitted=frozenset())

    def size(self) -> tuple[int, int]:
        """Return width and height of the first frame, px."""
        height, width = self.image(0).shape[:2]
        return width, height

    def fingerprint(self) -> str:
        """Return 16 hex digits over the names and sizes of the frame files and the boxes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.boxes).tobytes())
        for path in self.frames:
            digest.update(f"{path.name}:{path.stat().st_size};".encode())
        return digest.hexdigest()[:16]


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """As `video.read_image`; DataError names a file that is missing or cannot be decoded."""
    try:
        return video.read_image(path, flags)
    except video.SourceError as error:
        raise DataError(str(error)) from error


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the image files of a folder in natural order; DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of frames")
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise DataError(f"{folder}: no image files ({', '.join(IMAGE_SUFFIXES)})")
    return tuple(sorted(found, key=natural_key))


def read_text(path: Path) -> str:
    """Read a text file; DataError names one that is missing or not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Read a text file of numbers separated by commas, semicolons, tabs or spaces, (N, K) float64; "nan" is allowed.

    DataError: a file that is missing, empty, ragged or not numeric, with the line.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = [part for part in re.split(r"[,;\s]+", line) if part]
        if not parts:
            continue
        try:
            row = [float(part) for part in parts]
        except ValueError:
            raise DataError(f"{path}, line {number}: not numbers: {line.strip()[:60]!r}") from None
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{path}, line {number}: {len(row)} numbers, the lines before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: empty")
    return np.array(rows, dtype=np.float64)


def read_boxes(path: Path, one_based: bool) -> NDArray[np.float64]:
    """Read x, y, w, h rows, or polygons of 3 and more points, as (N, 4) 0-based boxes; absent targets become NaN.

    one_based: True when the file counts its first pixel as 1; 1 is taken off x and y here and nowhere else.
    DataError: see `read_numbers`, or rows that are neither boxes nor polygons.
    """
    rows = read_numbers(path)
    if rows.shape[1] >= 6 and rows.shape[1] % 2 == 0:
        points = rows.reshape(len(rows), -1, 2)
        rows = np.hstack([points.min(axis=1), np.ptp(points, axis=1)])
    elif rows.shape[1] != 4:
        raise DataError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h) or a polygon (x1, y1, ..)")
    return to_zero_based(rows, one_based)


def to_zero_based(rows: NDArray[np.float64], one_based: bool) -> NDArray[np.float64]:
    """Return (N, 4) boxes 0-based, NaN where they are not finite or have no area."""
    rows = np.where(present(rows)[:, None], rows, np.nan)
    rows[:, :2] -= 1 if one_based else 0
    return rows


def frame_number(path: Path) -> int | None:
    """Return the last number in the name of a frame file, None when it has none."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None
