"""Exemplar/search pairs from a store of footage. Pair i of seed s is always the same pair."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.config import ModelConfig
from tracker.crop import Image, crop
from tracker.geometry import Box, CropWindow, clip_box
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


class Place(NamedTuple):
    """Where a target shall be in a crop: its box there, crop px, and the crop px a frame px, along x and along y."""

    box: Box
    across: float
    down: float

    @property
    def stretch(self) -> NDArray[np.float64]:
        """(2, 2) from frame px to crop px, but for the size."""
        return np.diag([self.across, self.down]) / np.sqrt(self.across * self.down)


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
        place = self._search_place(track, second, rng)
        if not present:
            search = self._search_without(track, second, place, rng)
            if cfg.imposter and cut_second >= 0 and rng.random() < cfg.imposter:
                twin = augment.recolour(self.store.cutout(cut_second), rng)
                search = self._put(search, place, twin, *place.box.centre)
        elif cut_second >= 0 and rng.random() < cfg.cutout:
            search, place = self._pasted(cut_second, place, self.search_size, rng, 1.0)
        else:
            search, place = self._real_search(track, second, place, rng)
        box = place.box
        if cut_first >= 0 and rng.random() < cfg.cutout / 2:
            exemplar, extent = self._pasted_exemplar(cut_first, rng)
        else:
            exemplar, extent = self._real_exemplar(track, first, rng)
        if self.store.num_cutouts and rng.random() < cfg.distractor:
            search = self._with_distractors(search, place, present, track, rng)
        if cfg.look_alike and present and cut_second >= 0 and rng.random() < cfg.look_alike:
            twin = augment.recolour(self.store.cutout(cut_second), rng)
            search = self._beside(search, place, twin, rng, -0.3, 0.3, 0.1)
        if cfg.occluder and present and rng.random() < cfg.occluder:
            cover = augment.occluder(box, self.search_size, rng)
            search = augment.blend(search, self._background(self.search_size, place, rng), cover)
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

    def _real_exemplar(self, track: Track, i: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        image, box = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i]))
        j = self.pairs.exemplar_jitter
        w, h = box.w * np.exp(rng.uniform(-j, j)), box.h * np.exp(rng.uniform(-j, j))
        cx, cy = box.centre[0] + rng.uniform(-j, j) * box.w, box.centre[1] + rng.uniform(-j, j) * box.h
        window = self.model.exemplar_window(Box.from_centre(float(cx), float(cy), float(w), float(h)))
        extent = np.array([w / window.w, h / window.h], np.float32)
        return crop(image, window, self.store.mean_colour(int(track.images[i]))), extent

    def _search_place(self, track: Track, i: int, rng: np.random.Generator) -> Place:
        """Where, how large and in which shape the target shall be in the search crop."""
        _, _, w, h = map(float, track.boxes[i])
        cfg, size = self.pairs, self.search_size
        across, down = self.model.search_window(Box(0, 0, w, h)).scale
        grow, shape = np.exp(rng.uniform(-1, 1, 2) * (cfg.scale_jitter, cfg.shape_jitter)).tolist()
        across, down = across * grow * shape, down * grow / shape
        cx, cy = size / 2 + rng.uniform(-cfg.max_shift, cfg.max_shift, 2)
        return Place(Box.from_centre(float(cx), float(cy), w * across, h * down), across, down)

    def _real_search(self, track: Track, i: int, place: Place, rng: np.random.Generator) -> tuple[Image, Place]:
        image, box, size = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i])), self.search_size
        x, y = box.x - place.box.x / place.across, box.y - place.box.y / place.down
        window = CropWindow(x, y, size / place.across, size / place.down, size)
        fill = self.store.mean_colour(int(track.images[i]))
        if self.pairs.turn:
            return self._turned(image, window, place, fill, rng)
        return crop(image, window, fill), place

    def _turned(
        self, image: Image, window: CropWindow, place: Place, fill: tuple[float, float, float], rng: np.random.Generator
    ) -> tuple[Image, Place]:
        """The crop, turned about the target and stretched; and the box around the ellipse in its box then.

        Long targets are turned less: their corners say little of what fills their boxes.
        """
        most, box = self.pairs.turn, place.box
        aspect = box.w / place.across / (box.h / place.down)  # of the target in the frame
        angle = rng.uniform(-most, most) * min(aspect, 1 / aspect)
        pull = np.exp(rng.uniform(-most, most) / 4)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = place.stretch @ turn @ np.diag([pull, 1 / pull]) @ np.linalg.inv(place.stretch)
        margin = round(0.2 * self.search_size)
        left, top, more = margin / place.across, margin / place.down, self.search_size + 2 * margin
        wide = CropWindow(window.x - left, window.y - top, window.w + 2 * left, window.h + 2 * top, more)
        centre = np.array(box.centre)
        shift = (
            centre - linear @ (centre + margin) + (linear @ [0.5, 0.5] - 0.5)
        )  # cv2 puts pixel i at i, we at i + 0.5
        matrix = np.column_stack([linear, shift])
        size = (self.search_size, self.search_size)
        turned = cv2.warpAffine(crop(image, wide, fill), matrix, size, flags=cv2.INTER_LINEAR, borderValue=fill)
        w, h = np.hypot(linear[:, 0] * box.w, linear[:, 1] * box.h).tolist()
        return np.asarray(turned, np.uint8), place._replace(box=Box.from_centre(*box.centre, w, h))

    def _search_without(self, track: Track, i: int, place: Place, rng: np.random.Generator) -> Image:
        """Another place of the frame, another target of the kind, or other footage."""
        image, box = self.store.image(int(track.images[i])), Box(*map(float, track.boxes[i]))
        mates = self._others(track)
        if mates and rng.random() < 0.3:
            mate = self.store.tracks[mates[rng.integers(len(mates))]]
            if not np.isin(mate.images, track.images).any():  # else the target may be in view
                seen = int(rng.integers(len(mate.images)))
                return self._real_search(mate, seen, self._search_place(mate, seen, rng), rng)[0]
        height, width = image.shape[:2]
        w, h = self.search_size / place.across, self.search_size / place.down
        for _ in range(8):
            centre = float(rng.uniform(0, width)), float(rng.uniform(0, height))
            window = CropWindow.around(centre, w, h, self.search_size)
            seen_part = clip_box(window.to_crop(box), self.search_size, self.search_size)
            if seen_part.w * seen_part.h == 0:
                return crop(image, window, self.store.mean_colour(int(track.images[i])))
        return self._background(self.search_size, place, rng)

    def _background(self, size: int, place: Place, rng: np.random.Generator) -> Image:
        """Some footage, stretched as the crop of a target at `place`."""
        image = self.store.image(int(rng.integers(self.store.num_images)))
        height, width = image.shape[:2]
        w, h = (1 / np.diag(place.stretch)).tolist()
        most = min(width / w, height / h)
        w, h = np.array([w, h]) * most * rng.uniform(0.4, 1.0)
        window = CropWindow(rng.uniform(0, width - w), rng.uniform(0, height - h), float(w), float(h), size)
        return crop(image, window, (0.0, 0.0, 0.0))

    def _pasted(
        self, cut: int, place: Place, size: int, rng: np.random.Generator, strength: float
    ) -> tuple[Image, Place]:
        """The cut-out over another background, turned and stretched by `strength`; its exact box."""
        cutout, wanted = self.store.cutout(cut), place.box
        if self.pairs.deform and strength:
            cutout = augment.bend(cutout, rng, strength * self.pairs.deform * rng.random())
        height, width = cutout.shape[:2]
        angle = strength * rng.normal(0, 0.2)
        pull = np.exp(strength * rng.uniform(-0.15, 0.15, 2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, strength * rng.uniform(-0.1, 0.1)], [0, 1]])
        grow = np.sqrt(wanted.w * wanted.h / (width * height))
        linear = place.stretch @ turn @ shear @ np.diag(pull) * grow
        cx, cy = wanted.centre
        matrix = np.column_stack([linear, np.array([cx, cy]) - linear @ [width / 2, height / 2]])
        colours, cover = augment.place(cutout, matrix, size)
        x, y, w, h = cv2.boundingRect((cover[..., 0] > 0.5).astype(np.uint8))
        background = self._background(size, place, rng)
        if min(w, h) < 4:  # nothing of it is in view
            return background, place
        if self.pairs.motion_blur and strength and rng.random() < self.pairs.motion_blur:
            # The search crop is centred on where the target was, so this is its way in one frame.
            dx, dy = (np.array(wanted.centre) - size / 2) * rng.uniform(0.1, 0.5)
            colours, cover = augment.smear_along(colours, cover, float(dx), float(dy))
        if rng.random() < 0.5:  # soften the seam, which would give the target away
            cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.5, 1.2))[..., None].astype(np.float32)
        return augment.blend(background, colours, cover), place._replace(box=Box(x, y, w, h))

    def _pasted_exemplar(self, cut: int, rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
        height, width = self.store.cutout(cut).shape[:2]
        own = Box(0, 0, width, height)
        window = self.model.exemplar_window(own)
        image, place = self._pasted(cut, Place(window.to_crop(own), *window.scale), window.size, rng, 0.0)
        return image, np.array([place.box.w, place.box.h], np.float32) / np.float32(window.size)

    def _with_distractors(
        self, search: Image, place: Place, present: bool, track: Track, rng: np.random.Generator
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
            search = self._beside(search, place, self.store.cutout(cut), rng, -0.6, 0.4, 0.4 if present else 2.0)
        return search

    def _beside(
        self, search: Image, place: Place, cutout: Image, rng: np.random.Generator, low: float, high: float, most: float
    ) -> Image:
        """Paste a cut-out anywhere, exp(low) to exp(high) times the box's size; not if it covers `most` of the box."""
        grow = float(np.exp(rng.uniform(low, high)))
        cx, cy = rng.uniform(0, self.search_size, 2)
        return self._put(search, place, cutout, cx, cy, grow, most)

    def _put(
        self, search: Image, place: Place, cutout: Image, cx: float, cy: float, grow: float = 1.0, most: float = 2.0
    ) -> Image:
        """Paste a cut-out about (cx, cy), `grow` times the box's size; not if it covers `most` of the box."""
        box, (height, width) = place.box, cutout.shape[:2]
        linear = place.stretch * (grow * np.sqrt(box.w * box.h / (width * height)))
        matrix = np.column_stack([linear, np.array([cx, cy]) - linear @ [width / 2, height / 2]])
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
