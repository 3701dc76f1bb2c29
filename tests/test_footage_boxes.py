"""Boxes that were written are read back by the readers of the same formats."""

import json

import cv2
import numpy as np
import pytest

from tracker.footage import layouts
from tracker.footage.boxes import Row, as_coco, as_csv, as_mot, as_otb, by_target, image_name
from tracker.footage.clip import Tally

SIZE = (64, 48)
BOXES = {0: [(3.25, 4.5, 20.0, 10.0), (4.25, 5.5, 21.0, 11.0), (5.0, 6.0, 22.0, 12.0)], 1: [(30.0, 20.0, 9.5, 8.0)] * 3}
LOST = (0, 1)  # target, frame


@pytest.fixture
def rows():
    return [
        Row(f, f / 30, n, *boxes[f], 0.9, "lost" if (n, f) == LOST else "tracking")
        for n, boxes in BOXES.items()
        for f in range(3)
    ]


def images(folder):
    folder.mkdir(parents=True)
    for f in range(3):
        cv2.imwrite(str(folder / image_name(f)), np.full((SIZE[1], SIZE[0], 3), 50 * f, np.uint8))


def read(root, layout):
    (clip, *others) = layouts.read(root, layout, Tally())
    return clip, others


def wanted(n):
    return {f: box for f, box in enumerate(BOXES[n]) if (n, f) != LOST}


def test_csv(rows, tmp_path):
    images(tmp_path / "img")
    (tmp_path / "boxes.csv").write_text(as_csv(rows))
    clip, _ = read(tmp_path, "boxes")
    assert {int(t.name): dict(t.boxes) for t in clip.targets} == {n: wanted(n) for n in BOXES}


def test_mot(rows, tmp_path):
    images(tmp_path / "one" / "img1")
    (tmp_path / "one" / "gt").mkdir()
    (tmp_path / "one" / "gt" / "gt.txt").write_text(as_mot(rows, truth=True))
    clip, _ = read(tmp_path, "mot")
    assert {int(t.name) - 1: dict(t.boxes) for t in clip.targets} == {n: wanted(n) for n in BOXES}
    line = as_mot(rows).splitlines()[0].split(",")
    assert line == ["1", "1", "4.25", "5.5", "20.0", "10.0", "0.9", "-1", "-1", "-1"]


def test_otb(rows, tmp_path):
    images(tmp_path / "one" / "img")
    (tmp_path / "one" / "groundtruth_rect.txt").write_text(as_otb(by_target(rows)[0], 3))
    (sequence,) = layouts.load(tmp_path)
    np.testing.assert_array_equal(sequence.boxes[[0, 2]], [BOXES[0][0], BOXES[0][2]])
    assert np.isnan(sequence.boxes[1]).all()


def test_coco(rows, tmp_path):
    images(tmp_path / "images")
    (tmp_path / "boxes.json").write_text(as_coco(rows, SIZE, {0: "dog", 1: "cat"}))
    clip, others = read(tmp_path, "coco")
    clips = {c.frames[0].name: c for c in (clip, *others)}
    assert set(clips) == {image_name(f) for f in range(3)}
    first, second = clips[image_name(0)], clips[image_name(1)]
    assert [dict(t.boxes)[0] for t in first.targets] == [BOXES[0][0], BOXES[1][0]]
    assert [t.label.split("/")[-1] for t in first.targets] == ["dog", "cat"]
    assert [t.boxes[0] for t in second.targets] == [BOXES[1][1]] and second.size == SIZE
    assert {one["track_id"] for one in json.loads((tmp_path / "boxes.json").read_text())["annotations"]} == {0, 1}
