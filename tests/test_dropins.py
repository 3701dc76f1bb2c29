"""Our tracker in the place of others, in the real packages where pip has them."""

import cv2
import numpy as np
import pytest

from tracker import Result, Tracker
from tracker.dropins import LikeOpenCV, got10k_tracker, to_boxmot, to_supervision
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
