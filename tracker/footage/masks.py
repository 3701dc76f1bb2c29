"""Masks: run lengths, polygons and images of object numbers, and the data sets that consist of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError, InputError
from tracker.footage.clip import Clip, Mask, Tally, Target
from tracker.footage.files import folders, list_images, read_image, read_json, read_text
from tracker.footage.sequence import Entry, Sequence

MOST_PIXELS = 2**28  # of a mask, 16384 x 16384
DAVIS_TEST = "ImageSets/2017/val.txt"


def decode_runs(runs: list[int], width: int, height: int) -> NDArray[np.bool_]:
    """Expand run lengths, row by row, background first, into an (H, W) mask.

    Raises ValueError: runs that do not fit into the mask, or a mask of more than `MOST_PIXELS`.
    """
    if not (width > 0 and height > 0 and width * height <= MOST_PIXELS):
        raise InputError(f"a mask of {width} x {height} px")
    if any(run < 0 for run in runs) or sum(runs) > width * height:
        raise InputError(f"run lengths that do not fit into a mask of {width} x {height} px")
    flat = np.zeros(width * height, bool)
    ends = np.cumsum(runs)
    for start, end in zip(ends[0::2], ends[1::2], strict=False):
        flat[start:end] = True
    return flat.reshape(height, width)


def mask_box(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[float]:
    """Return x, y, w, h of the upright box around an (H, W) mask whose corner is at (left, top); NaN without pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [np.nan] * 4
    x, y = columns[0], rows[0]
    return [float(left + x), float(top + y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def fill_polygons(polygons: list[list[float]], shares: bool, width: int, height: int) -> NDArray[np.uint8]:
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


def mask_file(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Read a mask of grey values, scaled to the size of its frame."""
    mask = read_image(path, cv2.IMREAD_GRAYSCALE)
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return mask


def davis(root: Path, tally: Tally) -> Iterator[Clip]:
    """Clips of the sequences that are not kept for testing, boxes and masks of every object."""
    listed = root / DAVIS_TEST
    return _clips(root, "davis", "480p", set(read_text(listed).split()) if listed.is_file() else set(), tally)


def youtubevos(root: Path, tally: Tally) -> Iterator[Clip]:
    """Clips with boxes and masks of every object, in every fifth frame, and its kind."""
    return _clips(root, "youtubevos", "", set(), tally)


def davis_sequences(root: Path, one_based: bool) -> Iterator[Entry]:
    """A sequence for each object of the sequences kept for testing, where a list names them, else of all."""
    listed = root / DAVIS_TEST
    names = read_text(listed).split() if listed.is_file() else _names(root, "480p")
    for name in names:
        lost = Tally()
        try:
            clip = _clip(root, "davis", "480p", name, lost)
            for reason, where in lost.names.items():
                raise DataError(f"{name}: {reason}: {', '.join(where)}")
            assert isinstance(clip.frames, tuple)
            masks = list_images(root / "Annotations" / "480p" / name)
            if len(masks) != len(clip.frames):
                raise DataError(f"{name}: {len(clip.frames)} frames but {len(masks)} masks")
        except DataError as error:
            yield name, partial(_fail, error)
            continue
        for target in clip.targets:
            yield f"{name}-{target.name}", partial(_sequence, clip, target)


def _fail(error: DataError) -> Sequence:
    raise error


def _sequence(clip: Clip, target: Target) -> Sequence:
    assert isinstance(clip.frames, tuple)
    boxes = np.full((len(clip.frames), 4), np.nan)
    for number, box in target.boxes.items():
        boxes[number] = box
    start = min(target.boxes)
    return Sequence(f"{clip.name}-{target.name}", clip.frames[start:], boxes[start:], fps=24.0)


def _names(root: Path, size: str) -> list[str]:
    place = root / "Annotations" / size
    names = [folder.name for folder in folders(place)] if place.is_dir() else []
    if not names:
        raise DataError(f"{root}: no sequence in it; expected {place.relative_to(root)}/<name>/*.png and JPEGImages")
    return names


def _clips(root: Path, layout: str, size: str, testing: set[str], tally: Tally) -> Iterator[Clip]:
    for name in _names(root, size):
        if name in testing:
            tally.drop(f"sequences kept for testing ({DAVIS_TEST})", name)
            continue
        try:
            yield _clip(root, layout, size, name, tally)
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))


def _clip(root: Path, layout: str, size: str, name: str, tally: Tally) -> Clip:
    images, files = list_images(root / "JPEGImages" / size / name), list_images(root / "Annotations" / size / name)
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
            boxes[value][numbers[file.stem]] = tuple(cv2.boundingRect(mask))
            masks[value][numbers[file.stem]] = partial(_object_mask, file, value)
    if not boxes:
        raise DataError(f"{name}: no object in its masks")
    meta = root / "meta.json"
    known = read_json(meta).get("videos", {}).get(name, {}).get("objects", {}) if meta.is_file() else {}
    targets = []
    for value in sorted(boxes):
        kind = known.get(str(value), {}).get("category")
        label = f"{layout}/{kind}" if kind else f"{name}/{value}"
        targets.append(Target(str(value), label, boxes[value], masks[value]))
    return Clip(name, layout, images, tuple(targets))


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
