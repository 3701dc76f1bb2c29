"""The command line, end to end: a real mp4 in, the shipped weights, real files out."""

import contextlib
import csv
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from footage import write_film

from tracker import Tracker, __version__, frames
from tracker.cli import main
from tracker.errors import SourceError
from tracker.footage import layouts
from tracker.footage.boxes import Row, as_csv, as_mot, read_rows
from tracker.footage.clip import Tally, seen_frames
from tracker.footage.dataset import WRITTEN
from tracker.footage.video import CameraReader, VideoReader, VideoWriter
from tracker.geometry import iou

SIZE, FPS, COUNT, SIDE = (320, 240), 25.0, 40, 48
LONG = 2000  # frames; more than are tracked until Ctrl-C


def true_box(t):
    return 40 + 3.5 * t, 90 + 30 * np.sin(t / 9), SIDE, SIDE


def render(t, ground, patch):
    """A textured patch over a textured ground, at a sub-pixel place."""
    x, y = true_box(t)[:2]
    shift = np.array([[1, 0, x], [0, 1, y]], float)
    image = cv2.warpAffine(patch, shift, SIZE, dst=ground.copy(), borderMode=cv2.BORDER_TRANSPARENT)
    return np.ascontiguousarray(image, np.uint8)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 150, (15, 20, 3), np.uint8)
    ground = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return [render(t, ground, patch) for t in range(COUNT)]


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("clip") / "clip.mp4", images, FPS, SIZE)


@pytest.fixture(scope="module")
def engine():
    return Tracker.load("swift", device="cpu")


@pytest.fixture
def loaded(engine, monkeypatch):
    """The shipped weights, loaded once for all tests."""
    monkeypatch.setattr(Tracker, "load", lambda *args, **kwargs: engine)
    return engine


def run(clip, *options, init="40,90,48,48"):
    return main(["track", str(clip), "--init", init, *map(str, options)])


def read_csv(path, targets=1):
    """Frame, time, x, y, w, h, score of each row."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["frame", "time", "id", "x", "y", "w", "h", "score", "state"]
    assert {row[-1] for row in rows[1:]} <= {"tracking", "uncertain", "lost"}
    assert {row[2] for row in rows[1:]} == {str(i) for i in range(targets)}
    return np.array([[*row[:2], *row[3:-1]] for row in rows[1:]], float)


@functools.cache
def film(path):
    with frames(path) as source:
        return [frame.image.astype(int) for frame in source]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the whole way


def test_end_to_end(clip, tmp_path, capsys):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.csv"
    assert run(clip, "--save", video, "--boxes", boxes, "--device", "cpu") == 0
    assert names(tmp_path) == ["out.csv", "out.mp4"]
    rows = read_csv(boxes)
    assert rows[:, 0].tolist() == list(range(COUNT)) and np.allclose(rows[:, 1], np.arange(COUNT) / FPS)
    assert rows[0, 2:].tolist() == [40, 90, 48, 48, 1]
    assert np.all((rows[:, 6] >= 0) & (rows[:, 6] <= 1))
    overlap = iou(rows[:, 2:6], [true_box(t) for t in range(COUNT)])
    assert overlap.mean() > 0.6 and overlap.min() > 0.3
    with frames(video) as drawn, frames(clip) as source:
        assert (drawn.length, drawn.fps, drawn.size) == (COUNT, FPS, SIZE)
        for a, b, row in zip(drawn, source, rows, strict=True):
            x, y, _, h = row[2:6].astype(int)
            difference = np.abs(a.image.astype(int) - b.image).sum(2)
            assert difference[y : y + h, x - 2 : x + 3].mean() > 4 * difference[200:].mean()  # the left line of the box
    out = capsys.readouterr().out
    assert f"{COUNT} frames in" in out and f"wrote {video}" in out and f"wrote {boxes}" in out


def test_json_and_txt_say_the_same_as_csv(clip, tmp_path, loaded):
    for suffix in ("csv", "json", "txt"):
        assert run(clip, "--boxes", tmp_path / f"b.{suffix}", "--quiet") == 0
    rows = read_csv(tmp_path / "b.csv")
    data = json.loads((tmp_path / "b.json").read_text())
    assert list(data["boxes"][0]) == ["frame", "time", "id", "x", "y", "w", "h", "score", "state"]
    assert np.array_equal([[v for k, v in b.items() if k not in ("id", "state")] for b in data["boxes"]], rows)
    meta = data["meta"]
    assert meta["source"] == str(clip) and meta["weights"] == "swift" and meta["siamtrack"] == __version__
    assert "0-based" in meta["coordinates"] and meta["size"] == list(SIZE) and meta["fps"] == FPS
    assert meta["complete"] is True and meta["skipped"] == meta["dropped"] == 0
    assert np.array_equal(np.loadtxt(tmp_path / "b.txt", delimiter=","), rows[:, 2:6])


def test_what_was_tracked_becomes_a_data_set(clip, tmp_path, loaded, capsys):
    """By way of each file that `track` writes, and read back by our own readers."""
    log, table, listed, mot = (tmp_path / name for name in ("r.siamlog", "b.csv", "b.json", "b.mot.txt"))
    for options in (["--boxes", table, "--record", log], ["--boxes", listed], ["--boxes", mot]):
        assert run(clip, "--init", "200,20,40,40", "--stop", 8, *options, "--quiet") == 0
    rows = read_rows(table)
    assert read_rows(listed) == rows and mot.read_text() == as_mot(rows)
    wanted = {(row.frame, *np.round(row.box, 2)) for row in rows if row.state != "lost"}
    left = mot.rename(tmp_path / "b.mot.unfinished.txt")  # as a killed run leaves it
    assert read_rows(left) == read_rows(shutil.copy(left, mot)) and mot.read_text()
    kept = [(row.frame, row.id, *row.box) for row in rows if row.state != "lost"]
    assert np.allclose([(row.frame, row.id, *row.box) for row in read_rows(mot)], kept, rtol=0, atol=1e-6)
    for layout, given in itertools.product(WRITTEN, (log, table, listed, mot)):
        out = tmp_path / f"{given.suffix[1:]} set"
        options = ["--source", str(clip)] if given in (table, mot) else []
        command = ["dataset", str(given), "--layout", layout, "--out", str(out), "--names", "dog,cat", *options]
        assert main(command) == 0
        assert f"wrote {out / layout}" in capsys.readouterr().out
        found, names = set(), set()
        for one in layouts.read(out / layout, layout, tally := Tally()):
            names |= {target.label.split("/")[-1] for target in one.targets}
            for _, image, seen in seen_frames(one, tally):
                for at in seen:
                    frame = min(range(8), key=lambda f: np.abs(image.astype(int) - film(clip)[f]).sum())
                    found.add((frame, *np.round(at.box, 2)))
        assert {box[0] for box in found} == {box[0] for box in wanted}, layout
        assert np.allclose(sorted(found), sorted(wanted), atol=0.02), layout
        assert names == {"dog", "cat"} or layout in ("boxes", "otb", "mot"), layout  # which have no classes
        assert main(command) == 2 and "exists; remove it" in capsys.readouterr().err
        assert main([*command, "--force", "--quiet"]) == 0 and capsys.readouterr().out == ""


def test_guesses_stay_out_of_a_data_set(clip, tmp_path, capsys):
    table = tmp_path / "b.csv"
    states = ["tracking", "uncertain", "lost", "tracking"]
    table.write_text(as_csv(Row(f, f / FPS, 0, 5, 5, 20, 20, 0.5, state) for f, state in enumerate(states)))
    for options, wanted in (([], [0, 1, 3]), (["--sure", "--force"], [0, 3])):
        assert (
            main(["dataset", str(table), "--source", str(clip), "--layout", "mot", "--out", str(tmp_path), *options])
            == 0
        )
        text = (tmp_path / "mot" / "clip" / "gt" / "gt.txt").read_text()
        assert [int(line.split(",")[0]) - 1 for line in text.splitlines()] == wanted


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("frame,x,y,w,h\n0,1,2,3,4\n", [], "does not say of which clip"),
        ("frame,x,y,w,h\n0,1,2,3\n", ["--source", "{clip}"], "row 1 is no box"),
        ("frame,x,y,w,h\n0,1,2,3,4\n0,1,2,3,5\n", ["--source", "{clip}"], "row 2 is no box"),
        ("frame,x,y,w,h,state\n0,1,2,3,4,gone\n", ["--source", "{clip}"], "row 1 is no box"),
        ("frame,x,y,w,h\n90,1,2,3,4\n", ["--source", "{clip}"], "the video has 40 frames; b.csv asks for frame 90"),
        ("frame,x,y,w,h\n", ["--source", "{clip}"], "no boxes to write"),
        ("frame,x,y,w,h\n0,1,2,3,4\n", ["--source", "{clip}", "--names", "a,b"], "one name for all targets"),
        ("frame,x,y,w,h\n0,1,2,3,4\n", ["--source", "none.mp4"], "none.mp4"),
        ("frame,x,y,w,h\n0,1,2,3,4\n", ["--source", "0"], "0: a camera or stream cannot be read again"),
    ],
)
def test_what_is_no_data_set_is_named(clip, tmp_path, capsys, content, options, message):
    (tmp_path / "b.csv").write_text(content)
    options = [option.format(clip=clip) for option in options]
    assert main(["dataset", str(tmp_path / "b.csv"), "--layout", "yolo", "--out", str(tmp_path / "d"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("siamtrack: error: ") and message in line
    assert not (tmp_path / "d" / "yolo").exists()


def test_range(clip, tmp_path, loaded):
    init = ",".join(map(str, true_box(10)))
    assert run(clip, "--start", 10, "--stop", 16, "--boxes", tmp_path / "b.csv", init=init) == 0
    rows = read_csv(tmp_path / "b.csv")
    assert rows[:, 0].tolist() == [10, 11, 12, 13, 14, 15] and np.isclose(rows[0, 1], 0.4)
    assert iou(rows[:, 2:6], [true_box(t) for t in range(10, 16)]).min() > 0.3


def test_several_targets(images, clip, tmp_path, loaded, capsys):
    other = "200,20,40,40"  # a piece of the ground, which stays where it is
    video, boxes = tmp_path / "out.mp4", tmp_path / "b.csv"
    assert run(clip, "--init", other, "--save", video, "--boxes", boxes, "--stop", 16) == 0
    assert "16 frames in" in capsys.readouterr().out
    rows = read_csv(boxes, targets=2)
    assert rows[:, 0].tolist() == sorted([*range(16), *range(16)])
    assert run(clip, "--boxes", tmp_path / "alone.csv", "--stop", 16) == 0
    alone = read_csv(tmp_path / "alone.csv")
    np.testing.assert_allclose(rows[::2, 2:6], alone[:, 2:6], atol=0.2)  # together as alone
    assert iou(rows[1::2, 2:6], [(200, 20, 40, 40)] * 16).min() > 0.5
    with frames(video) as drawn:
        assert drawn.length == 16
        picture = list(drawn)[-1].image.astype(int)
    for x, y, _, h in rows[-2:, 2:6].astype(int):  # each box has its left line
        changed = np.abs(picture - images[15]).sum(2)
        assert changed[y : y + h, x - 2 : x + 3].mean() > 4 * changed[200:].mean()


def test_folder_with_an_unreadable_image_keeps_its_count(images, tmp_path, loaded, capsys):
    folder = tmp_path / "img"
    folder.mkdir()
    for t, image in enumerate(images[:12]):
        assert cv2.imwrite(str(folder / f"{t}.png"), image)
    (folder / "5.png").write_bytes(b"broken")
    boxes, video = tmp_path / "b.txt", tmp_path / "out.mp4"
    assert run(folder, "--boxes", boxes, "--save", video) == 0
    rows = np.loadtxt(boxes, delimiter=",")
    assert rows.shape == (12, 4) and np.nonzero(np.isnan(rows).any(1))[0].tolist() == [5]
    with frames(video) as source:
        assert len(list(source)) == 12 and source.fps == 30
    assert capsys.readouterr().err.count("siamtrack: warning: ") == 1


def test_existing_files_are_kept_without_force(clip, tmp_path, loaded, capsys):
    for option, name in (("--save", "out.mp4"), ("--boxes", "b.csv")):
        path = tmp_path / name
        path.write_text("mine")
        assert run(clip, option, path) == 2
        assert path.read_text() == "mine"
        assert "exists" in capsys.readouterr().err
        assert run(clip, option, path, "--force", "--stop", 3) == 0
        assert path.read_bytes() != b"mine"
    assert len(read_csv(tmp_path / "b.csv")) == 3
    assert names(tmp_path) == ["b.csv", "out.mp4"]


def test_quiet_says_nothing(clip, tmp_path, loaded, capfd):
    assert run(clip, "--boxes", tmp_path / "b.csv", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


# --- bad input: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "10,10,30"], "'10,10,30' is not four numbers x,y,w,h"),
        (["--init", "10,10,30,30", "--select"], "not allowed with"),
        ([], "one of the arguments --init --targets --select is required"),
        (["--init", "10,10,30,30", "--weights", "none"], "no weights 'none'"),
        (["--init", "10,10,30,30", "--device", "tpu"], "no device 'tpu'"),
        (["--init", "10,10,30,30", "--threads", "0"], "threads must be from 1 to 1024"),
        (["--init", "10,10,30,30", "--start", "40"], "past the end, the video has 40 frames"),
        (["--init", "10,10,30,30", "--start", "7", "--stop", "7"], "0 <= start < stop"),
        (["--init", "10,10,30,30", "--save", "{tmp}/out.avi"], "suffix .avi; allowed: .mp4"),
        (["--init", "10,10,30,30", "--boxes", "{tmp}/out.xml"], "suffix .xml; allowed: .csv, .json, .txt"),
        (["--init", "10,10,30,30", "--boxes", "{tmp}/none/out.csv"], "there is no folder"),
        (["--init", "10,10,30,30", "--save", "{clip}", "--force"], "is the source"),
        (["--init", "10,10,30,30", "--emit", "jsonl:{clip}", "--force"], "is the source"),
        (["--init", "10,10,30,30", "--boxes", ""], "--boxes is followed by nothing"),
        (["--init", "10,10,30,30", "--record", ""], "--record is followed by nothing"),
        (
            ["--init", "1,1,9,9", "--init", "9,9,9,9", "--boxes", "{tmp}/o.txt"],
            "several targets need .csv, .json or .mot",
        ),
        (["--select"], "no display"),
        (["--init", "10,10,30,30", "--show"], "no display"),
    ],
)
def test_bad_options(clip, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    before = clip.read_bytes()
    options = [option.format(tmp=tmp_path, clip=clip) for option in options]
    if "--save" not in options:
        options += ["--save", str(tmp_path / "out.mp4")]
    assert main(["track", str(clip), *options]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("siamtrack") and "loading" not in line]
    assert len(lines) == 1 and "error: " in lines[0] and message in lines[0]
    assert out == "" and "Traceback" not in err
    assert names(tmp_path) == [] and clip.read_bytes() == before


@pytest.mark.parametrize(
    ("init", "message"), [("400,10,30,30", "outside"), ("10,10,0,30", "positive"), ("10,10,nan,30", "finite")]
)
def test_bad_boxes(clip, tmp_path, loaded, capsys, init, message):
    assert run(clip, "--save", tmp_path / "out.mp4", "--boxes", tmp_path / "b.csv", init=init) == 2
    err = capsys.readouterr().err
    loading, line = err.splitlines()
    assert loading == "siamtrack: loading swift ..." and line.startswith("siamtrack: error: box ") and message in line
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"), [("none.mp4", "does not exist"), ("empty.mp4", "is empty"), ("", "folder without images")]
)
def test_bad_sources(tmp_path, capsys, name, message):
    (tmp_path / "empty.mp4").touch()
    assert run(tmp_path / name, "--boxes", tmp_path / "b.csv") == 2
    err = capsys.readouterr().err
    assert err.startswith("siamtrack: error: ") and message in err and err.count("\n") == 1
    assert names(tmp_path) == ["empty.mp4"]


def test_command_is_required(capsys):
    assert main([]) == 2 and main(["fly"]) == 2
    assert "siamtrack: error: " in capsys.readouterr().err


def test_missing_system_library_of_opencv_is_explained(clip, capsys, monkeypatch):
    def load(*args, **kwargs):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(Tracker, "load", load)
    assert run(clip) == 2
    assert "install libgl1 and libglib2.0-0, or opencv-python-headless" in capsys.readouterr().err


def test_boxes_of_a_truncated_video_are_not_called_complete(images, tmp_path, loaded):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    for image in images:
        writer.write(image)
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(path, "--boxes", tmp_path / "b.json") == 0
    data = json.loads((tmp_path / "b.json").read_text())
    assert data["meta"]["complete"] is False
    assert data["meta"]["skipped"] + len(data["boxes"]) == COUNT


# --- an early end keeps what there is


def stop_after(engine, monkeypatch, count, error):
    update, calls = engine.update_all, []

    def interrupted(frame, targets):
        calls.append(1)
        if len(calls) == count:
            raise error
        return update(frame, targets)

    monkeypatch.setattr(engine, "update_all", interrupted)


def test_ctrl_c_keeps_boxes_and_video(clip, tmp_path, loaded, capsys, monkeypatch):
    stop_after(loaded, monkeypatch, 8, KeyboardInterrupt)
    video, boxes = tmp_path / "out.mp4", tmp_path / "b.json"
    assert run(clip, "--save", video, "--boxes", boxes) == 130
    data = json.loads(boxes.read_text())
    assert [box["frame"] for box in data["boxes"]] == list(range(8)) and data["meta"]["complete"] is False
    with frames(video) as source:
        assert len(list(source)) == 8
    assert f"siamtrack: interrupted after 8 frames; kept {video} and {boxes}" in capsys.readouterr().err
    assert names(tmp_path) == ["b.json", "out.mp4"]


@pytest.mark.parametrize("words", [["track", "none.mp4", "--init", "1,1,9,9"], ["train", "inspect", "."]])
def test_ctrl_c_in_an_import_that_eats_it(words, tmp_path):
    """NumPy, OpenCV and numba make another error of it, or none, and the run went on to its end."""
    module = "numba" if words[0] == "track" else "torch"
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    [i for i in range(9)]\n"
        "except BaseException:\n    pass\nraise ImportError('as numba says it')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "siamtrack", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "siamtrack: interrupted\n", "")


def test_ctrl_c_before_the_first_frame(clip, tmp_path, capsys, monkeypatch):
    def load(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracker, "load", load)
    assert run(clip, "--save", tmp_path / "out.mp4") == 130
    assert capsys.readouterr().err.endswith("siamtrack: interrupted\n") and names(tmp_path) == []


def test_lost_camera_keeps_what_there_is(clip, tmp_path, loaded, capsys, monkeypatch):
    class Slow:
        """The clip as a camera of 200 frames a second that is unplugged after its last frame."""

        def __init__(self):
            self.capture = cv2.VideoCapture(str(clip))
            self.get, self.release = self.capture.get, self.capture.release

        def read(self):
            time.sleep(0.005)
            return self.capture.read()

    monkeypatch.setattr("tracker.footage.video.frames", lambda *args, **options: CameraReader(Slow(), "camera 0"))
    boxes = tmp_path / "b.csv"
    assert run("0", "--boxes", boxes) == 2
    rows = read_csv(boxes)
    assert 1 < len(rows) <= COUNT and np.all(np.diff(rows[:, 0]) >= 1)
    err = capsys.readouterr().err
    assert f"ended early after {len(rows)} frames; kept {boxes}" in err
    assert "siamtrack: error: camera 0 was lost: it stopped delivering after 40 frames" in err


def test_dropped_frames_keep_the_time_of_the_video(clip, tmp_path, loaded, monkeypatch):
    class Gaps(VideoReader):
        """Two of three frames were dropped."""

        def __next__(self):
            frame = super().__next__()
            return frame if frame.index % 3 == 0 else next(self)

    capture = cv2.VideoCapture(str(clip))
    monkeypatch.setattr("tracker.footage.video.frames", lambda *args, **options: Gaps("camera 0", capture))
    assert run("0", "--save", tmp_path / "out.mp4", "--boxes", tmp_path / "b.csv") == 0
    assert read_csv(tmp_path / "b.csv")[:, 0].tolist() == list(range(0, 40, 3))
    with frames(tmp_path / "out.mp4") as source:
        assert len(list(source)) == 40


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (RuntimeError("no idea"), "siamtrack: internal error: RuntimeError: no idea; --debug shows where"),
        (KeyError("x"), "siamtrack: internal error: KeyError: 'x'"),
        (cv2.error("(-215) bad"), "siamtrack: internal error: error: (-215) bad"),
        (MemoryError("24 TB"), "siamtrack: error: not enough memory: 24 TB"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Exception) else "",
)
def test_a_fault_on_the_way_is_one_line_and_keeps_what_there_is(
    clip, tmp_path, loaded, monkeypatch, capsys, fault, said
):
    stop_after(loaded, monkeypatch, 5, fault)
    assert run(clip, "--boxes", tmp_path / "b.csv") == 70
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    assert len(read_csv(tmp_path / "b.csv")) == 5
    assert run(clip, "--boxes", tmp_path / "b.csv", "--debug") == 2  # the file is there by now
    assert "Traceback" in (err := capsys.readouterr().err) and "FileExistsError" in err


def test_select_and_show(clip, tmp_path, loaded, monkeypatch):
    shown = []

    def show(window, picture, wait_ms):
        if not shown or picture is not shown[-1]:
            shown.append(picture)
        return len(shown) < 6  # then q is pressed

    monkeypatch.setattr("tracker.draw.check_display", lambda: None)
    monkeypatch.setattr("tracker.draw.select_box", lambda image: (40.0, 90.0, 48.0, 48.0))
    monkeypatch.setattr("tracker.draw.Window.show", show)
    boxes = tmp_path / "b.json"
    assert main(["track", str(clip), "--select", "--show", "--boxes", str(boxes)]) == 0
    data = json.loads(boxes.read_text())
    assert len(shown) == len(data["boxes"]) == 6 and data["meta"]["complete"] is False
    assert shown[0].shape == (240, 320, 3)
    assert main(["track", str(clip), "--select", "--select", "--boxes", str(boxes), "--force", "--stop", "3"]) == 0
    assert [box["id"] for box in json.loads(boxes.read_text())["boxes"]] == [0, 1] * 3


# --- as a program


def program(*arguments):
    return [sys.executable, "-m", "tracker.cli", *map(str, arguments)]


def test_help_and_version_do_not_wait_for_torch():
    heavy = "{'torch', 'cv2', 'numpy', 'numba', 'tqdm'} & set(sys.modules)"
    for option in ("--help", "--version"):
        code = f"import sys; from tracker.cli import main; assert main(['{option}']) == 0; assert not {heavy}, {heavy}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert ("track" in done.stdout) if option == "--help" else done.stdout == f"siamtrack {__version__}\n"


def test_what_reads_footage_does_not_wait_for_numba():
    code = "import sys, tracker.footage.video; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_on_a_terminal_it_keeps_whole_files(stop, images, tmp_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    if signal.getsignal(stop) == signal.SIG_IGN:
        pytest.skip("the tests run under nohup, and so do the programs that they start")
    source, video, boxes = tmp_path / "long.mp4", tmp_path / "out.mp4", tmp_path / "b.csv"
    with VideoWriter(source, FPS, SIZE) as writer:
        for t in range(LONG):
            writer.write(images[COUNT - 1 - abs(t % (2 * COUNT - 2) - COUNT + 1)])  # to and fro
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 400))
    process = subprocess.Popen(
        program("track", source, "--init", "40,90,48,48", "--save", video, "--boxes", boxes),
        stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = []

    def listen():
        with contextlib.suppress(OSError):  # the other end was closed
            while part := os.read(ours, 4096):
                said.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        deadline = time.monotonic() + 120
        while not re.search(rf"\d\d/{LONG} \[", b"".join(said).decode()):  # ten frames or more
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        assert not video.exists() and not boxes.exists()
        process.send_signal(stop)
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        listener.join(10)
        os.close(ours)
    err = b"".join(said).decode()
    assert process.returncode == 130, err
    rows = read_csv(boxes)
    assert 1 < len(rows) < LONG
    with frames(video) as kept:
        assert len(rows) - 1 <= kept.length == len(list(kept)) <= len(rows)
    assert re.search(rf"\d+/{LONG} \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ frames/s\]", err)  # rate and remaining time
    assert f"siamtrack: interrupted after {len(rows)} frames; kept {video} and {boxes}" in err
    assert "Traceback" not in err and out == b""
    assert names(tmp_path) == ["b.csv", "long.mp4", "out.mp4"]


def test_demo_hands_over_its_options(monkeypatch, capsys):
    calls = []
    module = SimpleNamespace(run_demo=lambda out, **options: calls.append((out, options)))
    monkeypatch.setitem(sys.modules, "tracker.demo", module)
    assert main(["demo"]) == 0
    assert main(["demo", "--out", "x", "--weights", "siamfc", "--threads", "2", "--force"]) == 0
    assert calls[0] == ("demo_out", {"weights": "swift", "threads": 1, "force": False})
    assert calls[1] == ("x", {"weights": "siamfc", "threads": 2, "force": True})

    def fail(out, **options):
        raise SourceError("no clip")

    module.run_demo = fail
    assert main(["demo"]) == 2 and capsys.readouterr().err == "siamtrack: error: no clip\n"


# --- many targets


def test_targets_come_from_a_table(clip, loaded, tmp_path, capsys):
    table, out = tmp_path / "targets.csv", tmp_path / "out.csv"
    table.write_text("name,x,y,w,h\na,100,60,40,50\nb,20,20,30,30\n")
    assert main(["track", str(clip), "--targets", str(table), "--boxes", str(out), "--quiet"]) == 0
    rows = out.read_text().splitlines()
    assert rows[1].split(",")[2:7] == ["0", "100.0", "60.0", "40.0", "50.0"]
    assert rows[2].split(",")[2:7] == ["1", "20.0", "20.0", "30.0", "30.0"]
    again = tmp_path / "again.csv"  # what was written begins another run
    assert main(["track", str(clip), "--targets", str(out), "--boxes", str(again), "--quiet"]) == 0
    assert again.read_text() == out.read_text()
    for text, said in (
        ("a,b\n1,2\n", "no column x, y, w, h"),
        ("x,y,w,h\n", "no column x, y, w, h"),
        ("x,y,w,h\n1,2,3,4\n1,2,a,4\n", "line 3: x, y, w, h are four numbers"),
        ("x,y,w,h\n1,2,3\n", "line 2: x, y, w, h are four numbers"),
    ):
        table.write_text(text)
        assert main(["track", str(clip), "--targets", str(table)]) == 2
        assert said in capsys.readouterr().err
    assert main(["track", str(clip), "--targets", str(tmp_path / "none.csv")]) == 2


# --- what a killed run leaves


def test_after_kill_9_rows_and_film_can_be_read_and_the_next_run_says_where_they_are(images, tmp_path):
    source, video, boxes = tmp_path / "long.mp4", tmp_path / "out.webm", tmp_path / "b.csv"
    with VideoWriter(source, FPS, SIZE) as writer:
        for t in range(LONG):
            writer.write(images[COUNT - 1 - abs(t % (2 * COUNT - 2) - COUNT + 1)])
    words = program("track", source, "--init", "40,90,48,48", "--save", video, "--boxes", boxes, "--quiet")
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    part, film = tmp_path / ".b.part.csv", tmp_path / ".out.part.webm"
    try:
        deadline = time.monotonic() + 120
        while not (film.exists() and film.stat().st_size > 50_000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        second = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 2 and "another run is writing this file" in second.stderr
    finally:
        process.kill()
        process.wait()
    written = len(read_csv(part))
    assert written > 5 and names(tmp_path) == [".b.part.csv", ".out.part.webm", "long.mp4"]
    done = subprocess.run([*words, "--stop", "3"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "a run that was killed left b.unfinished.csv" in done.stderr and "out.unfinished.webm" in done.stderr
    assert len(read_csv(tmp_path / "b.unfinished.csv")) == written and len(read_csv(boxes)) == 3
    with frames(tmp_path / "out.unfinished.webm") as kept:
        assert 5 < len(list(kept)) <= written


@pytest.mark.parametrize("suffix", ["csv", "json", "txt"])
def test_a_full_disk_keeps_the_rows_that_fitted(tmp_path, suffix):
    path = tmp_path / f"b.{suffix}"
    code = f"""
import resource, sys, signal
from pathlib import Path
from tracker.footage.boxes import Row, RowWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
table, written = RowWriter(Path({str(path)!r})), 0
try:
    for i in range(10_000):
        table.write([Row(i, i / 25, 0, 1.0, 2.0, 3.0, 4.0, 0.5)])
        written += 1
except OSError as error:
    print(error)
table.close({{"complete": False, "why": "x" * 500}})
print(written)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said, written = done.stdout.splitlines()
    assert str(path) in said and names(tmp_path) == [path.name]
    if suffix == "json":
        data = json.loads(path.read_text())
        assert 20 < len(data["boxes"]) <= int(written) and data["meta"]["complete"] is False
    else:
        lines = path.read_text().splitlines()[suffix == "csv" :]
        assert len(lines) == int(written) and lines[-1].count(",") == lines[0].count(",")


# --- the time of what is saved


def test_the_video_of_a_source_of_varying_rate_lasts_as_long_as_it(images, tmp_path, loaded):
    av = pytest.importorskip("av")
    source, times = tmp_path / "vfr.mkv", np.cumsum([0, *([1] * 20), *([4] * 19)])  # in frames of 1/25 s
    with av.open(str(source), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height = SIZE
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for image, at in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = int(at), Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    boxes, video = tmp_path / "b.json", tmp_path / "out.mp4"
    assert run(source, "--boxes", boxes, "--save", video) == 0
    data = json.loads(boxes.read_text())
    assert data["meta"]["complete"] is True and data["meta"]["skipped"] == 0 and len(data["boxes"]) == COUNT
    with frames(video) as saved:
        assert len(list(saved)) / saved.fps == pytest.approx((times[-1] + 1) / 25, abs=0.05)


def test_a_source_faster_than_any_video_is_saved_slower_and_that_is_said(images, tmp_path, loaded, capsys):
    source = tmp_path / "fast.mp4"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"mp4v"), 5000, SIZE)
    for image in images[:6]:
        writer.write(image)
    writer.release()
    assert run(source, "--save", tmp_path / "out.mp4") == 0
    assert "plays 5 times slower than its source" in capsys.readouterr().out
    with frames(tmp_path / "out.mp4") as saved:
        assert len(list(saved)) == 6


def test_no_password_reaches_a_file(clip, tmp_path, loaded, monkeypatch):
    monkeypatch.setattr("tracker.footage.video._open_address", lambda *args: frames(clip))
    address = "rtsp://me:s3cret@cam.local/live?token=s3cret"
    assert run(address, "--boxes", tmp_path / "b.json", "--stop", 3) == 0
    assert "s3cret" not in (tmp_path / "b.json").read_text()
