"""Files of data sets: images, folders of images, texts, numbers and boxes, each fault named with its file."""

from __future__ import annotations

import contextlib
import csv
import fnmatch
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.config import parse_json
from tracker.errors import ConfigError, DataError, InputError, SourceError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
Floats = NDArray[np.float64]
LOOK = 100  # folders of a level that are searched for the signs of a layout


def natural_key(path: Path) -> list[Any]:
    """Sort key that puts img9.jpg before img10.jpg."""
    parts: list[Any] = re.split(r"(\d+)", str(path).lower())
    parts[1::2] = map(int, parts[1::2])
    return [*parts, str(path)]


def _is_file(path: Path) -> bool:
    """Whether this is a file, or a link that leads nowhere: the frame in it is missing, but has its place."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and _is_file(path)


def read_image(path: str | Path, flags: int = cv2.IMREAD_COLOR, least: int | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, turned as its EXIF data say; what else OpenCV makes of it with other `flags`.

    What a PNG, WebP or GIF leaves transparent is white: its colours are any, mostly black as the ink of a drawing is.
    Values of more than 8 bits are spread: see `spread`. least: a JPEG is decoded at a half, a quarter or an eighth of
    its size as long as no side falls below this, px, in a fraction of the time and memory.
    Raises SourceError: missing, or not an image.
    """
    image = read_values(path, flags, least)
    if image.dtype != np.uint8 and flags == cv2.IMREAD_COLOR:
        return spread(image, value_span(image))
    return image.astype(np.uint8, copy=False)


def read_values(path: str | Path, flags: int = cv2.IMREAD_COLOR, least: int | None = None) -> NDArray[Any]:
    """As `read_image`, but with the values as they are: uint16 of many thermal cameras, float32 of some TIFF files."""
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: {'not a file' if path.exists() else 'no such file'}; wanted: an image")
    if flags == cv2.IMREAD_COLOR:
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on Windows
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    try:
        image, colour = None, flags > 0 and flags & cv2.IMREAD_COLOR  # IMREAD_UNCHANGED has all bits
        if colour and least is not None:
            image = _reduced(data, least)
        if colour and image is None:
            image = _on_white(data)
        if image is None:
            image = cv2.imdecode(data, flags) if data.size else None
        if image is None and data.size and flags & cv2.IMREAD_ANYDEPTH:  # floats are not made colour
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{path}: not a readable image ({', '.join(IMAGE_SUFFIXES)})")
    return np.asarray(image)[..., :3] if image.ndim == 3 else np.asarray(image)


REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


def _reduced(data: NDArray[np.uint8], least: int) -> NDArray[Any] | None:
    """A JPEG decoded at a share of its size with no side below `least`; None: it must be decoded whole."""
    if data[:2].tobytes() != b"\xff\xd8":
        return None
    smallest = cv2.imdecode(data, REDUCED[8])
    if smallest is None:
        return None
    factor = next((f for f in (8, 4, 2) if min(smallest.shape[:2]) * 8 // f >= least), 1)
    return smallest if factor == 8 else cv2.imdecode(data, REDUCED[factor]) if factor > 1 else None


def _on_white(data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """A picture of which something is transparent, on white; None: nothing of it is."""
    head = data[:26].tobytes()
    if head.startswith(b"\x89PNG"):
        before_pixels = data[:4096].tobytes().partition(b"IDAT")[0]
        may_be = head[25:26] in (b"\x04", b"\x06") or b"tRNS" in before_pixels  # grey or colour with alpha
    elif head.startswith(b"RIFF"):  # a WebP says in one bit whether it has alpha, so that others are decoded once
        place = {b"VP8X": 20, b"VP8L": 24}.get(head[12:16], len(head))
        may_be = any(byte & 0x10 for byte in head[place : place + 1])
    else:
        may_be = head.startswith(b"GIF8")
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if may_be else None
    if image is None or image.shape[2:] != (4,):
        return None
    most = 65535 if image.dtype == np.uint16 else 255
    cover = image[..., 3:].astype(np.float32) / most
    if cover.min() == 1:
        return None  # decoded again, to be turned as its EXIF data say
    return np.rint(image[..., :3] * cover + most * (1 - cover)).astype(image.dtype)


def value_span(image: NDArray[Any]) -> tuple[float, float]:
    """Least and greatest value of an image, but for one in a thousand: a few pixels of a sensor are always off."""
    values = image[np.isfinite(image)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.1, 99.9)).tolist()
    return low, max(high, low + 1e-6)


def spread(image: NDArray[Any], span: tuple[float, float]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, `span` from black to white; NaN is black."""
    low, high = span
    shown = np.clip((np.nan_to_num(image.astype(np.float32), nan=low) - low) * (255 / (high - low)), 0, 255)
    grey = np.rint(shown).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def list_files(folder: Path) -> list[Path]:
    """Return the files of a folder in natural order, without hidden ones (macOS leaves a ._name beside each)."""
    return sorted((p for p in folder.iterdir() if _is_file(p) and not p.name.startswith(".")), key=natural_key)


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and of all folders in it, those too that links lead to, in natural order, without hidden
    ones. A folder to which several ways lead is entered once.
    """
    found: list[Path] = []
    entered: set[str] = set()
    for home, inside, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(home)) in entered:
            inside.clear()
            continue
        entered.add(place)
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        found += [Path(home, name) for name in names if not name.startswith(".")]
    return sorted((p for p in found if p.is_file()), key=natural_key)


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the image files of a folder in natural order; DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of frames")
    found = tuple(path for path in list_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{folder}: no image files ({', '.join(IMAGE_SUFFIXES)})")
    return found


def visible(root: Path, pattern: str) -> list[Path]:
    """Return what a glob finds below a folder in natural order, without hidden files and folders."""
    found = (path for path in root.glob(pattern))
    kept = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return sorted(kept, key=natural_key)


def read_text(path: Path) -> str:
    """Read a text file; DataError names one that is missing or not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error


@contextlib.contextmanager
def as_table(path: Path) -> Iterator[None]:
    """While the lines of a table are read: DataError names the file where csv finds none in it, or a huge field."""
    try:
        yield
    except csv.Error as error:
        raise DataError(f"{path}: not a table: {error}") from None


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file in the encoding that it declares; DataError names one that is missing or not XML."""
    try:
        content = path.read_bytes()
        declared = re.match(rb"\s*<\?xml[^>]*encoding=[\"']([\w.:-]+)", content.removeprefix(b"\xef\xbb\xbf"))
        encoding = declared[1].decode() if declared else "utf-8"
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        return ElementTree.fromstring(content.decode(encoding).lstrip("\ufeff"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (LookupError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: not XML: {error}") from None


def inside(folder: Path, name: str) -> Path:
    """The path of what is called `name` in a folder; ValueError: the name leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise InputError(f"{name!r} is no name for a file in {folder}: it leads out of it")
    return path


def posix(name: str) -> str:
    """The name of a file as written on any system, with slashes."""
    return name.replace("\\", "/")


def read_json(file: Path) -> dict[str, Any]:
    try:
        data = parse_json(read_text(file))
    except ConfigError as error:
        raise DataError(f"{file}: {error}") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: expected an object, got {type(data).__name__}")
    return data


def numbered_rows(path: Path) -> Iterator[tuple[int, str, list[float]]]:
    """Yield number, text and numbers of each line of a text file that is not blank; DataError: what is no number."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = [word for word in re.split(r"[,;\s]+", line) if word]
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise DataError(f"{path}, line {number}: not numbers: {line.strip()[:60]!r}") from None
        if row:
            yield number, line, row


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Read a text file of numbers separated by commas, semicolons, tabs or spaces, (N, K) float64; "nan" is allowed.

    DataError: a file that is missing, empty, ragged or not numeric, with the line.
    """
    rows: list[list[float]] = []
    for number, line, row in numbered_rows(path):
        if len({mark.strip() for mark in re.findall(r"\s*[,;]\s*|\s+", line.strip())}) > 1:
            shown = f"{line.strip()[:60]!r}; decimals take a point"
            raise DataError(f"{path}, line {number}: two kinds of separators: {shown}")
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{path}, line {number}: {len(row)} numbers, the lines before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: empty")
    return np.array(rows, dtype=np.float64)


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> Floats:
    """Return boxes as (N, 4) float64; ValueError names a wrong shape."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim == 1 and array.size in (0, 4):
        array = array.reshape(-1, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"{name}: expected shape (N, 4) of x, y, w, h, got {array.shape}")
    return array


def present(truth: ArrayLike) -> NDArray[np.bool_]:
    """Return (N,) True where a truth box is finite and has an area, False where the target is absent."""
    boxes = as_boxes(truth, "truth")
    with np.errstate(invalid="ignore"):
        return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


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


def read_corners(path: Path, one_based: bool) -> NDArray[np.float64] | None:
    """Read polygons as (N, K, 2) 0-based corners x, y, NaN where a number is; None where the rows are boxes."""
    rows = read_numbers(path)
    if rows.shape[1] < 6 or rows.shape[1] % 2:
        return None
    return rows.reshape(len(rows), -1, 2) - float(one_based)


def frame_number(path: Path) -> int | None:
    """Return the last number in the name of a frame file, None when it has none."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(e.path) for e in entries if _is_folder(e) and not e.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def matches(root: Path, pattern: str) -> Iterator[Path]:
    """Files (folders, if the pattern ends in "/") below `root`; like glob, but cheap in trees of many folders."""
    head, slash, rest = pattern.partition("/")
    if not slash or not rest:
        with os.scandir(root) as entries:
            for e in entries:
                if fnmatch.fnmatchcase(e.name, head) and not e.name.startswith(".") and _is_folder(e) == bool(slash):
                    yield Path(e.path)
        return
    for folder in folders(root)[:LOOK] if head == "*" else [root / head]:
        if folder.is_dir():
            yield from matches(folder, rest)
