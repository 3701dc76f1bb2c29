"""Harvest: what moves in a rendered clip is found, followed forward and back, and written as `prepare` reads it."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.benchmark.peers.peers import load_tracker
from tracker.errors import DataError
from tracker.geometry import Box, iou
from train.__main__ import main
from train.harvest import (
    Found,
    Harvest,
    find_videos,
    follow_both_ways,
    is_same,
    is_still,
    labelled_boxes,
    moving_boxes,
    propose,
    read_log,
    stretches,
)
from train.store import prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def clips(footage, tmp_path_factory):
    """walk-0 and walk-1: the square of the shared footage, 5 px a frame to the right from (20, 60), without labels."""
    root = tmp_path_factory.mktemp("clips")
    for i in range(2):
        (root / f"walk-{i}").mkdir()
        shutil.copy(footage / "clips" / "walk" / "clip.mp4", root / f"walk-{i}" / "clip.mp4")
    return root


@pytest.fixture(scope="module")
def shot(clips):
    ((_, images),) = stretches(clips / "walk-0" / "clip.mp4", Harvest(every=1))
    return images


def walk(t):
    return Box(20 + 5 * t, 60, 36, 36)


def rows(file):
    with open(file, newline="") as text:
        return list(csv.DictReader(text))


def test_what_moves_is_followed_and_prepare_reads_it(clips, tmp_path, capsys):
    out, broken = tmp_path / "out", tmp_path / "broken" / "clip.mp4"
    broken.parent.mkdir()
    broken.write_bytes(b"not a video")
    given = [str(broken), str(clips)]
    assert main(["harvest", *given, "--out", str(out), "--teacher", "ncc", "--every", "1"]) == 0
    said = capsys.readouterr().out
    assert "2/3 walk-0: 30 frames" in said and "3/3 walk-1: 30 frames" in said and "contact sheet" in said
    assert "1/3 broken: left out" in said
    found = rows(out / "walk-0" / "boxes.csv")
    moving = [r for r in found if r["id"].startswith("moving")]
    assert len(moving) >= 20
    for name in {r["id"] for r in found}:  # whatever it was drawn on: the ground is still and gives nothing
        track = [float(r["x"]) for r in found if r["id"] == name]
        assert track[-1] - track[0] > 30
    for row in moving:
        assert iou([float(row[k]) for k in "xywh"], walk(int(row["frame"]))) > 0.6
    assert {r["clip"] for r in read_log(out)} == {"walk-0", "walk-1"}
    tally = prepare([out], tmp_path / "store")
    assert tally.kept["sequences"] == 2 and tally.kept["boxes"] == sum(int(r["boxes"]) for r in read_log(out))
    sheet = cv2.imread(str(out / "sheet.png"))
    assert sheet.shape[1] > 300 and sheet.std() > 10


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(clips, tmp_path):
    command = [sys.executable, "-m", "train", "harvest", clips, "--out", tmp_path, "--teacher", "ncc", "--every", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert "walk-0" in run.stdout.readline()  # said at once, although nobody's terminal is there
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=300)
    assert run.returncode == 130 and "Traceback" not in errors
    assert [r["clip"] for r in read_log(tmp_path)] == ["walk-0"] and not list(tmp_path.glob("walk-1/boxes.csv"))
    before = (tmp_path / "walk-0" / "boxes.csv").stat().st_mtime_ns
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "walk-1" in again.stdout and "walk-0:" not in again.stdout
    assert (tmp_path / "walk-0" / "boxes.csv").stat().st_mtime_ns == before
    assert [r["clip"] for r in read_log(tmp_path)] == ["walk-0", "walk-1"]


def test_moving_regions_are_seen_from_a_moving_camera(shot):
    (box, *_) = moving_boxes(shot[3], shot[5])
    assert iou(box, walk(3)) > 0.5
    view = np.array([[1, 0, -8], [0, 1, -3]], np.float32)  # the second view from a camera that went on
    moved = cv2.warpAffine(shot[5], view, shot[5].shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    assert max(iou(box, walk(3)) for box in moving_boxes(shot[3], moved)) > 0.4
    ground = shot[3][:, 100:]
    assert moving_boxes(ground, ground) == []


def test_labelled_targets_give_parts_but_not_themselves(footage, shot):
    known = labelled_boxes(footage / "clips" / "walk" / "clip.mp4")[0]
    proposals = propose(shot, known, None, Harvest(), np.random.default_rng(0))
    parts = [p.box for p in proposals if p.kind == "part"]
    assert len(parts) == 2 and "moving" not in {p.kind for p in proposals}
    for part in parts:
        x, y, w, h = known[0]
        assert x <= part.x and y <= part.y and part.x + part.w <= x + w + 1e-6 and part.y + part.h <= y + h + 1e-6
    seen = propose(shot, [], lambda image: [(60, 20, 30, 40), (61, 21, 30, 40)], Harvest(), np.random.default_rng(0))
    assert [p.box for p in seen if p.kind == "detected"] == [Box(60, 20, 30, 40)]  # and not the same once more


def covered(shot, first):
    """The shot with the square gone from frame `first` on, and nothing like it there."""
    images = [image.copy() for image in shot]
    for image in images[first:]:
        image[40:110] = cv2.GaussianBlur(image[:70], (0, 0), 5)
    return images


def test_only_that_much_of_a_way_is_kept_as_leads_back(shot):
    kept, boxes = follow_both_ways(load_tracker("ncc"), shot, walk(0), Harvest())
    assert len(kept) > 20 and all(iou(box, walk(t)) > 0.8 for t, box in zip(kept, boxes, strict=True))
    blind = Harvest(least_score=0.0)  # it does not see by the score that the square is gone
    assert follow_both_ways(load_tracker("ncc"), covered(shot, 4), walk(0), blind) is None
    kept, boxes = follow_both_ways(load_tracker("ncc"), covered(shot, 16), walk(0), blind)
    assert kept[-1] < 16 and all(iou(box, walk(t)) > 0.8 for t, box in zip(kept, boxes, strict=True))
    kept, _ = follow_both_ways(load_tracker("ncc"), covered(shot, 20), walk(0), Harvest(least_score=0.8))
    assert 15 < kept[-1] < 20  # ends where the score falls, not at the half


def test_still_and_double_tracks_are_known(shot):
    ground = np.tile([150.0, 5, 40, 40], (len(shot), 1))
    assert is_still(shot, ground)
    assert not is_still(shot, np.array([walk(t) for t in range(len(shot))]))
    assert not is_still(shot, np.tile(walk(10), (len(shot), 1)))  # something comes and goes there
    track = Found("moving", [0, 1, 2, 3], np.array([walk(t) for t in range(4)]))
    shifted = Found("part", [2, 3, 4], np.array([walk(t + 0.5) for t in (2, 3, 4)]))
    later = Found("part", [7, 8], np.array([walk(t) for t in (7, 8)]))
    assert is_same(track, shifted) and not is_same(track, later)


def test_a_cut_ends_a_stretch(footage, tmp_path):
    file = tmp_path / "two.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 64))
    for t in range(60):
        writer.write(np.full((64, 64, 3), 40 if t < 26 else 200, np.uint8))
    writer.release()
    pieces = [numbers for numbers, _ in stretches(file, Harvest(every=2, length=12, least_frames=5))]
    assert pieces == [list(range(0, 24, 2)), list(range(26, 50, 2)), list(range(50, 60, 2))]


def test_what_cannot_be_harvested_is_named(clips, tmp_path):
    with pytest.raises(DataError, match="no video in it"):
        find_videos([tmp_path])
    shutil.copytree(clips / "walk-0", tmp_path / "other" / "walk-0")
    with pytest.raises(DataError, match="one name, walk-0"):
        find_videos([clips, tmp_path / "other"])
    assert set(find_videos([clips / "walk-0" / "clip.mp4", clips])) == {"walk-0", "walk-1"}
    assert main(["harvest", str(clips), "--out", str(tmp_path), "--teacher", "ncc", "--detector", "nowhere:find"]) == 2
