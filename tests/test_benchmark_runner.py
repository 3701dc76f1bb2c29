"""Protocols, the runner and its failures, on real image files through the real decoder."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.benchmark import results
from tracker.benchmark.judge import metrics, vot
from tracker.benchmark.peers.contract import ContractError, check_tracker
from tracker.benchmark.peers.peers import load_tracker
from tracker.benchmark.protocols import SRE_KINDS, plan, sre_box, tre_starts
from tracker.benchmark.run import runner
from tracker.benchmark.run.jobs import result_path, run_all
from tracker.benchmark.run.runner import evaluate, run_ope, run_part
from tracker.errors import DataError
from tracker.footage.layouts import load_folder

NAN = float("nan")


def make_sequence(root, name="moving", count=40, size=(96, 72), start=(20, 20)):
    """A textured patch that moves 1 px a frame over a textured ground, as files on disk; boxes are one-based."""
    rng = np.random.default_rng(len(name))
    ground = cv2.resize(rng.integers(60, 120, (9, 12, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    patch = rng.integers(0, 255, (14, 18, 3), dtype=np.uint8)
    (root / name / "img").mkdir(parents=True)
    lines = []
    for index in range(count):
        x, y = start[0] + index % 50, start[1] + min(index, 60 - index) // 2
        frame = ground.copy()
        frame[y : y + 14, x : x + 18] = patch
        (root / name / "img" / f"{index + 1:04d}.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())
        lines.append(f"{x + 1},{y + 1},18,14")
    (root / name / "groundtruth_rect.txt").write_text("\n".join(lines))
    return load_folder(root / name)[0]


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return make_sequence(tmp_path_factory.mktemp("data"))


class Oracle:
    """Says the truth, and obeys a script of faults: {frame: box, None or exception}."""

    def __init__(self, truth, faults=None, sleep=0.0):
        self.truth, self.faults, self.sleep, self.index = truth, faults or {}, sleep, 0

    def init(self, frame, box):
        where = np.flatnonzero((self.truth == np.array(box)).all(axis=1))
        self.index = int(where[0]) if where.size else 0
        self.starts = [*getattr(self, "starts", []), self.index]

    def update(self, frame):
        self.index += 1
        time.sleep(self.sleep)
        answer = self.faults.get(self.index, self.truth[min(self.index, len(self.truth) - 1)])
        if isinstance(answer, Exception):
            raise answer
        return answer


class Follower:
    """A tracker for worker processes: identity, which misbehaves on the sequences named for it."""

    def init(self, frame, box):
        self.box, self.count, self.mark = box, 0, int(frame[0, 0, 0])

    def update(self, frame):
        self.count += 1
        if self.count == 5 and self.mark == 1:
            time.sleep(60)
        if self.count == 5 and self.mark == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == 5 and self.mark == 3:
            raise RuntimeError("lost my mind")
        return self.box


def test_evaluate_scores_a_perfect_tracker_one(sequence):
    result = evaluate(Oracle(sequence.boxes), [sequence])["moving"]
    assert (result.success_auc, result.precision_20, result.error) == (1.0, 1.0, "")
    assert 0 < result.ms_median < 50
    assert evaluate(Oracle(sequence.boxes), [sequence], rule="strict")["moving"].success_auc == pytest.approx(20 / 21)


def test_a_tracker_that_raises_fails_from_there_on_and_is_named(sequence):
    result = evaluate(Oracle(sequence.boxes, {10: ZeroDivisionError("oops")}), [sequence])["moving"]
    assert result.success_auc == pytest.approx(10 / 40)
    assert result.error == "frame 10: ZeroDivisionError: oops"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((NAN, 0, 5, 5), "frame 3: the box .* is not finite"),
        (None, "frame 3: update returned nothing"),
        ((1, 2, 3), "update must return"),
        ("here", "update must return"),
    ],
)
def test_answers_that_are_no_box_count_as_failures(sequence, answer, message):
    run = run_ope(Oracle(sequence.boxes, {3: answer}), sequence)
    assert np.isnan(run.boxes[3]).all()
    assert metrics.iou(run.boxes, sequence.boxes)[3] == 0
    assert re.search(message, run.error)


def test_a_nan_does_not_stop_a_run_that_recovers(sequence):
    run = run_ope(Oracle(sequence.boxes, {3: (NAN,) * 4}), sequence)
    assert metrics.success_auc(metrics.iou(run.boxes, sequence.boxes)) == pytest.approx(39 / 40)
    twice = run_ope(Oracle(sequence.boxes, {3: (NAN,) * 4, 7: None}), sequence)
    assert twice.error.endswith("is not finite (and 1 more)")


def test_tre_starts_follow_the_toolkit():
    boxes = np.tile([10.0, 10, 5, 5], (100, 1))
    starts = tre_starts(boxes)  # 81 frames have 20 frames left: 1-based floor(1 : 81/19 : 81) and 81
    assert starts == [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63, 68, 72, 76, 80]
    boxes[[0, 40]] = NAN
    assert 0 not in tre_starts(boxes)
    assert len(tre_starts(boxes)) == 20
    assert tre_starts(boxes[:10]) == [0]
    late = tre_starts(boxes, frozenset(range(50)))
    assert (late[0], late[-1], len(late)) == (50, 80, 20)


def test_tre_runs_each_start_to_the_end(sequence):
    parts = plan("tre", sequence)
    assert len(parts) == 20
    assert {part.label for part in parts} == {f"{start:05d}" for start in tre_starts(sequence.boxes)}
    last = parts[-1]
    assert len(last.sequence) == 20
    np.testing.assert_array_equal(last.sequence.boxes[0], last.box)


def test_sre_perturbs_by_ten_percent_in_whole_pixels():
    box = (99.0, 49.0, 40.0, 20.0)
    found = {kind: sre_box(box, kind, 640, 480) for kind in SRE_KINDS}
    assert len(found) == 12
    assert found["left"] == (95, 49, 40, 20)
    assert found["down"] == (99, 51, 40, 20)
    assert found["top-left"] == (95, 47, 44, 22)
    assert found["bottom-right"] == (99, 49, 44, 22)
    assert found["top-right"] == (99, 47, 44, 22)
    assert found["scale-0.8"] == (103, 51, 32, 16)
    assert found["scale-1.2"] == (95, 47, 48, 24)
    assert sre_box((0, 0, 40, 20), "left", 640, 480) == (0, 0, 40, 20)  # kept in the image
    assert sre_box((600, 470, 40, 10), "right", 640, 480) == (604, 470, 36, 10)


def test_sre_gives_the_perturbed_box_and_judges_by_the_true_one(sequence):
    part = next(part for part in plan("sre", sequence) if part.label == "right")
    run = run_part(Oracle(sequence.boxes), part, "sre")
    assert run.boxes[0, 0] == sequence.boxes[0, 0] + 2
    assert metrics.iou(run.boxes, part.sequence.boxes)[0] == pytest.approx(16 / 20)


class Clock:
    """Stands in for the clock of the runner: every call of the tracker takes `cost` seconds."""

    def __init__(self, cost):
        self.cost, self.now, self.calls = cost, 0.0, 0

    def perf_counter(self):
        self.calls += 1
        if self.calls % 2 == 0:
            self.now += self.cost
        return self.now


@pytest.mark.parametrize(("cost", "processed"), [(0.01, 40), (1 / 30, 40), (0.05, 27), (0.1, 14)])
def test_realtime_misses_frames_when_late(sequence, monkeypatch, cost, processed):
    monkeypatch.setattr(runner, "time", Clock(cost))

    class Reader:
        """Reads the frame number off the position of the patch: answers the truth of whatever frame it is shown."""

        def init(self, frame, box):
            pass

        def update(self, frame):
            return sequence.boxes[next(i for i in range(len(sequence)) if np.array_equal(sequence.image(i), frame))]

    run = run_part(Reader(), plan("realtime", sequence)[0], "realtime")
    seen = np.flatnonzero(np.isfinite(run.rows[:, 5]))
    assert len(seen) == processed
    ious = metrics.iou(run.boxes, sequence.boxes)
    if cost <= 1 / 30:
        assert (ious == 1).all()
    else:
        late = math_late(cost)
        for index in range(len(sequence)):  # the box in force: of the newest frame answered before the next one comes
            force = max([frame for frame, done in late if done <= (index + 1) / 30 + 1e-9], default=0)
            np.testing.assert_array_equal(run.boxes[index], sequence.boxes[force])


def test_realtime_a_tracker_that_dies_has_no_box_from_there_on(sequence, monkeypatch):
    monkeypatch.setattr(runner, "time", Clock(0.05))
    run = run_part(Oracle(sequence.boxes, {5: OSError("gone")}), plan("realtime", sequence)[0], "realtime")
    last = np.flatnonzero(np.isfinite(run.boxes[:, 0])).max()
    assert np.isfinite(run.boxes[: last + 1]).all()  # the frames it missed before hold the box in force
    assert run.error.startswith(f"frame {last + 1}: OSError")


def math_late(cost, rate=30, count=40):
    """When a tracker of a fixed cost answers which frame, derived step by step."""
    answers, now, frame = [], 0.0, 0
    while frame < count:
        now = max(now, frame / rate) + cost
        answers.append((frame, now))
        frame = max(frame + 1, int(now * rate + 1e-9))
    return answers


def test_supervised_restarts_five_frames_after_a_failure(sequence):
    tracker = Oracle(sequence.boxes, {10: (0.0, 60.0, 4.0, 4.0)})
    run = run_part(tracker, plan("supervised", sequence)[0], "supervised")
    assert tracker.starts == [0, 15]
    assert run.states[10] == results.FAILED
    assert (run.states[11:15] == results.SKIPPED).all()
    assert run.states[15] == results.STARTED
    assert vot.supervised([run.boxes], [run.states], [sequence.boxes], [(96, 72)]).failures == 1


def test_anchors_run_the_longer_way(sequence):
    parts = plan("anchors", sequence)
    assert [(part.label, len(part.sequence)) for part in parts] == [("00000", 40), ("00039", 40)]
    np.testing.assert_array_equal(parts[1].sequence.boxes[1], sequence.boxes[38])
    given = plan("anchors", replace(sequence, anchors=(0, 5, -31)))  # the last of them backwards from frame 30
    assert [(part.label, len(part.sequence)) for part in given] == [("00000", 40), ("00005", 35), ("00030", 31)]
    np.testing.assert_array_equal(given[2].sequence.boxes[1], sequence.boxes[29])


def test_result_files_read_back_to_the_bit(tmp_path, sequence):
    run = run_ope(Oracle(sequence.boxes + 1 / 3, {3: (NAN,) * 4}), sequence)
    results.save(tmp_path / "a.csv", run, {"tracker": "x"})
    again, about = results.load(tmp_path / "a.csv")
    np.testing.assert_array_equal(run.rows, again.rows)
    assert (again.error, about["tracker"]) == (run.error, "x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    (tmp_path / "b.csv").write_text("1,2,3,4\n")
    with pytest.raises(ValueError, match=r"b\.csv: not a result"):
        results.load(tmp_path / "b.csv")


def test_a_killed_run_resumes_and_changed_data_is_run_again(tmp_path):
    sequences = [make_sequence(tmp_path / "data", name, 8) for name in ("one", "two")]
    out = tmp_path / "out"
    run_all(["ncc"], sequences[:1], "ope", out, workers=0, quiet=True)
    first = result_path(out, "ope", "ncc", "one")
    before = first.stat().st_mtime_ns
    first.with_name(".half.part").write_text("killed here")
    assert run_all(["ncc"], sequences, "ope", out, workers=0, quiet=True) == []
    assert first.stat().st_mtime_ns == before
    assert result_path(out, "ope", "ncc", "two").is_file()
    changed = load_folder(tmp_path / "data", one_based=False)
    run_all(["ncc"], changed, "ope", out, workers=0, quiet=True)
    assert first.stat().st_mtime_ns != before
    first.write_text("broken")
    run_all(["ncc"], changed, "ope", out, workers=0, quiet=True)
    assert results.load(first)[1]["tracker"] == "ncc"


class Slow:
    """Follows one pixel to the right a frame, and takes its time."""

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        time.sleep(0.02)
        self.box = (self.box[0] + 1, *self.box[1:])
        return self.box


def children(pid):
    """The processes that a process started, as Linux lists them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def alive(pid):
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_run_that_was_killed_in_the_middle_goes_on_and_equals_one_that_was_not(tmp_path, monkeypatch):
    here = os.path.dirname(__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(here).parent), here, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(here)
    sequences = [make_sequence(tmp_path / "data", name, 40) for name in ("one", "two", "three")]
    spec, out = "slow:=test_benchmark_runner:Slow", tmp_path / "out"
    code = "import sys; from tracker.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "bench", str(tmp_path / "data"), "--trackers", spec, "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not list(out.rglob("*.csv")) and time.monotonic() < until:
            time.sleep(0.01)
        started = children(process.pid)
    finally:
        process.kill()
        process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.csv")}
    assert 0 < len(done) < 3
    until = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, started))  # no worker goes on without its parent
    assert run_all([spec], sequences, "ope", out, quiet=True) == []
    assert run_all([spec], sequences, "ope", tmp_path / "whole", quiet=True) == []
    assert {path: path.stat().st_mtime_ns for path in done} == done
    for sequence in sequences:
        (one, about), (two, other) = (
            results.load(result_path(place, "ope", "slow", sequence.name)) for place in (out, tmp_path / "whole")
        )
        np.testing.assert_array_equal(one.rows[:, [0, 1, 2, 3, 4, 9]], two.rows[:, [0, 1, 2, 3, 4, 9]])
        del about["load a core"], other["load a core"]  # of the machine in that minute
        assert about == other


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no list of processes here")
def test_workers_that_begin_after_their_parent_was_killed_end(tmp_path):
    code = """
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from tracker.benchmark.run.workers import begin_worker
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), begin_worker)
    for _ in range(2):
        pool.submit(time.sleep, 0)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    script = tmp_path / "parent.py"
    script.write_text(code)
    words, known = [sys.executable, str(script)], os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=known) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert parent.returncode == -signal.SIGKILL and len(workers) == 2
    until = time.monotonic() + 30
    while (left := list(filter(alive, workers))) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_changed_weights_are_run_again(tmp_path):
    sequence = make_sequence(tmp_path / "data", "one", 8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.txt").write_text("1,1,5,5\n" * 8)
    spec, out = f"results={tmp_path / 'mine'}", tmp_path / "out"
    run_all([spec], [sequence], "ope", out, workers=0, quiet=True)
    (tmp_path / "mine" / "one.txt").write_text("2,1,5,5\n" * 8)
    run_all([spec], [sequence], "ope", out, workers=0, quiet=True)
    assert results.load(result_path(out, "ope", "mine", "one"))[0].boxes[1, 0] == 2


def test_two_sequences_of_one_name_are_refused(tmp_path, sequence):
    with pytest.raises(ValueError, match="two sequences have one name"):
        run_all(["ncc"], [sequence, sequence], "ope", tmp_path, workers=0, quiet=True)


def test_an_unreadable_frame_is_named_and_does_not_end_the_run(tmp_path):
    sequences = [make_sequence(tmp_path / "data", name, 8) for name in ("bad", "good")]
    sequences[0].frames[4].write_bytes(b"")
    problems = run_all(["identity"], sequences, "ope", tmp_path / "out", workers=0, quiet=True)
    assert len(problems) == 1
    assert "identity on bad" in problems[0]
    assert "0005.png: not a readable image" in problems[0]
    with pytest.raises(DataError):
        evaluate(load_tracker("identity"), sequences)


def test_workers_survive_hangs_and_crashes_and_equal_the_in_process_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    sequences = []
    for mark, name in enumerate(["fine", "hang", "die", "raise"]):
        sequence = make_sequence(tmp_path / "data", name, 12)
        for path in sequence.frames:
            image = cv2.imread(str(path))
            image[0, 0] = mark
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        sequences.append(sequence)
    spec = "follower:=test_benchmark_runner:Follower"
    problems = run_all([spec, "ncc"], sequences, "ope", tmp_path / "out", workers=2, timeout=1.5, quiet=True)
    text = "\n".join(problems)
    assert "follower on hang: frame 5: no answer in 1.5 s" in text
    assert "follower on die: frame 5: the process died (signal SIGKILL)" in text
    assert "follower on raise: frame 5: RuntimeError: lost my mind" in text
    assert len(problems) == 3
    for name in ("hang", "die", "raise"):
        run, _ = results.load(result_path(tmp_path / "out", "ope", "follower", name))
        assert np.isfinite(run.boxes[:5]).all()
        assert np.isnan(run.boxes[5:]).all()
    run_all(["ncc"], sequences, "ope", tmp_path / "here", workers=0, quiet=True)
    for name in ("fine", "hang"):
        far, _ = results.load(result_path(tmp_path / "out", "ope", "ncc", name))
        here, _ = results.load(result_path(tmp_path / "here", "ope", "ncc", name))
        np.testing.assert_array_equal(far.boxes, here.boxes)


def test_two_trackers_of_one_name_are_refused(tmp_path, sequence):
    with pytest.raises(ValueError, match="two trackers are called ncc"):
        run_all(["ncc", "ncc"], [sequence], "ope", tmp_path, workers=0, quiet=True)


def test_check_tracker_passes_the_floors_and_names_every_breach(sequence):
    for spec in ("identity", "ncc"):
        check_tracker(load_tracker(spec), sequence)

    class Bad:
        calls = 0

        def init(self, frame, box):
            frame[:] = 0

        def update(self, frame):
            self.calls += 1
            return (self.calls, 0, 5, -1)

    with pytest.raises(ContractError) as caught:
        check_tracker(Bad(), sequence)
    for breach in ("init changed the frame", "without area", "a second run", "on a still picture"):
        assert breach in str(caught.value)
