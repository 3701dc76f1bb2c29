"""Batches of classes, and the pairs and triplets within a batch. `rng` decides all."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker.errors import DataError
from tracker.similarity import WORDS, SimilarityConfig, to_input
from train import augment
from train.similarity.config import BatchConfig, Mining
from train.similarity.data import ImageSet, trim

Index = NDArray[np.int64]


def draw(images: ImageSet, cfg: BatchConfig, rng: np.random.Generator) -> Index:
    """Numbers of cfg.per_class images of each of cfg.classes classes, then of cfg.backgrounds backgrounds.

    Images are repeated where a class has too few.
    """
    count = np.array([len(own) for own in images.by_class])
    free = {False: count > 1, True: count == 1}  # not yet drawn: seen more than once, and once
    chosen: list[int] = []
    for _ in range(cfg.classes):
        pool = free[bool(cfg.photos) and rng.random() < cfg.photos]
        if not pool.any():
            continue
        near = pool & (images.groups == images.groups[chosen[-1]]) if chosen else pool
        chosen.append(int(rng.choice(np.flatnonzero(near if rng.random() < cfg.same_group and near.any() else pool))))
        pool[chosen[-1]] = False
    rows = []
    for c in chosen:
        own = images.by_class[c]
        rows.append(own[np.resize(rng.permutation(len(own)), cfg.per_class)])
    found = np.concatenate([np.empty(0, np.int64), *rows])
    beside = [rng.choice(images.backgrounds(i)) for i in rng.permutation(np.resize(found, cfg.backgrounds))]
    return np.concatenate([found, np.array(beside, np.int64)])


def make_batch(images: ImageSet, model: SimilarityConfig, cfg: BatchConfig, seed: int, step: int) -> dict[str, Tensor]:
    """Batch number `step` of a seed, always the same one: images (N, channels, size, size) in [0, 1], labels (N,);
    second: the same images (or the words that are their classes) as the second branch wants them, where it is of
    another kind.

    The label of a background is -1. Raises DataError: fewer than two classes to draw.
    """
    rng = np.random.default_rng((seed, step))
    index = draw(images, cfg, rng)
    labels = np.where(index < len(images.images), images.labels[np.minimum(index, len(images.images) - 1)], -1)
    if len(np.unique(labels)) < 2:
        raise DataError(f"{images}: no two classes for a batch; those with one image are drawn by batch.photos only")
    size = int(rng.choice(cfg.sizes))
    shown = [trim(distort(images.wide(i), cfg, rng), images.margin) for i in index.tolist()]
    turns = int(rng.integers(4)) if cfg.turn else 0
    axes = tuple(axis for axis in (0, 1) if cfg.flip and rng.random() < 0.5)
    shown = [np.ascontiguousarray(np.flip(np.rot90(image, turns), axes)) for image in shown]
    batch = {"images": torch.cat([to_input(image, model, size) for image in shown]), "labels": torch.from_numpy(labels)}
    if model.second:
        side = model.side(True)
        second = [images.seen_by(side, i) for i in index.tolist()] if side.trunk in WORDS else shown
        batch["second"] = torch.cat([to_input(one, side) for one in second])
    return batch


def distort(image: NDArray[np.uint8], cfg: BatchConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An affine distortion about the centre (Koch et al. 2015, section 4.2), then light, colour and blur.

    image: (H, W) or (H, W, 3) uint8, not mutated. Returns the same size; what comes in from outside is repeated border.
    """
    height, width = image.shape[:2]
    matrix = np.eye(3)
    if rng.random() < cfg.affine:
        angle = np.deg2rad(rng.uniform(-cfg.rotation, cfg.rotation))
        matrix = matrix @ [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    if rng.random() < cfg.affine:
        x, y = rng.uniform(-cfg.shear, cfg.shear, 2)
        matrix = matrix @ [[1, x, 0], [y, 1, 0], [0, 0, 1]]
    if rng.random() < cfg.affine:
        x, y = rng.uniform(1 - cfg.scale, 1 + cfg.scale, 2)
        matrix = matrix @ np.diag([x, y, 1])
    if rng.random() < cfg.affine:
        matrix[:2, 2] += rng.uniform(-cfg.shift, cfg.shift, 2) * (width, height)
    if not np.array_equal(matrix, np.eye(3)):
        middle = np.array([(width - 1) / 2, (height - 1) / 2])  # cv2 puts pixel i at i
        matrix[:2, 2] += middle - matrix[:2, :2] @ middle
        image = np.asarray(
            cv2.warpAffine(image, matrix[:2], (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
    if cfg.colour or cfg.blur:
        if image.ndim == 2:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
        image = augment.colour(np.ascontiguousarray(image), rng, cfg.colour * rng.random())
        if rng.random() < cfg.blur:
            image = augment.blur(image, rng) if rng.random() < 0.5 else augment.noise(image, rng)
    return image


def positives(labels: Index) -> tuple[Index, Index]:
    """Every pair (i < j) of one class, -1 being none."""
    i, j = np.nonzero(np.triu((labels[:, None] == labels) & (labels >= 0), 1))
    return i, j


def negatives(
    anchors: Index,
    partners: Index,
    labels: Index,
    mining: Mining,
    rng: np.random.Generator,
    distances: NDArray[np.float32] | None = None,
) -> Index:
    """For each positive pair (anchor, partner), an image of another class to go with the anchor.

    distances: (N, N), not needed by random. hard: the nearest; semi-hard: the nearest that is farther than the partner,
    or the farthest of all where there is none (Schroff et al. 2015, section 3.2).
    """
    foreign = labels[anchors][:, None] != labels
    if mining == "random" or distances is None:
        return np.where(foreign, rng.random(foreign.shape), -1).argmax(1)
    rows = np.where(foreign, distances[anchors], np.inf)
    if mining == "hard":
        return rows.argmin(1)
    beyond = np.where(rows > distances[anchors, partners][:, None], rows, np.inf)
    none = np.isinf(beyond).all(1)
    return np.where(none, np.where(foreign, rows, -np.inf).argmax(1), beyond.argmin(1))


def pairs(
    labels: Index, mining: Mining, rng: np.random.Generator, distances: NDArray[np.float32] | None = None
) -> tuple[Index, Index, NDArray[np.float32]]:
    """First and second of each pair, in random order, and 1 (same) or 0: all positives, and negatives as mined.

    labels: (N,), at least two classes, one of them twice. Balanced, one negative for each positive, but with `all`.
    """
    i, j = positives(labels)
    if mining == "all":
        a, b = np.nonzero(np.triu(labels[:, None] != labels, 1))
    else:
        swap = rng.random(len(i)) < 0.5
        a = np.where(swap, j, i)
        b = negatives(a, np.where(swap, i, j), labels, mining, rng, distances)
    first, second = np.concatenate([i, a]), np.concatenate([j, b])
    swap = rng.random(len(first)) < 0.5
    same = np.repeat(np.array([1, 0], np.float32), [len(i), len(a)])
    return np.where(swap, second, first), np.where(swap, first, second), same


def triplets(
    labels: Index, mining: Mining, rng: np.random.Generator, distances: NDArray[np.float32] | None = None
) -> tuple[Index, Index, Index]:
    """Anchors, positives and negatives: every ordered positive pair, with its negative as mined, or with all."""
    i, j = positives(labels)
    a, p = np.concatenate([i, j]), np.concatenate([j, i])
    if mining == "all":
        row, n = np.nonzero(labels[a][:, None] != labels)
        return a[row], p[row], n
    return a, p, negatives(a, p, labels, mining, rng, distances)
