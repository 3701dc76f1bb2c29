"""Labels from a few keys: what is proposed between them, what a correction changes, and what is taken back."""

import json

import numpy as np
import pytest

from tracker import Result, Tracker, frames
from tracker.errors import DataError
from tracker.footage import layouts
from tracker.footage.clip import Tally
from tracker.footage.video import Frame, VideoWriter
from tracker.geometry import Box, iou
from tracker.label import DOUBT, Labeller, blend, interpolate
from tracker.scene import Scene
from tracker.web.labelling import Labelling
from tracker.web.reel import open_reel

COUNT = 24
SCENE = Scene((240, 180), COUNT, seed=2, distractor=False, occlusion=False)
TRUTH = [Box(*SCENE.box(t)) for t in range(COUNT)]
HERE, NEAR, THERE = Box(10, 10, 20, 20), Box(12, 10, 20, 20), Box(100, 100, 20, 20)
LOST = Result(THERE, 0.05, state="lost")


def read(index):
    return Frame(SCENE.render(index), index, index / 30) if 0 <= index < COUNT else None


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu")


@pytest.fixture
def labeller(tracker):
    return Labeller(tracker, read, 0, COUNT)


def boxes(labeller, number=0):
    return {f: row.box for f, row in sorted(labeller.targets[number].rows.items())}


# --- what two trackers say of one frame


def test_two_that_agree_are_averaged_by_nearness_and_trusted():
    early, late = (blend(Result(HERE, 0.9), Result(NEAR, 0.9), share, None) for share in (0.25, 0.75))
    assert early.box.x == pytest.approx(10.5) and late.box.x == pytest.approx(11.5)
    assert early.score == pytest.approx(0.9 * iou(HERE, NEAR)) and early.state == "tracking"
    assert blend(Result(HERE, 0.9), Result(NEAR, 0.1), 0.5, None).box.x == pytest.approx(10.2)


def test_two_that_contradict_each_other_are_not_averaged_and_not_trusted():
    proposal = blend(Result(HERE, 0.9), Result(THERE, 0.8), 0.5, None)
    assert proposal.box == HERE and proposal.score < DOUBT and proposal.state == "uncertain"
    assert blend(Result(HERE, 0.9), Result(THERE, 0.9), 0.9, None).box == THERE


def test_one_that_is_lost_leaves_the_other_in_doubt_and_two_a_straight_line():
    assert blend(Result(HERE, 0.9), LOST, 0.5, None).box == HERE
    assert blend(Result(HERE, 0.9), LOST, 0.5, None).state == "uncertain"
    assert blend(Result(HERE, 0.9), None, 0.0, None).state == "tracking"  # after the last key there is but one
    guess = blend(LOST, LOST, 0.5, NEAR)
    assert (guess.box, guess.score, guess.state) == (NEAR, 0.0, "lost")
    assert blend(None, None, 0.5, None) is None


def test_straight_lines_end_where_the_target_is_gone():
    keys = {0: HERE, 4: Box(14, 18, 20, 20), 8: None, 10: THERE}
    assert interpolate(keys, 1) == (11, 12, 20, 20) and interpolate(keys, 4) == (14, 18, 20, 20)
    assert [interpolate(keys, f) for f in (6, 8, 9, 11)] == [None] * 4


# --- a clip


def test_from_one_key_both_ways_and_a_correction_changes_its_spans_only(labeller):
    number = labeller.add(read(10), TRUTH[10], "ball")
    labeller.finish()
    found = boxes(labeller)
    assert list(found) == list(range(COUNT)) and iou(list(found.values()), TRUTH).mean() > 0.6
    assert labeller.spans(number) == [(0, 9), (11, COUNT - 1)]

    x, y, w, h = TRUTH[18]
    wide = Box(x - 6, y - 6, w + 12, h + 12)  # a person who draws with a margin
    labeller.set_key(number, read(18), wide)
    labeller.finish()
    corrected = boxes(labeller)
    assert corrected[18] == wide and {f: corrected[f] for f in range(11)} == {f: found[f] for f in range(11)}
    grown = [corrected[f][2] - found[f][2] for f in range(11, COUNT)]
    assert grown[6] > 3 and grown[8] > 3 and grown[0] < grown[6]  # beside it as drawn there, less far from it

    assert labeller.undo()
    labeller.finish()
    assert boxes(labeller) == found
    assert labeller.undo() and not labeller.targets and not labeller.undo()


def test_a_target_that_is_gone_has_no_boxes_until_its_next_key(labeller):
    number = labeller.add(read(2), TRUTH[2])
    labeller.set_key(number, read(8), None)
    labeller.set_key(number, read(16), TRUTH[16])
    labeller.set_key(number, read(0), None)
    labeller.finish()
    assert list(boxes(labeller)) == [*range(2, 8), *range(16, COUNT)]
    with pytest.raises(ValueError, match="not a key frame"):
        labeller.drop_key(number, 5)
    labeller.drop_key(number, 8)
    labeller.finish()
    assert list(boxes(labeller)) == list(range(2, COUNT))


def test_a_jump_of_the_truth_is_in_doubt_where_it_happens(labeller):
    """Two keys on different things: the trackers from both ends contradict each other, and that is said."""
    number = labeller.add(read(0), TRUTH[0])
    labeller.set_key(number, read(12), (5, 5, 30, 30))
    labeller.finish()
    (first, last), *_ = labeller.doubts(number)
    assert 1 <= first < last <= 11
    assert first <= labeller.worst(number, (1, 11)) <= last


def test_the_last_box_cannot_be_taken_back_and_unknown_ones_are_named(labeller):
    number = labeller.add(read(0), TRUTH[0])
    for what, said in (
        (lambda: labeller.drop_key(number, 0), "only box"),
        (lambda: labeller.set_key(7, read(0), TRUTH[0]), "no target 7; there are: 0"),
        (lambda: labeller.set_key(number, read(3), (900, 0, 5, 5)), "wholly outside"),
        (lambda: labeller.rename(number, "a,b"), "is no name"),
        (lambda: labeller.rename(number, "a\x1b[2J"), "is no name"),
    ):
        with pytest.raises(ValueError, match=said):
            what()
    assert labeller.targets[number].keys == {0: TRUTH[0]}


# --- on the disk


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "ball.mp4"
    with VideoWriter(path, 30, SCENE.size) as writer:
        for image in SCENE:
            writer.write(image)
    return path


def open_labels(tracker, clip, folder):
    return Labelling(tracker, open_reel(clip), clip, folder)


def finish(labels):
    while labels.work() is not None:
        pass


def test_what_is_said_is_kept_at_once_and_goes_on_later(tracker, clip, tmp_path):
    labels = open_labels(tracker, clip, tmp_path / "out")
    with frames(clip) as source:
        first = next(source)
    labels.add(first, TRUTH[0])
    labels.rename(0, "ball")
    assert json.loads((tmp_path / "out/labels.json").read_text())["targets"]["0"]["keys"] == {"0": list(TRUTH[0])}
    again = open_labels(tracker, clip, tmp_path / "out")  # as after a crash
    assert again.names == {0: "ball"} and again.given == {0: {0: TRUTH[0]}}
    finish(again)
    assert (tmp_path / "out/boxes.csv").read_text().count("\n") == 1 + COUNT
    folder = again.write("boxes")
    (read_back,) = layouts.read(folder, None, Tally())
    assert len(read_back.targets[0].boxes) == COUNT and read_back.frames == folder / "ball.mp4"

    other = open_labels(tracker, clip, tmp_path / "other")
    other.take(again.write("cvat"))
    assert other.names == {0: "ball"} and len(other.given[0]) == COUNT and other.work() is None
    np.testing.assert_allclose(
        [other.rows[0][f].box for f in range(COUNT)], [again.rows[0][f].box for f in range(COUNT)], atol=1e-3
    )
    with pytest.raises(DataError, match="labels are taken from boxes, mot, cvat"):
        other.take(again.write("yolo"))


def test_labels_of_another_clip_are_not_overwritten(tracker, clip, tmp_path):
    (tmp_path / "labels.json").write_text('{"clip": "cat.mp4", "size": [240, 180], "targets": {}}')
    with pytest.raises(DataError, match=r"is of cat\.mp4"):
        open_labels(tracker, clip, tmp_path)
    (tmp_path / "labels.json").write_text('{"clip": "ball.mp4", "size": [240, 180], "targets": {"0": {"keys": {}}}}')
    with pytest.raises(DataError, match="not labels of ours"):
        open_labels(tracker, clip, tmp_path)


@pytest.mark.parametrize(
    "keys", ['{"0": [1, 2, NaN, 4]}', '{"0": [1, 2, 3, 1e999]}', '{"1000000000": [1, 2, 3, 4]}', '{"-1": [1, 2, 3, 4]}',
             '{"0": [1, 2, 3]}', '{"0": "1234"}', '{"0": [1, 2, 3, ' + "9" * 400 + "]}", "[]", '{"0": 5}'],
)  # fmt: skip
def test_labels_that_no_page_has_written_are_refused(tracker, clip, tmp_path, keys):
    one = '"targets": {"0": {"name": "ball", "keys": ' + keys + "}}"
    (tmp_path / "labels.json").write_text('{"clip": "ball.mp4", "size": [240, 180], ' + one + "}")
    before = (tmp_path / "labels.json").read_bytes()
    with pytest.raises(DataError, match=r"labels\.json"):
        open_labels(tracker, clip, tmp_path)
    assert (tmp_path / "labels.json").read_bytes() == before
