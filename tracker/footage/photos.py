"""Photos with boxes: COCO, Pascal VOC, YOLO. A photo is a clip of one frame."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.config import parse_yaml
from tracker.errors import ConfigError, DataError, InputError
from tracker.footage.clip import Clip, Mask, Tally, Target
from tracker.footage.files import IMAGE_SUFFIXES, folders, matches, posix, read_json, read_text, read_xml, visible
from tracker.footage.masks import decode_runs, fill_polygons

MOST_SIDE = 10**6  # px, of a photo


def is_coco(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, path.stat().st_size - 2**16))
        tail = file.read()
    return re.search(rb'"(images|annotations)"\s*:\s*\[', head + tail) is not None


def read_coco(path: Path, tally: Tally) -> Iterator[Clip]:
    if path.is_file():
        root, files = path.parent, [path]
        root = root.parent if root.name.lower() == "annotations" else root
    else:
        root = path
        files = sorted([*matches(root, "*.json"), *matches(root, "*/*.json")])
        files = [p for p in files if p.name.startswith("instances_")] or files  # not captions and keypoints of the same
        files = [p for p in files if is_coco(p)]
    if not files:
        raise DataError(f"{path}: no json of images and annotations in it")
    for file in files:
        yield from _coco_file(file, root, tally)


def _coco_file(file: Path, root: Path, tally: Tally) -> Iterator[Clip]:
    data = read_json(file)
    source = root.resolve().name
    split = file.stem.split("_")[-1]  # instances_train2017 -> train2017
    places = [root / split, root / "images" / split, root / "images", root, file.parent]
    try:
        names = {c["id"]: str(c["name"]) for c in data.get("categories", [])}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for one in data["annotations"]:
            by_image[one["image_id"]].append(one)
        images = [(i["id"], posix(str(i["file_name"])), _size(i.get("width"), i.get("height"))) for i in data["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: not in COCO's form: {type(error).__name__} {error}") from None
    for key, name, size in images:
        place = next((p for p in places if (p / name).is_file()), root)
        targets: list[Target] = []
        for one in by_image.pop(key, []):
            where = f"{source}/{name} annotation {one.get('id')}"
            box = _coco_box(one.get("bbox"))
            if one.get("iscrowd"):
                tally.drop("crowds", where)
            elif box is None:
                tally.drop("annotations without a box", where)
            else:
                label = f"{source}/{names.get(one.get('category_id'), '')}"
                targets.append(Target(str(len(targets)), label, {0: box}, _coco_mask(one.get("segmentation"))))
        yield Clip(f"{source}/{name}", source, (place / name,), tuple(targets), size=size)
    for key, rest in by_image.items():
        tally.drop("boxes without a frame", f"{file.name} image {key}", len(rest))


def _coco_box(box: Any) -> tuple[float, ...] | None:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        return None
    try:
        return tuple(map(float, box))
    except OverflowError:  # whole numbers have no end in JSON
        return None


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    """The size of a photo as its annotation names it; None where it does not."""
    try:
        size = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 and max(size) < MOST_SIDE else None


def _coco_mask(shape: Any) -> dict[int, Mask]:
    if isinstance(shape, list) and shape:
        return {0: partial(fill_polygons, shape, False)}
    if isinstance(shape, dict) and isinstance(shape.get("counts"), list):  # the packed form needs pycocotools: no mask
        return {0: partial(_runs, shape)}
    return {}


def _runs(shape: dict[str, Any], width: int, height: int) -> NDArray[np.uint8]:
    """Mask of run lengths, column by column, background first."""
    counts = shape["counts"]
    if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != width * height:
        raise DataError(f"run lengths that do not make up a mask of {width} x {height}")
    return np.ascontiguousarray(decode_runs(counts, height, width).T * np.uint8(255))


def read_voc(root: Path, tally: Tally) -> Iterator[Clip]:
    """One xml a photo: xmin, ymin, xmax, ymax count pixels from 1, both ends included."""
    source = root.resolve().name
    folder = next((p for p in (root / "Annotations", root / "annotations") if p.is_dir()), root)
    files = visible(folder, "*.xml")
    if not files:
        raise DataError(f"{root}: no xml in it; expected Annotations/*.xml and JPEGImages/*.jpg")
    places = [root / "JPEGImages", root / "images", folder]
    for file in files:
        try:
            tree = read_xml(file)
            if tree.tag == "annotations":
                raise DataError("an export of CVAT for images, which is not read; export it as MOT, COCO or Pascal VOC")
            named = posix(tree.findtext("filename") or f"{file.stem}.jpg")
            size = _size(tree.findtext("size/width"), tree.findtext("size/height"))
            targets: list[Target] = []
            for one in tree.iter("object"):
                x0, y0, x1, y1 = (float(one.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
                label = f"{source}/{one.findtext('name', '')}"
                targets.append(Target(str(len(targets)), label, {0: (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)}))
        except (DataError, ValueError) as error:
            tally.drop("labels that cannot be read", f"{file.name}: {error}")
            continue
        names = [named, *(file.stem + suffix for suffix in IMAGE_SUFFIXES)]
        image = next((p / n for n in names for p in places if (p / n).is_file()), places[0] / named)
        yield Clip(f"{source}/{image.name}", source, (image,), tuple(targets), size=size)


def read_yolo(root: Path, tally: Tally) -> Iterator[Clip]:
    """One txt a photo, lines of class, centre x, y, width, height as shares, or of class and a polygon.

    What a tracker adds to a box is let alone: a confidence, an identity, or both. So are key points, where data.yaml
    says that there are some (kpt_shape).
    """
    source = root.resolve().name
    pairs = [(base / "images", base / "labels") for base in (root, *folders(root))]
    pairs = [(images, labels) for images, labels in pairs if images.is_dir() and labels.is_dir()] or [(root, root)]
    names, points = _yolo_names(root)
    found = False
    for images, labels in pairs:
        texts = {p.relative_to(labels).with_suffix("") for p in visible(labels, "**/*.txt") if p.name != "classes.txt"}
        for image in (p for p in visible(images, "**/*") if p.suffix.lower() in IMAGE_SUFFIXES):
            key = image.relative_to(images).with_suffix("")
            targets: list[Target] = []
            if key in texts:
                texts.remove(key)
                found = True
                try:
                    targets = _yolo_targets((labels / key).with_name(key.name + ".txt"), source, names, points)
                except DataError as error:
                    tally.drop("labels that cannot be read", str(error))
                    continue
            yield Clip(f"{source}/{image.name}", source, (image,), tuple(targets), shares=True)
        for key in sorted(texts):
            tally.drop("labels without a frame", f"{key}.txt")
    if not found:
        raise DataError(f"{root}: no photo with a label in it; expected images/*.jpg and labels/*.txt")


def _yolo_targets(file: Path, source: str, names: dict[str, str], points: bool) -> list[Target]:
    targets: list[Target] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        kind, *words = line.split() or [""]
        if not kind:
            continue
        try:
            values = [float(word) for word in words]
            boxed = points or len(values) in (4, 5) or (len(values) == 6 and words[5].isdigit())
            if boxed and len(values) >= 4:
                values = values[:4]
            elif len(values) < 6 or len(values) % 2:
                raise InputError
            if not -0.01 <= min(values) <= max(values) <= 1.01:  # boxes may pass the edge by a rounding
                raise InputError
        except ValueError:
            expected = "neither class x y w h nor a polygon in shares of the photo"
            raise DataError(f"{file}, line {number}: {expected}: {line[:60]!r}") from None
        masks: dict[int, Mask] = {}
        if len(values) == 4:
            cx, cy, w, h = values
            box = (cx - w / 2, cy - h / 2, w, h)
        else:
            corners = np.reshape(values, (-1, 2))
            box = (*corners.min(0).tolist(), *np.ptp(corners, axis=0).tolist())
            masks = {0: partial(fill_polygons, [values], True)}
        targets.append(Target(str(len(targets)), f"{source}/{names.get(kind, kind)}", {0: box}, masks))
    return targets


def _yolo_names(root: Path) -> tuple[dict[str, str], bool]:
    """Class number -> name, and whether the labels have key points."""
    for file in (root / "data.yaml", root / "classes.txt"):
        if file.is_file():
            if file.suffix == ".txt":
                return {str(i): name for i, name in enumerate(read_text(file).split("\n"))}, False
            try:
                data = parse_yaml(read_text(file))
            except ConfigError as error:
                raise DataError(f"{file}: {error}") from None
            data = data if isinstance(data, dict) else {}
            names = data.get("names") or []
            if not isinstance(names, dict | list):
                raise DataError(f"{file}: names is neither a list nor a mapping")
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return {str(i): str(name) for i, name in pairs}, "kpt_shape" in data
    return {}, False
