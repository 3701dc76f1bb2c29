"""A tiny tree of real files to train on: a clip, stills with masks; and a recipe of four steps."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tracker.config import load_yaml
from tracker.footage.video import VideoWriter
from train.config import BoxLoss, TrainConfig

ROOT = Path(__file__).parents[1]


def write_film(path, images, fps, size):
    with VideoWriter(path, fps, size) as writer:
        for image in images:
            writer.write(image)
    return path


def write_boxes(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def make_footage(root):
    """clips/walk: 30 frames of a textured square that moves; stills/shapes: two photos of discs with masks."""
    rng = np.random.default_rng(0)
    clip = root / "clips" / "walk"
    (clip / "masks" / "0").mkdir(parents=True)
    ground = cv2.resize(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8), (240, 160))
    patch = cv2.resize(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8), (36, 36), interpolation=cv2.INTER_NEAREST)
    writer = cv2.VideoWriter(str(clip / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (240, 160))
    rows = []
    for t in range(30):
        frame, mask = ground.copy(), np.zeros((160, 240), np.uint8)
        x, y = 20 + 5 * t, 60
        frame[y : y + 36, x : x + 36] = patch
        mask[y : y + 36, x : x + 36] = 255
        writer.write(frame)
        cv2.imwrite(str(clip / "masks" / "0" / f"{t:05d}.png"), mask)
        if t != 7:  # absent
            rows.append((t, 0, x, y, 36, 36))
    writer.release()
    write_boxes(
        clip / "boxes.csv", ("frame", "id", "x", "y", "w", "h"), [*rows, (9, 1, 5, 5, 2, 2), (99, 0, 1, 1, 30, 30)]
    )

    stills = root / "stills" / "shapes"
    (stills / "images").mkdir(parents=True)
    (stills / "masks").mkdir()
    rows = []
    for i in range(2):
        image = cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240))
        mask = cv2.circle(np.zeros((240, 320), np.uint8), (100 + 90 * i, 120), 40, 255, -1)
        image[mask > 0] = (40, 80 + 90 * i, 200)
        cv2.imwrite(str(stills / "images" / f"{i}.png"), image)
        cv2.imwrite(str(stills / "masks" / f"{i}.png"), mask)
        rows.append((f"{i}.png", 60 + 90 * i, 80, 81, 81, "disc", f"masks/{i}.png"))
    rows.append(("gone.png", 1, 1, 30, 30, "disc", ""))
    (stills / "images" / "broken.png").write_bytes(b"not an image")
    rows.append(("broken.png", 1, 1, 30, 30, "disc", ""))
    write_boxes(stills / "boxes.csv", ("image", "x", "y", "w", "h", "label", "mask"), rows)


def tiny(network="swift", **optim):
    cfg = load_yaml(TrainConfig, ROOT / "configs" / f"{network}.yaml")
    names = "turn", "part", "absent", "imposter", "deform", "motion_blur", "look_alike", "occluder", "shape_jitter"
    plain: dict[str, float] = dict.fromkeys(names, 0.0)
    pairs = replace(cfg.pairs, mix={"clips": 1.0, "shapes": 1.0}, **plain)
    small = {"batch": 4, "micro_batch": 2, "steps": 4, "train": "all", "frozen_stages": 5 if network == "swift" else 0}
    loss = cfg.loss if network == "siamfc" else BoxLoss("bce", "giou", box=1.5, hard=0.5, swapped=0.5, refine=0.0)
    return replace(cfg, pairs=pairs, loss=loss, optim=replace(cfg.optim, **small | optim))
