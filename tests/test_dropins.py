"""Our tracker in the place of others, in the real packages where pip has them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker import Result, Tracker
from tracker.dropins import (
    LikeBoxmot,
    LikeOpenCV,
    got10k_tracker,
    log_to_rerun,
    to_boxmot,
    to_norfair,
    to_supervision,
)
from tracker.footage.video import Frame
from tracker.geometry import Box, iou
from tracker.scene import Scene

SCENE = Scene((200, 150), 6, seed=2, distractor=False, occlusion=False)
RESULTS = [Result(Box(1, 2, 10, 20), 0.9), Result(Box(5, 5, 5, 5), 0.1, state="lost"), Result(Box(30, 40, 8, 6), 0.6)]


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu")


def test_in_a_program_written_for_opencv(tracker):
    """The same lines follow with a tracker of OpenCV, where this build has one, and with ours."""
    kinds = [LikeOpenCV(tracker)]
    if hasattr(cv2, "TrackerMIL_create"):
        kinds.append(cv2.TrackerMIL_create())
    for one in kinds:
        one.init(SCENE.render(0), tuple(map(round, SCENE.box(0))))
        for t in range(1, len(SCENE)):
            ok, box = one.update(SCENE.render(t))
        assert ok and len(box) == 4 and all(isinstance(v, int) for v in box)
        assert iou([box], [SCENE.box(len(SCENE) - 1)])[0] > 0.4
    assert 0.5 < kinds[0].getTrackingScore() <= 1
    grey = np.full_like(SCENE.render(0), 128)
    for _ in range(12):
        ok, box = kinds[0].update(grey)
    assert (ok, box) == (False, (0, 0, 0, 0))


def test_in_an_experiment_of_got10k(tracker, tmp_path):
    pytest.importorskip("got10k.trackers", reason="pip install got10k six")
    files = []
    for t in range(len(SCENE)):
        files.append(str(tmp_path / f"{t}.png"))
        cv2.imwrite(files[-1], SCENE.render(t))
    one_based = np.add(SCENE.box(0), (1, 1, 0, 0))
    boxes, times = got10k_tracker(tracker).track(files, one_based)
    assert boxes.shape == (len(SCENE), 4) and (times > 0).all()
    tracker.init(SCENE.render(0), SCENE.box(0))
    for t in range(1, len(SCENE)):
        np.testing.assert_allclose(boxes[t], np.add(tracker.update(SCENE.render(t)).box, (1, 1, 0, 0)), atol=1e-6)


def test_for_the_annotators_of_supervision():
    sv = pytest.importorskip("supervision", reason="pip install supervision")
    found = to_supervision(RESULTS, ids=[4, 5, 6])
    assert found.tracker_id.tolist() == [4, 6] and found.xyxy.tolist() == [[1, 2, 11, 22], [30, 40, 38, 46]]
    frame = np.zeros((60, 60, 3), np.uint8)
    assert sv.BoxAnnotator().annotate(frame.copy(), found).any()
    assert len(to_supervision(RESULTS[1:2])) == 0
    zone = sv.PolygonZone(np.array([(25, 35), (50, 35), (50, 55), (25, 55)]))
    assert zone.trigger(found).tolist() == [False, True]


def test_as_boxmot_gives_them():
    assert to_boxmot(RESULTS).tolist() == [
        [1, 2, 11, 22, 0, pytest.approx(0.9), 0, 0],
        [30, 40, 38, 46, 2, pytest.approx(0.6), 0, 2],
    ]
    assert to_boxmot(RESULTS[1:2]).shape == (0, 8)


def test_in_a_program_written_for_boxmot(tracker):
    """The same loop runs with a tracker of boxmot and with ours: rows of one shape, an id that lasts, the detection."""
    boxmot = pytest.importorskip("boxmot", reason="pip install --no-deps boxmot lapx")
    for one in (boxmot.ByteTrack(), LikeBoxmot(tracker)):
        ids = set()
        for t in range(len(SCENE)):
            x, y, w, h = SCENE.box(t)
            found = np.array([[5, 5, 25, 25, 0.2, 1], [x, y, x + w, y + h, 0.9, 3]])
            rows = one.update(found, SCENE.render(t))
            (row,) = [row for row in rows.tolist() if row[6] == 3]
            assert len(row) == 8 and row[7] == 1 and row[4] == int(row[4])
            assert iou([(row[0], row[1], row[2] - row[0], row[3] - row[1])], [(x, y, w, h)])[0] > 0.4
            ids.add(row[4])
        assert len(ids) == 1


def test_without_a_detection_a_target_is_followed_on_which_boxmot_does_not(tracker):
    ours = LikeBoxmot(tracker)
    x, y, w, h = SCENE.box(0)
    assert ours.update(np.array([[x, y, x + w, y + h, 0.9, 3]]), SCENE.render(0))[0, 7] == 0
    for t in range(1, len(SCENE)):
        (row,) = ours.update(np.empty((0, 6)), SCENE.render(t)).tolist()
        assert row[4:] == [0, pytest.approx(row[5]), 3, -1]
        assert iou([(row[0], row[1], row[2] - row[0], row[3] - row[1])], [SCENE.box(t)])[0] > 0.4
    with pytest.raises(ValueError, match=r"wanted \(N, 6\)"):
        ours.update(np.zeros((2, 5)), SCENE.render(0))


def test_as_norfair_takes_and_gives_them():
    norfair = pytest.importorskip("norfair", reason="pip install --no-deps norfair filterpy rich")
    found = to_norfair(RESULTS, ids=[4, 5, 6])
    assert [one.data for one in found] == [4, 6] and found[0].points.tolist() == [[1, 2], [11, 22]]
    others = norfair.Tracker("iou", distance_threshold=0.9, initialization_delay=0)
    tracked = others.update(found)
    assert sorted(one.last_detection.data for one in tracked) == [4, 6]
    frame = np.zeros((60, 60, 3), np.uint8)
    assert norfair.draw_boxes(frame, tracked).any()


def logged(file, path):
    """What a recording of Rerun holds at a path, as its own program prints it: frame, time, values of each row."""
    said = subprocess.run(["rerun", "rrd", "print", "-vvv", file], capture_output=True, text=True, check=True).stdout
    rows = []
    for chunk in said.split("Chunk(")[1:]:
        if re.search(rf"- {re.escape(path)} - ", chunk):
            kind = re.search(r"archetype: (\w+)", chunk)[1]
            for line in chunk.splitlines():
                cells = [cell.strip() for cell in line.strip("│ ").split("┆")]
                if cells[0].startswith("row_"):
                    rows.append((int(cells[1]), kind, cells[4:]))
    return sorted(rows)


def test_logged_to_rerun(tmp_path, monkeypatch):
    rerun = pytest.importorskip("rerun", reason="pip install rerun-sdk")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "a.rrd"
    recording = rerun.RecordingStream("siamtrack")
    recording.save(file)
    for t in range(3):
        shown = RESULTS if t < 2 else RESULTS[1:2]
        log_to_rerun(Frame(SCENE.render(t), 7 + t, t / 25), shown, range(4, 4 + len(shown)), recording=recording)
    recording.flush()
    recording.disconnect()
    boxes = [row for row in logged(file, "/camera/targets") if row[1] == "Boxes2D"]
    assert [row[0] for row in boxes] == [7, 8] and "4 0.90" in str(boxes[0]) and "6 0.60" in str(boxes[0])
    assert "[6.0, 12.0]" in str(boxes[0]) and "[5.0, 10.0]" in str(boxes[0])  # centre and half of the size
    assert [row[:2] for row in logged(file, "/camera/targets") if row[1] == "Clear"] == [(9, "Clear")]
    assert [row[0] for row in logged(file, "/camera")] == [7, 8, 9]
    assert [row[2] for row in logged(file, "/score/6")] == [["[0.6]"]] * 2
    assert [row[0] for row in logged(file, "/ms/network")] == [7, 8, 9]


def test_without_rerun_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"pip install .*rerun"):
        log_to_rerun(Frame(SCENE.render(0), 0, 0.0), RESULTS)
