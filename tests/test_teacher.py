"""The teacher: its members speak as the trackers they are, the vote, and soft targets on the student's crop."""

from dataclasses import replace

import numpy as np
import pytest
from test_benchmark_peers import fear

from tracker.benchmark.peers.peers import load_tracker
from tracker.checkpoints import load_network
from tracker.geometry import Box, CropWindow, Grid, iou
from tracker.loading import weight_file
from tracker.scene import Scene
from tracker.tracker import Tracker
from train.teacher import Mirrored, PeerMember, Said, Teacher, load_member, load_teacher, soft_targets, vote


@pytest.fixture(scope="module")
def scene():
    return Scene((320, 240), 30, 3, distractor=False, occlusion=False)


@pytest.fixture(scope="module")
def swift():
    return load_member("swift")


def plain_swift():
    net = load_network(weight_file("swift"))
    net.config = replace(net.config, confidence=None)
    return net


class Steady:
    """A member that moves the box by the same step every frame."""

    name = "steady"

    def __init__(self, step, score=1.0):
        self.step, self.score = step, score

    def embed(self, frame, box):
        return None

    def look(self, frame, known, around):
        box = Box(around.x + self.step[0], around.y + self.step[1], around.w, around.h)
        return Said(box, self.score, np.zeros(1), np.zeros(1), np.ones((1, 1)), np.array([[box]]))


def test_a_member_alone_is_the_tracker_that_it_comes_from(scene, swift, tmp_path):
    fear(tmp_path, cell=(8, 9))
    for member, tracker, stop in (
        (swift, Tracker(plain_swift()), 2),  # from its second frame on a tracker searches where the target goes
        (PeerMember(f"fear={tmp_path}"), load_tracker(f"fear={tmp_path}"), 4),
    ):
        alone = Teacher([member])
        alone.init(scene.render(0), scene.box(0))
        tracker.init(scene.render(0), scene.box(0))
        for t in range(1, stop):
            expected = tracker.update(scene.render(t))
            answer = alone.update(scene.render(t))
            np.testing.assert_allclose(answer.box, expected.box, atol=1e-3)
            assert answer.score == pytest.approx(expected.score, abs=1e-5)


def test_the_best_cell_of_a_member_is_at_the_target(scene, swift):
    said = swift.look(scene.render(2), swift.embed(scene.render(0), Box(*scene.box(0))), Box(*scene.box(1)))
    row, column = np.unravel_index(said.scores.argmax(), said.scores.shape)
    x, y, w, h = scene.box(2)
    assert x < said.x[column] < x + w and y < said.y[row] < y + h
    assert iou(said.boxes[row, column], scene.box(2)) > 0.6


def test_a_mirrored_member_steps_to_the_other_side(tmp_path):
    fear(tmp_path, cell=(8, 9))  # always one cell to the right of the middle
    frame, box = np.zeros((240, 320, 3), np.uint8), Box(100.0, 80.0, 40.0, 20.0)
    plain = PeerMember(f"fear={tmp_path}")
    mirrored = Mirrored(plain)
    right, left = (m.look(frame, m.embed(frame, box), box) for m in (plain, mirrored))
    assert right.box.x - box.x == pytest.approx(box.x - left.box.x, abs=1e-4) and right.box.x > box.x
    row, column = np.unravel_index(left.scores.argmax(), left.scores.shape)
    np.testing.assert_allclose(left.boxes[row, column], left.box, atol=1e-4)
    assert (np.diff(left.x) > 0).all() and left.x[column] == pytest.approx(left.box.centre[0], abs=1e-4)


def test_the_vote_is_the_mean_of_those_that_agree():
    boxes = np.array([[10, 10, 20, 20], [12, 10, 20, 20], [100, 50, 20, 20]], float)
    voted = vote(boxes, np.array([0.9, 0.7, 1.0]), np.ones(3))
    np.testing.assert_allclose(voted.box, (11, 10, 20, 20))
    assert voted.agreement == pytest.approx((1 + 18 / 22) / 3)
    assert voted.score == pytest.approx(voted.agreement * 0.9)
    np.testing.assert_allclose(vote(boxes, np.ones(3), np.array([3.0, 1, 1])).box, (10.5, 10, 20, 20))
    np.testing.assert_allclose(vote(boxes, np.ones(3), np.array([0.0, 0, 1])).box, boxes[2])


def test_one_that_goes_astray_is_led_back_by_the_others():
    frame = np.zeros((200, 300, 3), np.uint8)
    teacher = Teacher([Steady((2, 0)), Steady((2, 1)), Steady((40, 0))])
    teacher.init(frame, (50, 50, 30, 30))
    for t in range(1, 6):
        answer = teacher.update(frame)
        np.testing.assert_allclose(answer.box, (50 + 2 * t, 50 + t / 2, 30, 30))
    assert answer.score < 0.7
    with pytest.raises(ValueError, match="weights"):
        Teacher([Steady((0, 0))], [1, 2])


def test_soft_targets_on_the_members_own_crop_are_its_own_maps(scene, swift):
    first, second = scene.render(0), scene.render(3)
    box, around = Box(*scene.box(0)), Box(*scene.box(2))
    said = swift.look(second, swift.embed(first, box), around)
    model = plain_swift()
    window, grid = model.config.search_window(around), model.grid
    soft = soft_targets(Teacher([swift]), first, box, second, window, grid, around)
    np.testing.assert_allclose(soft.score_map[0], said.scores, atol=1e-6)
    np.testing.assert_allclose(window.to_frame(soft.box.tolist()), said.box, atol=1e-3)
    left, top, right, bottom = soft.box_map[0, :, 4, 6]
    centre = grid.centres[6], grid.centres[4]
    seen = Box(centre[0] - left, centre[1] - top, left + right, top + bottom)
    np.testing.assert_allclose(window.to_frame(seen), said.boxes[4, 6], atol=1e-3)


def test_soft_targets_say_nothing_where_a_member_did_not_look(scene, swift):
    """A student's crop of another place and size: the same box in the frame; cells beyond the member's crop are NaN."""
    first, second = scene.render(0), scene.render(3)
    box, around = Box(*scene.box(0)), Box(*scene.box(2))
    cx, cy = around.centre
    window, grid = CropWindow.around((cx + 30, cy - 10), 400, 320, 256), Grid(32, 8, 4.0)  # stretched
    soft = soft_targets(Teacher([swift, Mirrored(swift)]), first, box, second, window, grid, around)
    assert soft.score_map.shape == (2, 32, 32) and soft.box_map.shape == (2, 4, 32, 32) and soft.boxes.shape == (2, 4)
    assert iou(np.array(window.to_frame(soft.box.tolist())), scene.box(3)) > 0.6
    assert np.isnan(soft.score_map).any() and np.nanmax(soft.score_map) <= 1
    assert (np.isnan(soft.score_map) == np.isnan(soft.box_map[:, 0])).all()
    for scores, boxes in zip(soft.score_map, soft.box_map, strict=True):
        row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
        left, top, right, bottom = boxes[:, row, column]
        found = Box(grid.centres[column] - left, grid.centres[row] - top, left + right, top + bottom)
        assert iou(np.array(window.to_frame(found)), scene.box(3)) > 0.6


def test_a_spec_that_cannot_vote_is_refused(tmp_path):
    (tmp_path / "walk.txt").write_text("1,2,30,40\n")
    with pytest.raises(ValueError, match="no say in a vote"):
        load_teacher(["swift", f"results={tmp_path}"])
    with pytest.raises(ValueError, match="no box head"):
        load_teacher(["swift", "siamfc"])
