"""Rendered footage to try a set-up with: clips as people bring them, and sequences to validate on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from tracker.errors import DataError
from tracker.footage.output import write_whole
from tracker.footage.video import VideoWriter
from tracker.scene import Scene

SIZE = (240, 180)  # px
FRAMES = 50
VALIDATION_SEED = 100_000  # scenes to validate on have seeds from here on


def render(folder: Path, clips: int, sequences: int, seed: int = 0) -> None:
    """Render scenes into a new folder.

    clips: folder/clips/scene-0/ and so on, each a clip.mp4, a boxes.csv and masks/. sequences: folder/val/scene-0/ and
    so on, in OTB's layout (img/, groundtruth_rect.txt, one-based). seed: of the first clip.
    Raises DataError: the folder is there and not empty.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; give a new folder to render into")
    for i in tqdm(range(clips), "render clips", unit="clip"):
        _clip(folder / "clips" / f"scene-{i}", Scene(SIZE, FRAMES, seed + i))
    for i in tqdm(range(sequences), "render val", unit="sequence"):
        _sequence(folder / "val" / f"scene-{i}", Scene(SIZE, FRAMES, VALIDATION_SEED + i))


def _clip(folder: Path, scene: Scene) -> None:
    (folder / "masks" / "0").mkdir(parents=True)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("frame", "x", "y", "w", "h"))
    video = VideoWriter(folder / "clip.mp4", 25, SIZE)
    try:
        for t in range(len(scene)):
            video.write(scene.render(t))
            mask = np.rint(255 * scene.mask(t)).astype(np.uint8)
            write_whole(folder / "masks" / "0" / f"{t:05d}.png", cv2.imencode(".png", mask)[1].tobytes())
            table.writerow((t, *(f"{v:.2f}" for v in scene.box(t))))
    finally:
        video.close()
    write_whole(folder / "boxes.csv", text.getvalue().encode())


def _sequence(folder: Path, scene: Scene) -> None:
    (folder / "img").mkdir(parents=True)
    rows = []
    for t in range(len(scene)):
        write_whole(folder / "img" / f"{t + 1:04d}.jpg", cv2.imencode(".jpg", scene.render(t))[1].tobytes())
        x, y, w, h = scene.box(t)
        rows.append(f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}")
    write_whole(folder / "groundtruth_rect.txt", "\n".join([*rows, ""]).encode())
