"""The flight recorder: nothing is rounded, nothing whole is lost, and a run comes out the same again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tracker import Tracker, frames
from tracker.cli import main
from tracker.errors import LogError
from tracker.footage.video import VideoWriter
from tracker.recorder import Recorder, read_log
from tracker.replay import described, run_again
from tracker.scene import Scene
from tracker.web.played import Played

ROOT = Path(__file__).parents[1]
COUNT, GONE = 16, range(6, 11)  # frames, and those in which the target is painted over
OTHER = (6.25, 5.5, 30.0, 28.0)  # of the ground


@pytest.fixture(scope="module")
def scene():
    return Scene((160, 120), COUNT, seed=2, occlusion=False)


@pytest.fixture(scope="module")
def clip(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, 25, scene.size) as writer:
        for t, image in enumerate(scene):
            if t in GONE:
                image[:] = 90
            writer.write(image)
    return path


def words(scene, clip, log, *more):
    box = ",".join(map(repr, map(float, scene.box(0))))
    other = ",".join(map(str, OTHER))
    return ["track", str(clip), "--init", box, "--init", other, "--record", str(log), "--quiet", *map(str, more)]


@pytest.fixture(scope="module")
def log(scene, clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "run.siamlog"
    assert main(words(scene, clip, path, "--thumbnails", 4, "--boxes", path.with_suffix(".csv"))) == 0
    return path


def change(log, path, number, edit):
    """A copy of a log in which one line was edited."""
    lines = log.read_text().splitlines()
    values = json.loads(lines[number])
    edit(values)
    lines[number] = json.dumps(values)
    path.write_text("\n".join(lines) + "\n")
    return path


# --- what is in it


def test_it_keeps_what_went_in_and_what_came_out_to_the_bit(scene, clip, log):
    read = read_log(log)
    engine = Tracker.load("swift")
    with frames(clip) as source:
        first = next(source)
        targets = [engine.init(first.image, box) for box in (scene.box(0), OTHER)]
        assert read.steps[0].started == {0: tuple(map(float, scene.box(0))), 1: OTHER}
        for frame, step in zip(source, read.steps[1:], strict=True):
            assert (step.frame, step.time) == (frame.index, frame.time)
            for number, result in enumerate(engine.update_all(frame.image, targets)):
                row = step.rows[number]
                assert (row.box, row.score, row.state) == (tuple(result.box), result.score, result.state)
    assert read.head["weights"] == "swift" and read.head["engine"] == engine.engine.runner.engine
    assert (
        read.head["sha256"]
        == subprocess.check_output(["sha256sum", ROOT / "tracker/weights/swift.safetensors"])[:64].decode()
    )
    assert read.end["end"] == "finished" and read.lost == 0


def test_lost_frames_have_their_times_too(log):
    """A lost result is false, and takes the longest."""
    lost = [step for step in read_log(log).steps if step.rows[0].state == "lost"]
    assert lost and all(step.ms[1] > 0 for step in lost)


def test_thumbnails_come_when_asked(log):
    assert [bool(step.thumbnail) for step in read_log(log).steps] == [t % 4 == 0 for t in range(COUNT)]


# --- any end


def test_cut_at_any_byte_it_gives_all_whole_frames(log, tmp_path):
    data, whole, cut = log.read_bytes(), read_log(log), tmp_path / "cut.siamlog"
    ends = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    near = [n for end in ends for n in range(end - 3, end + 4)]
    for length in sorted({*range(0, len(data), 97), *near}):
        cut.write_bytes(data[:length])
        lines = sum(end <= length for end in ends)
        if lines == 0:
            with pytest.raises(LogError, match="is empty" if length == 0 else "head of a flight log"):
                read_log(cut)
            continue
        read = read_log(cut)
        assert read.steps == whole.steps[: lines - 1]
        assert read.lost == min(length, len(data)) - ends[lines - 1]
        assert (read.end is None) == (lines < len(ends))


def test_what_a_bad_disk_left_in_the_middle_ends_the_reading(log, tmp_path, capsys):
    lines = log.read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn.siamlog"
    torn.write_bytes(b"".join([*lines[:5], b"\0" * 40 + b"\n", *lines[6:]]))
    read = read_log(torn)
    assert read.steps == read_log(log).steps[:4] and read.lost == 41 + sum(map(len, lines[6:]))
    assert main(["replay", str(torn)]) == 0
    assert f"the last {read.lost} bytes are no whole line" in capsys.readouterr().out


def test_a_killed_process_leaves_a_log_that_comes_out_the_same_again(scene, clip, tmp_path, capsys):
    """SIGKILL while it tracks; the next run does not write over what is left."""
    long, images = tmp_path / "long.mp4", list(scene)
    with VideoWriter(long, 25, scene.size) as writer:
        for image in (images + images[::-1]) * 20:
            writer.write(image)
    log = tmp_path / "run.siamlog"
    command = [sys.executable, "-m", "siamtrack", *words(scene, long, log)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while not log.exists() or log.read_bytes().count(b"\n") < 8:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
    read = read_log(log)
    assert 7 <= len(read.steps) < 40 * COUNT and read.end is None
    assert [step.frame for step in read.steps] == list(range(len(read.steps)))
    assert main(words(scene, clip, log)) == 2 and "run.siamlog exists" in capsys.readouterr().err
    assert main(["replay", str(log), "--rerun"]) == 0
    out = capsys.readouterr().out
    assert "killed" in out and f"the same in all {len(read.steps)} frames, bit for bit" in out


def test_an_error_is_said_in_the_log(clip, tmp_path):
    engine = Tracker.load("swift")
    with (
        pytest.raises(OSError, match="unplugged"),
        frames(clip) as source,
        Recorder(tmp_path / "a.siamlog", engine, source) as recorder,
    ):
        frame = next(source)
        engine.init(frame.image, (20, 20, 30, 30))
        recorder.write(frame, {}, {7: (20, 20, 30, 30)})
        with pytest.raises(OSError, match="another run is writing"):
            Recorder(tmp_path / "a.siamlog", engine, force=True)
        raise OSError("unplugged")
    read = read_log(tmp_path / "a.siamlog")
    assert read.end["end"] == "OSError: unplugged" and read.ids == [7]


# --- again


def test_a_change_in_the_last_digits_is_found_and_named(log, tmp_path, capsys):
    def move(values):
        values["targets"]["1"][0] += 1e-9

    changed = change(log, tmp_path / "a.siamlog", 5, move)
    assert main(["replay", str(changed), "--rerun"]) == 1
    out = capsys.readouterr().out
    assert "again: frame 4: target 1: x is " in out and f"1 of {COUNT} frames differ" in out


def test_targets_may_begin_and_end_in_the_middle(clip, tmp_path):
    engine = Tracker.load("swift")
    path = tmp_path / "a.siamlog"
    with frames(clip) as source, Recorder(path, engine, source) as recorder:
        first = next(source)
        targets = {0: engine.init(first.image, OTHER)}
        recorder.write(first, {}, {0: OTHER})
        for frame in source:
            if frame.index % 3 == 1:  # dropped
                continue
            followed = {n: target for n, target in targets.items() if (n, frame.index) != (0, 6)}
            results = engine.update_all(frame.image, followed.values())
            found, begun = dict(zip(followed, results, strict=True)), {}
            if frame.index == 6:  # begun anew, without a look before
                begun = {0: OTHER}
                targets[0] = engine.init(frame.image, OTHER)
            if frame.index == 3:
                begun = {4: (60.5, 40, 30, 30)}
                targets[4] = engine.init(frame.image, begun[4])
            if frame.index == 9:
                del targets[0]
            recorder.write(frame, found, begun)
    read, again = read_log(path), run_again(read_log(path))
    assert [sorted(step.rows) for step in read.steps] == [[0]] + [[0]] + [[0, 4]] * 5 + [[4]] * 4
    assert read.steps[4].followed == (4,) and read.steps[4].started == {0: OTHER}
    assert [step.rows for step in again.steps] == [step.rows for step in read.steps]


def test_another_video_or_other_weights_are_named(scene, log, tmp_path, capsys):
    other = tmp_path / "other.mp4"
    with VideoWriter(other, 25, scene.size) as writer:
        for t in range(COUNT):
            writer.write(255 - scene.render(t))
    assert main(["replay", str(log), "--rerun", "--source", str(other)]) == 1
    assert "again: frame 0: the picture is another one" in capsys.readouterr().out
    assert main(["replay", str(log), "--rerun", "--weights", "swift-nano"]) == 2
    assert "swift-nano are other weights by now" in capsys.readouterr().err

    def live(values):
        values["live"] = True

    assert main(["replay", str(change(log, tmp_path / "live.siamlog", 0, live)), "--rerun"]) == 2
    assert "was live; a recording of it is given by --source" in capsys.readouterr().err


# --- shown and compared


def test_a_log_is_shown_plotted_and_written_as_boxes(log, tmp_path, capsys):
    plot, boxes = tmp_path / "a.png", tmp_path / "a.csv"
    assert main(["replay", str(log), "--plot", str(plot), "--boxes", str(boxes)]) == 0
    out = capsys.readouterr().out
    rows = [step.rows[0] for step in read_log(log).steps]
    lost = [row.frame for row in rows if row.state == "lost"]
    assert f"target 0: tracking {sum(row.state == 'tracking' for row in rows)}, " in out
    assert f"  {''.join({'tracking': '=', 'uncertain': '?', 'lost': '.'}[row.state] for row in rows)}\n" in out
    assert f"  lost in {lost[0]}" in out and "frames   16, from 0 to 15; finished" in out
    assert plot.stat().st_size > 20_000
    assert boxes.read_text() == log.with_suffix(".csv").read_text()  # as `track --boxes` wrote it


def test_two_runs_are_compared(scene, clip, log, tmp_path, capsys):
    same, nano = tmp_path / "same.siamlog", tmp_path / "nano.siamlog"
    assert main(words(scene, clip, same)) == 0 and main(words(scene, clip, nano, "--weights", "swift-nano")) == 0
    capsys.readouterr()
    assert not any(step.thumbnail for step in read_log(same).steps)
    assert main(["replay", str(log), str(same)]) == 0
    assert capsys.readouterr().out == f"the same in all {COUNT} frames, bit for bit\n"
    assert main(["replay", str(log), str(nano)]) == 1
    out = capsys.readouterr().out
    assert "weights: swift here, swift-nano there" in out and "frame 1: target 0: x is " in out
    assert f"{COUNT - 1} of {COUNT} frames differ" in out and "config network: swift here, swift-nano there" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{log}", "{log}", "--rerun"], "take one log"),
        (["{log}", "--source", "a.mp4"], "--source is for --rerun"),
        (["{tmp}/none.siamlog"], "No such file"),
        (["{log}", "--plot", "{tmp}/a.gif"], "suffix .gif; allowed: .png"),
        (["{clip}"], "does not begin with the head of a flight log"),
    ],
)
def test_bad_arguments_are_named(options, message, log, clip, tmp_path, capsys):
    assert main(["replay", *(option.format(log=log, tmp=tmp_path, clip=clip) for option in options)]) == 2
    assert message in capsys.readouterr().err


def test_so_are_those_of_recording(scene, clip, tmp_path, capsys):
    box = ["track", str(clip), "--init", "20,20,30,30"]
    assert main([*box, "--record", str(tmp_path / "a.txt")]) == 2
    assert "suffix .txt; allowed: .siamlog" in capsys.readouterr().err
    assert main([*box, "--thumbnails", "3"]) == 2 and "--record" in capsys.readouterr().err
    assert main(words(scene, clip, tmp_path / "a.siamlog", "--thumbnails", -1)) == 2
    assert "thumbnails: of every N frames" in capsys.readouterr().err and not (tmp_path / "a.siamlog").exists()


# --- logs that others made


def test_a_log_that_was_changed_anywhere_is_read_up_to_there_or_refused(log, tmp_path):
    data, rng, refused = log.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 9))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
        (tmp_path / "a.siamlog").write_bytes(changed)
        try:
            read = read_log(tmp_path / "a.siamlog")
        except LogError:
            refused += 1
            continue
        places = [step.frame for step in read.steps]
        assert places == sorted(set(places))
        for step in read.steps:
            assert np.isfinite([step.time, step.clock, *step.ms]).all()
            assert all(np.isfinite(row.box).all() and 0 <= row.score <= 1 for row in step.rows.values())
        assert list(described(read))
    assert 0 < refused < 150


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recorded", 1e300), ("recorded", "now"), ("source", None), ("live", 1), ("begun", float("nan")),
        ("size", [0, 5]), ("size", 7), ("fps", -1), ("weights", 5), ("sha256", []), ("threads", 10**9), ("passes", -1),
        ("config", []), ("machine", json.loads('{"a":' * 60 + "1" + "}" * 60)),
    ],
)  # fmt: skip
def test_a_head_that_lies_is_refused_by_name(log, tmp_path, name, value):
    lie = change(log, tmp_path / "lie.siamlog", 0, lambda head: head.update({name: value}))
    with pytest.raises(LogError, match=f"the head says {name}: .*; a flight log has "):
        read_log(lie)


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.mp4", "0", "/dev/zero", "gone.mp4", "http://127.0.0.1:9/*.jpg"])
def test_no_log_makes_us_open_a_camera_or_an_address(log, tmp_path, capsys, name):
    path = change(log, tmp_path / "lie.siamlog", 0, lambda head: head.update(source=name))
    assert main(["replay", str(path), "--rerun"]) == 2
    assert f"there is no file {name!r}; --source says where the frames are" in capsys.readouterr().err
    with pytest.raises(LogError, match="of which the run was"):
        Played(read_log(path))


def test_a_log_does_not_steer_the_terminal(log, tmp_path, capsys):
    path = change(log, tmp_path / "lie.siamlog", 0, lambda head: head.update(source="\x1b]0;owned\x07", engine="a\nb"))
    assert main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and r"\x1b]0;owned\x07" in out and r"a\nb on cpu" in out


def test_a_thumbnail_that_is_none_is_named(log, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = change(log, tmp_path / "lie.siamlog", 1, lambda step: step.update(thumbnail="AAAA"))
    assert main(["replay", str(path), "--plot", str(tmp_path / "a.png")]) == 2
    assert "the thumbnail of frame 0 is no picture" in capsys.readouterr().err
    path = change(log, tmp_path / "long.siamlog", 1, lambda step: step.update(thumbnail="A" * 200_000))
    assert read_log(path).steps == []
