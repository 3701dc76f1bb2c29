"""Fitting the probability of a box, on numbers with known truth and on rendered footage."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tracker import Tracker
from tracker.benchmark.judge.fates import calibration_error
from tracker.checkpoints import load_network, save_network
from tracker.config import Logistic
from tracker.errors import DataError
from tracker.footage.clip import Tally
from tracker.footage.video import VideoWriter
from tracker.scene import Scene
from tracker.search import Search
from tracker.target import EVIDENCE, VERIFIED
from train.__main__ import main
from train.calibrate import GONE, NOTICED, SEARCH_EVERY, _gathered, calibrate, fit, footage, gather, never_in_doubt


def test_fit_finds_the_model_that_made_the_data():
    rng = np.random.default_rng(0)
    evidence = rng.normal(0, 2, (20_000, 8)) * np.array([1, 5, 0.1, 1, 1, 1, 3, 1]) + 1
    truth = Logistic((0.8, 0.1, 3.0, 0.4, -1.0, 0.0, 0.3, -0.2), -1.5)
    p = np.array([truth.probability(row) for row in evidence])
    found = fit(evidence, rng.random(len(p)) < p, ridge=0.0)
    assert found.weights == pytest.approx(truth.weights, abs=0.05, rel=0.15)
    q = np.array([found.probability(row) for row in evidence])
    assert np.abs(p - q).mean() < 0.01


def test_calibration_error_by_hand():
    p = np.array([0.05, 0.05, 0.95, 0.95])
    assert calibration_error(p, np.array([False, False, True, True])) == pytest.approx(0.05)
    assert calibration_error(p, np.array([True, False, True, False])) == pytest.approx(0.45)
    assert calibration_error(np.array([1.0]), np.array([True])) == 0


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A rendered clip beside its boxes; the target is not labelled in frame 44."""
    folder = tmp_path_factory.mktemp("clips") / "one"
    folder.mkdir()
    scene = Scene((240, 180), 60, seed=5)
    with VideoWriter(folder / "clip.mp4", 25, (240, 180)) as writer:
        for t in range(60):
            writer.write(scene.render(t))
    rows = [f"{t},{','.join(f'{v:.2f}' for v in scene.box(t))}" for t in range(60) if t != 44]
    (folder / "boxes.csv").write_text("\n".join(["frame,x,y,w,h", *rows]) + "\n")
    return folder.parent


def test_footage_takes_the_longest_unbroken_track(clips, tmp_path):
    (sequence,) = footage([clips], tmp_path, Tally())
    assert len(sequence) == 44 and sequence.image(43).shape == (180, 240, 3)
    (again,) = footage([clips], tmp_path, Tally())
    assert again.frames == sequence.frames and np.array_equal(again.boxes, sequence.boxes)


def test_clips_of_one_name_are_not_mixed(clips, tmp_path):
    other = tmp_path / "elsewhere"
    shutil.copytree(clips, other)
    with pytest.raises(DataError, match=r"a second clip is called .*one.*; rename one"):
        footage([clips, other], tmp_path / "work", Tally())


def test_calibration_without_a_candidate_says_so(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(Search, "candidates", lambda *args: [])
    sequence = footage([clips], tmp_path / "work", Tally())[0]
    with pytest.raises(DataError, match="no candidate was found"):
        calibrate(load_network("tracker/weights/swift.safetensors"), [sequence.part(0, 30)], tmp_path / "work")


def test_habits_are_formed_by_the_truth_when_told_and_else_by_belief(clips, tmp_path):
    (sequence,) = footage([clips], tmp_path, Tally())
    tracker = Tracker.load("swift", device="cpu")
    tracker.policy.judge.rules = never_in_doubt(None, told=True)  # learns from nothing
    unusual = [EVIDENCE.index("unusual logit"), EVIDENCE.index("unusual colours")]
    told, alone = (gather(tracker, sequence, told) for told in (True, False))
    assert told.followed_right.mean() > 0.8 and (told.following[2:, unusual] != 0).any(0).all()
    assert (alone.following[:, unusual] == 0).all()
    assert (
        len(told.finding) == 0 < len(alone.finding)
        and alone.following.shape == (43, len(EVIDENCE))
        and alone.finding.shape[1] == len(VERIFIED)
    )


def test_candidates_are_judged_by_what_was_known_some_time_before(clips, tmp_path, monkeypatch):
    (sequence,) = footage([clips], tmp_path, Tally())
    tracker = Tracker.load("swift", device="cpu")
    tracker.policy.judge.rules = replace(never_in_doubt(None, told=False), likely=0.0)  # learns from every frame
    known = []
    policy = tracker.policy
    monkeypatch.setattr(policy.search, "candidates", lambda target, *_: known.append(target.reference.frames) or [])
    gather(tracker, sequence, told=False)
    searched = range(SEARCH_EVERY, len(sequence), SEARCH_EVERY)
    gone = [GONE[index // SEARCH_EVERY % len(GONE)] for index in searched]
    assert known == [max(index - away, 0) for index, away in zip(searched, gone, strict=True)]


def test_calibration_in_processes_says_the_same_and_goes_on(clips, tmp_path):
    net = load_network("tracker/weights/swift.safetensors")
    sequences = [footage([clips], tmp_path, Tally())[0].part(0, 30)]
    work = tmp_path / "work"
    both = calibrate(net, sequences, work, workers=2)
    rows = sorted(work.glob("rows/*/*.npz"))
    assert len(rows) >= 4 and len({file.parent for file in rows}) == 1  # habits by the score that the net has
    assert not list(work.glob("rows/**/.*.part"))
    before = {file: file.stat().st_mtime_ns for file in rows}
    rows[1].unlink()
    assert calibrate(net, sequences, work) == both
    assert [f for f in rows if f.stat().st_mtime_ns != before[f]] == [rows[1]]  # the others were kept


def test_rows_of_other_footage_are_not_taken(clips, tmp_path):
    (sequence,) = footage([clips], tmp_path, Tally())
    weights = tmp_path / "weights.safetensors"
    save_network(load_network("tracker/weights/swift.safetensors"), weights)
    for count in (20, 12, 20):
        assert len(_gathered(sequence.part(0, count), weights, told=True).following) == count - 1


def test_after_an_absence_the_target_is_followed_from_where_it_is(clips, tmp_path, monkeypatch):
    (sequence,) = footage([clips], tmp_path, Tally())
    boxes = sequence.boxes.copy()
    boxes[10:20] = np.nan
    tracker = Tracker.load("swift", device="cpu")
    tracker.policy.judge.rules = never_in_doubt(None, told=True)
    begun, update = [], tracker.update
    monkeypatch.setattr(tracker, "update", lambda frame, target: begun.append(target.box) or update(frame, target))
    gather(tracker, replace(sequence, boxes=boxes), told=True)
    followed = [*range(1, 10 + NOTICED), *range(21, len(sequence))]  # of frame 20 the place is told
    assert len(begun) == len(followed)
    assert begun[followed.index(21)] == pytest.approx(sequence.boxes[20].tolist())


def test_calibration_of_weights_that_know_nothing_is_told_first(clips, tmp_path):
    net = load_network("tracker/weights/swift.safetensors")
    net.config = replace(net.config, confidence=None)
    sequences = [footage([clips], tmp_path, Tally())[0].part(0, 30)]
    confidence, said = calibrate(net, sequences, tmp_path / "work")
    assert len(list((tmp_path / "work" / "rows").iterdir())) == 2  # told, then alone
    events = [json.loads(p.read_text()) for p in (tmp_path / "work").glob("events/*/event.json")]
    unseen = [e["stop"] - e["start"] - NOTICED + 1 for e in events if e["kind"] not in ("lookalike", "freeze")]
    assert said["rows"] == 29 * (1 + len(events)) - sum(unseen)  # and the frame in which it is found again
    assert any(confidence.following.weights) and any(confidence.verified.weights)


def test_calibrate_writes_weights_that_know(clips, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    options = ["--weights", "swift", "--data", str(clips), "--work", str(tmp_path / "work"), "--out", str(out)]
    assert main(["calibrate", *options]) == 0
    said = capsys.readouterr().out
    assert "boxes of 1 clips" in said and f"wrote {out}" in said
    before, after = load_network("tracker/weights/swift.safetensors"), load_network(out)
    assert after.config.confidence and after.config.confidence != before.config.confidence
    assert all((a == b).all() for a, b in zip(after.state_dict().values(), before.state_dict().values(), strict=True))
    assert main(["calibrate", *options[:2], "--data", str(tmp_path), *options[4:]]) == 2
    assert main(["calibrate", "--weights", "siamfc", *options[2:]]) == 2
    assert "siamfc" in capsys.readouterr().err
