"""Pictures of what training gets: a contact sheet of footage with its boxes, a sheet of pairs with their labels."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.crop import Image
from tracker.draw import draw
from tracker.footage.clip import Clip, Seen, Tally, seen_frames
from tracker.footage.layouts import read
from tracker.footage.output import write_whole
from tracker.geometry import Box
from tracker.network import build_network
from train.config import ScoreLoss, TrainConfig
from train.labels import ellipse_labels, radius_labels
from train.pairs import Pair, PairSampler
from train.store import Store

COLUMNS = 4
GAP = 6  # px between tiles
PAPER = (40, 36, 32)
CAPTION = 18  # px
KEPT, DROPPED = (90, 220, 60), (60, 60, 240)  # BGR
TARGET, RING, BACKGROUND = (90, 220, 60), (40, 190, 250), (200, 200, 200)


def inspect(path: Path, layout: str | None, tiles: int) -> tuple[Tally, list[Image]]:
    """Decode a whole data set; returns the tally and `tiles` pictures of frames, of as many clips as there are.

    path, layout: see `layouts.read`. Ctrl-C ends it early, with what was seen by then. Boxes that are dropped are red.
    """
    tally = Tally()
    best: list[tuple[float, float, int, int, Image]] = []  # a heap; the rank within the clip comes first
    rng = np.random.default_rng(0)
    try:
        for place, clip in enumerate(bar := tqdm(read(path, layout, tally), "inspect", unit="clip", mininterval=1)):
            bar.set_postfix_str(clip.name, refresh=False)
            rank = _ranks(clip, rng)
            for number, image, seen in seen_frames(clip, tally):
                key = -rank[number], -rng.random()
                if len(best) < tiles or (best and key > best[0][:2]):
                    change = heapq.heappush if len(best) < tiles else heapq.heapreplace
                    change(best, (*key, place, number, _frame_tile(clip, number, image, seen)))
    except KeyboardInterrupt:
        tally.drop("the rest: interrupted", f"after {tally.kept['sequences'] + tally.kept['photos']} clips")
    return tally, [entry[4] for entry in sorted(best, key=lambda entry: entry[2:4])]


def _ranks(clip: Clip, rng: np.random.Generator) -> dict[int, int]:
    """Order in which the frames of a clip are wanted on the sheet: start frames first, the others by chance."""
    numbers = sorted({n for target in clip.targets for n in target.boxes} - set(clip.starts))
    return {n: i for i, n in enumerate([*clip.starts, *rng.permutation(numbers).tolist()])}


def _frame_tile(clip: Clip, number: int, image: Image, seen: list[Seen], width: int = 320, height: int = 240) -> Image:
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    tile = np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
    )
    for one in sorted(seen, key=lambda s: not s.fault):
        if one.box.w > 0 and one.box.h > 0:
            label = one.target.name if 1 < len(seen) <= 4 else None
            tile = draw(tile, [v * scale for v in one.box], label=label, colour=DROPPED if one.fault else KEPT)
    out = np.full((height, width, 3), PAPER, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = tile
    return captioned(out, f"{clip.name}  {number}{'  (start)' if number in clip.starts else ''}")


def preview(cfg: TrainConfig, store: Store, count: int) -> list[Image]:
    """Pictures of the first `count` pairs of a run.

    Left the exemplar with its extent, right the search crop with its box and the cells of the score label:
    green where they say target, amber where they do not count, a dot where they say background.
    """
    sampler = PairSampler(store, cfg.pairs, cfg.model, cfg.search_size, cfg.seed)
    grid = build_network(cfg.model).grid_on(cfg.search_size)
    tiles = []
    for index in tqdm(range(count), "preview", unit="pair", mininterval=1):
        pair = sampler[index]
        box = torch.from_numpy(pair.box_search)[None]
        if isinstance(cfg.loss, ScoreLoss):
            score = radius_labels(box, grid, cfg.loss.radius)[0].numpy()
        else:
            score = ellipse_labels(box, grid).score[0].numpy()
        tiles.append(captioned(_pair_tile(pair, score, grid.centres, grid.stride), f"pair {index}"))
    return tiles


def _pair_tile(pair: Pair, score: NDArray[Any], centres: NDArray[np.float64], stride: int, zoom: float = 1.5) -> Image:
    def enlarge(image: Image) -> Image:
        return np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), np.uint8)

    search = enlarge(pair.search)
    paint, shown = search.copy(), np.zeros(search.shape[:2], bool)
    for row, column in zip(*np.nonzero(score), strict=True):
        low = [round((centres[i] - stride / 2) * zoom) + 1 for i in (row, column)]
        high = [round((centres[i] + stride / 2) * zoom) - 1 for i in (row, column)]
        cell = np.s_[max(low[0], 0) : max(high[0], 0), max(low[1], 0) : max(high[1], 0)]
        paint[cell], shown[cell] = TARGET if score[row, column] > 0 else RING, True
    search[shown] = (0.7 * search + 0.3 * paint).astype(np.uint8)[shown]
    for row, column in zip(*np.nonzero(score == 0), strict=True):
        cv2.circle(search, (round(centres[column] * zoom), round(centres[row] * zoom)), 1, BACKGROUND, -1, cv2.LINE_AA)
    if pair.box_search[2] > 0:
        search = draw(search, pair.box_search * zoom, colour=KEPT)
    exemplar = enlarge(pair.exemplar)
    side = exemplar.shape[0]
    w, h = pair.extent * side
    exemplar = draw(exemplar, Box.from_centre(side / 2, side / 2, w, h), colour=KEPT)
    out = np.full((search.shape[0], side + GAP // 2 + search.shape[1], 3), PAPER, np.uint8)
    out[:side, :side], out[:, side + GAP // 2 :] = exemplar, search
    return out


def captioned(image: Image, text: str) -> Image:
    """The picture with a line of text below it."""
    out = np.asarray(cv2.copyMakeBorder(image, 0, CAPTION, 0, 0, cv2.BORDER_CONSTANT, value=PAPER), np.uint8)
    at = (3, out.shape[0] - 5)
    cv2.putText(out, text[-45:], at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def write_sheet(path: Path, tiles: list[Image]) -> None:
    """Write equally large tiles as one picture (png, jpg), whole or not at all. Raises OSError."""
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    write_whole(path, cv2.imencode(path.suffix, sheet)[1].tobytes())
