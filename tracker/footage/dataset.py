"""Labels of a clip as a data set on the disk, in a layout that `layouts` reads back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2

from tracker.crop import Image
from tracker.errors import InputError, SourceError
from tracker.footage.boxes import (
    Row,
    as_coco,
    as_csv,
    as_cvat,
    as_mot,
    as_otb,
    as_yolo,
    by_target,
    image_name,
)
from tracker.footage.output import named, swap_folder

WRITTEN = ("boxes", "otb", "coco", "yolo", "mot", "cvat")
QUALITY = 95  # of the JPEG frames


@dataclass(frozen=True)
class Labels:
    """What is known of a clip.

    name: of the clip. size: (width, height) of its frames, px. length: frames. rows: the boxes; those of lost targets
    are not written. names: id of a target -> its class. keys: id -> frames whose box a person gave. video: the file
    that the frames came from; None: they are images.
    """

    name: str
    size: tuple[int, int]
    length: int
    rows: list[Row]
    names: dict[int, str]
    keys: dict[int, set[int]]
    video: Path | None


def write_dataset(root: Path, layout: str, labels: Labels, read: Callable[[int], Image | None]) -> Path:
    """Write a data set of one clip below `root` and return its folder; what was written there before is replaced.

    layout: one of WRITTEN. read: gives a frame. boxes and cvat hold the video as it is (its images, where there is
    none), otb and mot all frames as JPEG, coco and yolo those with a box.
    Raises ValueError: another layout, or no box. OSError: the disk.
    """
    if layout not in WRITTEN:
        raise InputError(f"no layout {layout!r}; there are {', '.join(WRITTEN)}")
    rows = [row for row in labels.rows if row.state != "lost"]
    if not rows:
        raise InputError("there are no boxes to write")
    folder, part = root / layout, root / f".{layout}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _WRITERS[layout](part, labels, rows, read)
        swap_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _boxes(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    _footage(folder, labels, read)
    _write(folder / "boxes.csv", as_csv(rows))


def _cvat(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    _footage(folder, labels, read)
    _write(folder / "annotations.xml", as_cvat(rows, labels.size, labels.length, labels.names, labels.keys))


def _otb(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    """A sequence for each target, from its first box on, because OTB begins with one."""
    several = by_target(rows)
    for number, known in several.items():
        place = folder / (labels.name if len(several) == 1 else f"{labels.name}-{number}")
        first = known[0].frame
        _images(place / "img", range(first, labels.length), read)
        moved = [row._replace(frame=row.frame - first) for row in known]
        _write(place / "groundtruth_rect.txt", as_otb(moved, labels.length - first))


def _mot(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    """Its frames count from 1, those of their files, too."""
    place = folder / labels.name
    (place / "gt").mkdir(parents=True)
    _images(place / "img1", range(labels.length), read, first=1)
    _write(place / "gt" / "gt.txt", as_mot(rows, truth=True))


def _coco(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    _images(folder / "images", sorted({row.frame for row in rows}), read)
    (folder / "annotations").mkdir()
    _write(folder / "annotations" / "instances_images.json", as_coco(rows, labels.size, labels.names))


def _yolo(folder: Path, labels: Labels, rows: list[Row], read: Callable[[int], Image | None]) -> None:
    _images(folder / "images", sorted({row.frame for row in rows}), read)
    (folder / "labels").mkdir()
    for name, text in as_yolo(rows, labels.size, labels.names).items():
        _write((folder if name == "classes.txt" else folder / "labels") / name, text)


_WRITERS = {"boxes": _boxes, "otb": _otb, "coco": _coco, "yolo": _yolo, "mot": _mot, "cvat": _cvat}


def _write(file: Path, text: str) -> None:
    with named(file):
        file.write_text(text, encoding="utf-8")


def _footage(folder: Path, labels: Labels, read: Callable[[int], Image | None]) -> None:
    if labels.video is None:
        _images(folder / "img", range(labels.length), read)
        return
    try:
        os.link(labels.video, folder / labels.video.name)
    except OSError:  # another disk
        shutil.copy(labels.video, folder)


def _images(folder: Path, numbers: Iterable[int], read: Callable[[int], Image | None], first: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        image = read(number)
        if image is None:
            raise SourceError(f"frame {number} cannot be read any more")
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        (folder / image_name(number + first)).write_bytes(data.tobytes())
