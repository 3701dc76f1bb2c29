"""A video, images or photos beside a boxes.csv: the layout for footage of one's own."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tracker.errors import DataError, InputError
from tracker.footage.clip import Clip, Mask, Tally, Target
from tracker.footage.files import (
    VIDEO_SUFFIXES,
    as_table,
    files_below,
    folders,
    is_image,
    list_images,
    posix,
    read_text,
    visible,
)
from tracker.footage.masks import mask_file

CLIP_COLUMNS = "frame,x,y,w,h[,id]"
PHOTO_COLUMNS = "image,x,y,w,h[,label][,mask]"


def read_plain(path: Path, tally: Tally) -> Iterator[Clip]:
    """boxes.csv beside a video or images (column frame), or beside images/ of photos (column image).

    Masks, if any: masks/<id>/<frame>.png, or the file named in the column mask. The source of a clip is the folder that
    holds it, that of a clip that is named itself "video".
    """
    video = path if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() else None
    root = path.parent if path.is_file() else path
    files = [root / "boxes.csv"] if path.is_file() else [p for p in files_below(root) if p.name == "boxes.csv"]
    if not files:
        raise DataError(f"{root}: no boxes.csv in it (columns {CLIP_COLUMNS} or {PHOTO_COLUMNS})")
    for file in files:
        try:
            columns, rows = _read_csv(file)
            if "image" in columns:
                yield from _plain_photos(file, rows)
            else:
                source = "video" if file.parent == root else file.parent.resolve().parent.name
                yield _plain_clip(file, rows, video, source, tally)
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))


def _read_csv(file: Path) -> tuple[list[str], list[tuple[dict[str, str], tuple[float, ...]]]]:
    reader = csv.reader(read_text(file).splitlines())
    with as_table(file):
        lines = [(reader.line_num, line) for line in reader]
    columns = [name.strip().lower() for name in lines[0][1]] if lines else []
    if not {"x", "y", "w", "h"} < set(columns) or ("frame" in columns) == ("image" in columns):
        raise DataError(f"{file}: columns are {','.join(columns)}; expected {CLIP_COLUMNS} or {PHOTO_COLUMNS}")
    rows = []
    for number, line in lines[1:]:
        row = dict(zip(columns, map(str.strip, line), strict=False))
        if not any(row.values()):
            continue
        try:
            box = tuple(float(row[k] or "nan") for k in "xywh")
            if "frame" in row and not float(row["frame"]).is_integer():
                raise InputError
        except (KeyError, ValueError):
            raise DataError(f"{file}, line {number}: not a box: {','.join(line)[:60]!r}") from None
        rows.append((row, box))
    return columns, rows


def _plain_clip(
    file: Path, rows: list[tuple[dict[str, str], tuple[float, ...]]], video: Path | None, source: str, tally: Tally
) -> Clip:
    folder = file.parent
    name = folder.resolve().name
    boxes: dict[str, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for row, box in rows:
        target, number = row.get("id") or "0", int(float(row["frame"]))
        if row.get("state") == "lost":  # boxes that `siamtrack track` wrote
            tally.drop("rows without a target (state lost)", f"{name}/{target} frame {number}")
        elif number in boxes[target]:
            tally.drop("second box of a target in a frame", f"{name}/{target} frame {number}")
        else:
            boxes[target][number] = box
    targets = []
    masks = {place.name: place for place in folders(folder / "masks")} if (folder / "masks").is_dir() else {}
    for target, observed in boxes.items():
        targets.append(Target(target, f"{name}/{target}", observed, _masks(masks.get(target))))
    return Clip(name, source, video or frames_beside(folder), tuple(targets))


def _masks(folder: Path | None) -> dict[int, Mask]:
    """Masks by their frames, of a folder that is called as the target is."""
    files = folder.glob("*.png") if folder else ()
    return {int(p.stem): partial(mask_file, p) for p in files if p.stem.isdigit()}


def frames_beside(folder: Path, labels: str = "boxes.csv") -> Path | tuple[Path, ...]:
    """The one video in a folder, or the images in it or in a folder in it. DataError: none, or several videos."""
    videos = [p for p in visible(folder, "*") if p.suffix.lower() in VIDEO_SUFFIXES]
    if len(videos) == 1:
        return videos[0]
    if videos:
        raise DataError(f"{folder}: {len(videos)} videos beside one {labels} ({videos[0].name}, {videos[1].name}, ..)")
    for place in (folder, *(p for p in folders(folder) if p.name != "masks")):
        if any(map(is_image, place.iterdir())):
            return list_images(place)
    raise DataError(f"{folder}: {labels} without a video or a folder of images beside it")


def _plain_photos(file: Path, rows: list[tuple[dict[str, str], tuple[float, ...]]]) -> Iterator[Clip]:
    folder = file.parent
    source = folder.resolve().name
    images = folder / "images" if (folder / "images").is_dir() else folder
    photos: dict[str, list[Target]] = defaultdict(list)
    for row, box in rows:
        masks = {0: partial(mask_file, folder / posix(row["mask"]))} if row.get("mask") else {}
        targets = photos[posix(row["image"])]
        targets.append(Target(str(len(targets)), f"{source}/{row.get('label', '')}", {0: box}, masks))
    for name, targets in photos.items():
        yield Clip(f"{source}/{name}", source, (images / name,), tuple(targets))
