"""Exemplar/search pairs from a store of footage. Pair i of seed s is always the same pair."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.config import ModelConfig
from tracker.crop import Image, crop
from tracker.geometry import Box, CropWindow, clip_box, context_side
from train import augment
from train.config import PairConfig
from train.store import Store, StoreError, Track

LEAST_PART = 10.0  # px of the footage: less of a target says too little


class Pair(NamedTuple):
    """One training example.

    exemplar: (Hz, Wz, 3) uint8 BGR, the target at its centre. extent: (2,) width and height of the target as shares of
    the exemplar. search: (Hx, Wx, 3) uint8 BGR. box_search: (4,) x, y, w, h of the target, search px; all 0 where the
    search crop does not show it.
    """

    exemplar: Image
    extent: NDArray[np.float32]
    search: Image
    box_search: NDArray[np.float32]


class PairSampler:
    """Draws pairs from `store`; stateless, so that a run can be resumed at any pair."""

    def __init__(self, store: Store, pairs: PairConfig, model: ModelConfig, search_size: int, seed: int) -> None:
        self.store, self.pairs, self.model, self.search_size, self.seed = store, pairs, model, search_size, seed
        unknown = [name for name in pairs.mix if name not in store.by_source]
        if unknown:
            raise StoreError(f"pairs.mix names {unknown[0]!r}; the store has {', '.join(sorted(store.by_source))}")
        self._sources = list(pairs.mix)
        weights = np.array([pairs.mix[name] for name in self._sources], np.float64)
        self._weights = weights / weights.sum()

    def rng(self, *index: int) -> np.random.Generator:
        """The chance that belongs to a pair of this run, the same whenever and wherever it is drawn."""
        return np.random.default_rng((self.seed, *index))

    def __getitem__(self, index: int) -> Pair:
        """Pair number `index` >= 0."""
        rng = self.rng(index)
        cfg = self.pairs
        source = self._sources[rng.choice(len(self._sources), p=self._weights)]
        candidates = self.store.by_source[source]
        track = self.store.tracks[candidates[rng.integers(len(candidates))]]
        first = int(rng.integers(len(track.images)))
        near = np.flatnonzero(np.abs(track.images - track.images[first]) <= cfg.max_gap)
        second = int(near[rng.integers(len(near))])
        if cfg.part and rng.random() < cfg.part:
            track = _part(track, rng)

        cut_first, cut_second = _nearest_cutout(track, first), _nearest_cutout(track, second)
        present = rng.random() >= cfg.absent
        if not present:
            search, box = self._search_without(track, second, rng)
            if cfg.imposter and cut_second >= 0 and rng.random() < cfg.imposter:
                search = self._put(search, box, augment.recolour(self.store.cutout(cut_second), rng), *box.centre)
        elif cut_second >= 0 and rng.random() < cfg.cutout:
            search, box = self._pasted(cut_second, self._search_box(track, second, rng), self.search_size, rng, 1.0)
        else:
            search, box = self._real_search(track, second, rng)
        if cut_first >= 0 and rng.random() < cfg.cutout / 2:
            exemplar, extent = self._pasted_exemplar(cut_first, rng)
        else:
            exemplar, extent = self._real_exemplar(track, first, rng)
        if self.store.num_cutouts and rng.random() < cfg.distractor:
            search = self._with_distractors(search, box, present, track, rng)
        if cfg.look_alike and present and cut_second >= 0 and rng.random() < cfg.look_alike:
            twin = augment.recolour(self.store.cutout(cut_second), rng)
            search = self._beside(search, box, twin, rng, -0.3, 0.3, 0.1)
        if cfg.occluder and present and rng.random() < cfg.occluder:
            cover = augment.occluder(box, self.search_size, rng)
            search = augment.blend(search, self._background(self.search_size, rng), cover)
        if rng.random() < cfg.flip:
            exemplar, search = exemplar[:, ::-1], search[:, ::-1]
            box = Box(self.search_size - box.x - box.w, box.y, box.w, box.h)
        grey = rng.random() < cfg.grey
        exemplar, search = self._photometric(exemplar, grey, rng), self._photometric(search, grey, rng)
        label = np.array(box if present else (0, 0, 0, 0), np.float32)
        return Pair(np.ascontiguousarray(exemplar), extent, np.ascontiguousarray(search), label)

    def _photometric(self, image: Image, as_grey: bool, rng: np.random.Generator) -> Image:
        cfg = self.pairs
        image = np.ascontiguousarray(image)
        image = augment.colour(image, rng, cfg.colour * rng.random())
        if rng.random() < cfg.blur:
            image = augment.blur(image, rng)
        if rng.random() < cfg.noise:
            image = augment.noise(image, rng)
        return augment.grey(image) if as_grey else image

    def _others(self, track: Track) -> list[int]:
        """Tracks with the label of `track`, but not itself (nor the whole of which it is a part)."""
        alike = self.store.by_label.get(track.label, [])
        return [t for t in alike if self.store.tracks[t].images is not track.images]

    def _side(self, w: float, h: float) -> float:
        return context_side(w, h, self.model.context_amount)

    def _real_exemplar(self, track: Track, i: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        image, box = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i]))
        j = self.pairs.exemplar_jitter
        w, h = box.w * np.exp(rng.uniform(-j, j)), box.h * np.exp(rng.uniform(-j, j))
        cx, cy = box.centre[0] + rng.uniform(-j, j) * box.w, box.centre[1] + rng.uniform(-j, j) * box.h
        size = self.model.exemplar_size
        window = CropWindow.around(cx, cy, self._side(w, h), size)
        return crop(image, window, self.store.mean_colour(int(track.images[i]))), np.array(
            [w, h], np.float32
        ) / np.float32(window.side)

    def _search_box(self, track: Track, i: int, rng: np.random.Generator) -> Box:
        """Where and how large the target shall be in the search crop."""
        _, _, w, h = map(float, track.boxes[i])
        cfg, size = self.pairs, self.search_size
        scale = self.model.exemplar_size / self._side(w, h) * np.exp(rng.uniform(-cfg.scale_jitter, cfg.scale_jitter))
        cx, cy = size / 2 + rng.uniform(-cfg.max_shift, cfg.max_shift, 2)
        return Box.from_centre(float(cx), float(cy), w * scale, h * scale)

    def _real_search(self, track: Track, i: int, rng: np.random.Generator) -> tuple[Image, Box]:
        image, box = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i]))
        wanted = self._search_box(track, i, rng)
        scale = wanted.w / box.w
        window = CropWindow(
            box.x - wanted.x / scale, box.y - wanted.y / scale, self.search_size / scale, self.search_size
        )
        fill = self.store.mean_colour(int(track.images[i]))
        if self.pairs.turn:
            return self._turned(image, window, wanted, fill, rng)
        return crop(image, window, fill), wanted

    def _turned(
        self, image: Image, window: CropWindow, box: Box, fill: tuple[float, float, float], rng: np.random.Generator
    ) -> tuple[Image, Box]:
        """The crop, turned about the target and stretched; and the box around the ellipse in `box` (search px) then.

        Long targets are turned less: their corners say little of what fills their boxes.
        """
        most = self.pairs.turn
        angle = rng.uniform(-most, most) * min(box.w / box.h, box.h / box.w)
        stretch = np.exp(rng.uniform(-most, most) / 4)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.diag([stretch, 1 / stretch])
        margin = round(0.2 * self.search_size)
        share = margin * window.side / window.size
        wide = CropWindow(window.x - share, window.y - share, window.side + 2 * share, self.search_size + 2 * margin)
        centre = np.array(box.centre)
        shift = (
            centre - linear @ (centre + margin) + (linear @ [0.5, 0.5] - 0.5)
        )  # cv2 puts pixel i at i, we at i + 0.5
        matrix = np.column_stack([linear, shift])
        size = (self.search_size, self.search_size)
        turned = cv2.warpAffine(crop(image, wide, fill), matrix, size, flags=cv2.INTER_LINEAR, borderValue=fill)
        w, h = np.hypot(linear[:, 0] * box.w, linear[:, 1] * box.h).tolist()
        return np.asarray(turned, np.uint8), Box.from_centre(*box.centre, w, h)

    def _search_without(self, track: Track, i: int, rng: np.random.Generator) -> tuple[Image, Box]:
        """Another place of the frame, another target of the kind, or other footage; and the box it might have had."""
        image, box = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i]))
        wanted = self._search_box(track, i, rng)
        mates = self._others(track)
        if mates and rng.random() < 0.3:
            mate = self.store.tracks[mates[rng.integers(len(mates))]]
            if not np.isin(mate.images, track.images).any():  # else the target may be in view
                return self._real_search(mate, int(rng.integers(len(mate.images))), rng)
        height, width = image.shape[:2]
        side = self.search_size * box.w / wanted.w
        for _ in range(8):
            window = CropWindow.around(rng.uniform(0, width), rng.uniform(0, height), side, self.search_size)
            seen = clip_box(window.to_crop(box), self.search_size, self.search_size)
            if seen.w * seen.h == 0:
                return crop(image, window, self.store.mean_colour(int(track.images[i]))), wanted
        return self._background(self.search_size, rng), wanted

    def _background(self, size: int, rng: np.random.Generator) -> Image:
        image = self.store.image(int(rng.integers(self.store.num_images)))
        height, width = image.shape[:2]
        side = min(height, width) * rng.uniform(0.4, 1.0)
        window = CropWindow(rng.uniform(0, width - side), rng.uniform(0, height - side), side, size)
        return crop(image, window, (0.0, 0.0, 0.0))

    def _pasted(self, cut: int, wanted: Box, size: int, rng: np.random.Generator, strength: float) -> tuple[Image, Box]:
        """The cut-out over another background, turned and stretched by `strength`; its exact box."""
        cutout = self.store.cutout(cut)
        if self.pairs.deform and strength:
            cutout = augment.bend(cutout, rng, strength * self.pairs.deform * rng.random())
        height, width = cutout.shape[:2]
        angle = strength * rng.normal(0, 0.2)
        stretch = np.exp(strength * rng.uniform(-0.15, 0.15, 2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, strength * rng.uniform(-0.1, 0.1)], [0, 1]])
        linear = turn @ shear @ np.diag(stretch) * np.sqrt(wanted.w * wanted.h / (width * height))
        cx, cy = wanted.centre
        matrix = np.column_stack([linear, np.array([cx, cy]) - linear @ [width / 2, height / 2]])
        colours, cover = augment.place(cutout, matrix, size)
        x, y, w, h = cv2.boundingRect((cover[..., 0] > 0.5).astype(np.uint8))
        background = self._background(size, rng)
        if min(w, h) < 4:  # nothing of it is in view
            return background, wanted
        if self.pairs.motion_blur and strength and rng.random() < self.pairs.motion_blur:
            # The search crop is centred on where the target was, so this is its way in one frame.
            dx, dy = (np.array(wanted.centre) - size / 2) * rng.uniform(0.1, 0.5)
            colours, cover = augment.smear_along(colours, cover, float(dx), float(dy))
        if rng.random() < 0.5:  # soften the seam, which would give the target away
            cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.5, 1.2))[..., None].astype(np.float32)
        return augment.blend(background, colours, cover), Box(x, y, w, h)

    def _pasted_exemplar(self, cut: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        height, width = self.store.cutout(cut).shape[:2]
        size = self.model.exemplar_size
        scale = size / self._side(width, height)
        wanted = Box.from_centre(size / 2, size / 2, width * scale, height * scale)
        image, box = self._pasted(cut, wanted, size, rng, 0.0)
        return image, np.array([box.w, box.h], np.float32) / np.float32(size)

    def _with_distractors(
        self, search: Image, box: Box, present: bool, track: Track, rng: np.random.Generator
    ) -> Image:
        """Other cut-outs, of the same class where there is one, beside the target; at most half of it is covered."""
        for _ in range(int(rng.integers(1, 4))):
            same = self._others(track)
            if same and rng.random() < 0.5:
                cuts = self.store.tracks[same[rng.integers(len(same))]].cutouts
                cut = int(rng.choice(cuts[cuts >= 0]))
            else:
                cut = int(rng.integers(self.store.num_cutouts))
                if cut in track.cutouts:
                    continue
            search = self._beside(search, box, self.store.cutout(cut), rng, -0.6, 0.4, 0.4 if present else 2.0)
        return search

    def _beside(
        self, search: Image, box: Box, cutout: Image, rng: np.random.Generator, low: float, high: float, most: float
    ) -> Image:
        """Paste a cut-out anywhere, exp(low) to exp(high) times the box's size; not if it covers `most` of the box."""
        scale = np.exp(rng.uniform(low, high))
        cx, cy = rng.uniform(0, self.search_size, 2)
        return self._put(search, box, cutout, cx, cy, scale, most)

    def _put(
        self, search: Image, box: Box, cutout: Image, cx: float, cy: float, scale: float = 1.0, most: float = 2.0
    ) -> Image:
        """Paste a cut-out about a place, `scale` times the box's size; not if it covers `most` of the box."""
        height, width = cutout.shape[:2]
        scale *= np.sqrt(box.w * box.h / (width * height))
        matrix = np.array([[scale, 0, cx - scale * width / 2], [0, scale, cy - scale * height / 2]])
        colours, cover = augment.place(cutout, matrix, self.search_size)
        x0, y0 = max(int(box.x), 0), max(int(box.y), 0)
        on_target = cover[y0 : int(box.y + box.h) + 1, x0 : int(box.x + box.w) + 1]
        if most > 1 or (on_target.size and on_target.mean() < most):
            return augment.blend(search, colours, cover)
        return search


def _part(track: Track, rng: np.random.Generator) -> Track:
    """The same part of a target in all its images, or a box that is wider than the target by as much in all of them.

    People draw boxes round faces, round bodies without their arms, with a margin or without: what was asked for is in
    the first box, not in the object. There are no cut-outs of parts.
    """
    scale = np.exp(rng.uniform(-0.7, 0.25) + rng.uniform(-0.3, 0.3) * np.array([1, -1]))
    corner = 0.5 - scale / 2 + rng.uniform(-0.5, 0.5, 2) * np.maximum(1.1 - scale, 0.1)
    x, y, w, h = track.boxes.T
    boxes = np.stack([x + corner[0] * w, y + corner[1] * h, scale[0] * w, scale[1] * h], axis=1)
    if np.median(boxes[:, 2:]) < LEAST_PART:
        return track
    return replace(track, boxes=boxes.astype(np.float32), cutouts=np.full_like(track.cutouts, -1))


def _nearest_cutout(track: Track, i: int) -> int:
    """The cut-out of observation i or of the next one that has one; -1 where the track has none."""
    later = np.flatnonzero(track.cutouts[i : i + 8] >= 0)
    return int(track.cutouts[i + later[0]]) if len(later) else -1
