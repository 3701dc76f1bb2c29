"""`siamtrack demo` and the scripts of demos/, on real files through the real decoder."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

import tracker.demo
from tracker.benchmark.judge.metrics import success_auc
from tracker.demo import CUT, Outcome, report, run_demo, street, told
from tracker.draw import Window
from tracker.footage.video import VideoWriter, frames
from tracker.geometry import Box, iou
from tracker.samples import sample
from tracker.scene import Scene
from tracker.target import Result

ROOT = Path(__file__).parents[1]
LENGTH = 12
NUMBER = r"(-?\d+\.\d+)"


class Oracle:
    """A tracker that is told the truth of the synthetic scene, and shifts it by `error` px."""

    device = "cpu"

    def __init__(self, error: float = 0.0) -> None:
        self.scene, self.error, self.t = Scene((640, 360), LENGTH, tracker.demo.SCENE_SEED), error, 0

    def init(self, frame: np.ndarray, box: Sequence[float]) -> None:
        self.t = 0

    def update(self, frame: np.ndarray) -> Result:
        self.t += 1
        x, y, w, h = self.scene.box(self.t)
        return Result(Box(x + self.error, y, w, h), 0.9, 1.0, float(self.t), 0.5)


def use_oracle(monkeypatch: pytest.MonkeyPatch, error: float = 0.0) -> None:
    monkeypatch.setattr(tracker.demo.Tracker, "load", lambda *_, **__: Oracle(error))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # as without scikit-video


def video_size(path: Path) -> tuple[int, tuple[int, int]]:
    with frames(path) as source:
        size = source.size
        return sum(1 for _ in source), size


def test_the_street_shows_another_scene_for_a_while() -> None:
    whole, clip = sample("street"), street()
    assert clip is not None and clip.length == whole.stop - whole.start
    with frames(whole.path, whole.start) as source:
        images = [frame.image for frame in source]
    for t, image in enumerate(clip.images):
        shown = t if not CUT[0] <= t < CUT[1] else clip.length + t - CUT[0]  # the scene that follows in the clip
        assert np.array_equal(image, images[shown]), t


def test_the_report_says_where_the_target_was_lost() -> None:
    box, states = Box(1, 1, 9, 9), ["tracking", "lost", "lost", "uncertain", "lost"]
    one = Outcome("street", [Result(box, 0.5, 1.0, 1.0, 1.0, state) for state in states], None, Path("a.mp4"), [])
    assert one.lost == [(2, 3), (5, 5)]
    assert "street: 6 frames, lost in 2 to 3 and 5 to 5" in report([one], "")


def test_the_sheet_tells_what_happened() -> None:
    tracking, uncertain, lost = "tracking", "uncertain", "lost"
    states = [*[tracking] * 7, *[uncertain] * 2, *[lost] * 9, *[tracking] * 9, uncertain, *[lost] * 6, *[tracking] * 9]
    story = told(states, 6)  # of seven stretches; the shortest goes without
    assert [words.split(",")[0] for _, words in story] == [
        "followed", "in doubt", "lost", "found again", "lost", "found again"
    ]  # fmt: skip
    assert [states[t] for t, _ in story] == [tracking, uncertain, lost, tracking, lost, tracking]
    assert [t for t, _ in told([tracking] * 60, 6)] == [5, 15, 25, 35, 45, 55]
    assert [t for t, _ in told([tracking] * 12 + [lost] * 4, 4)] == [2, 6, 10, 14]  # the long stretch has more
    for count in range(1, 12):
        assert [t for t, _ in told([tracking] * count, 6)] == sorted({t for t, _ in told([tracking] * count, 6)})
        assert len(told([tracking] * count, 6)) == min(count, 6)


def test_demo_tracks_and_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "out"
    runs = run_demo(out, length=LENGTH)
    printed = capsys.readouterr().out
    scene = Scene((640, 360), LENGTH, tracker.demo.SCENE_SEED)
    truth = [scene.box(t) for t in range(LENGTH)]
    run = runs[-1]
    assert run.name == "scene" and run.stages.shape == (LENGTH - 1, 3)
    assert run.success_auc == success_auc(iou([truth[0], *(r.box for r in run.results)], truth)) > 0.5
    assert (run.stages > 0).all()
    assert f"{run.success_auc:.3f}" in printed
    assert {p.name for p in out.iterdir()} == {f"{run.name}.webm" for run in runs} | {"sheet.png"}
    for run in runs:
        assert str(run.video) in printed
        assert video_size(run.video) == (LENGTH, (640, 272) if run.name == "street" else (640, 360))
    assert str(out / "sheet.png") in printed
    sheet = cv2.imread(str(out / "sheet.png"))
    wide = tracker.demo.COLUMNS * (tracker.demo.TILE_WIDTH + tracker.demo.GAP) + tracker.demo.GAP
    assert sheet.shape[1] == wide and sheet.std() > 20


def test_a_perfect_run_reads_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_oracle(monkeypatch)
    assert run_demo(tmp_path, length=LENGTH)[-1].success_auc == 1.0
    use_oracle(monkeypatch, error=20.0)
    assert 0.2 < run_demo(tmp_path, length=LENGTH, force=True)[-1].success_auc < 0.8


def test_overlay_shows_both_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_oracle(monkeypatch, error=40.0)
    run = run_demo(tmp_path, length=LENGTH)[-1]
    scene = Scene((640, 360), LENGTH, tracker.demo.SCENE_SEED)
    with frames(run.video) as source:
        last = list(source)[-1].image.astype(int)
    plain = scene.render(LENGTH - 1).astype(int)
    for x, y, _, h in (run.results[-1].box, scene.box(LENGTH - 1)):  # their left edges lie apart
        edge = np.s_[round(y + 0.2 * h) : round(y + 0.8 * h), round(x) - 1 : round(x) + 1]
        assert np.abs(last[edge] - plain[edge]).max(2).mean() > 40


def test_report_has_the_median_and_p95_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_oracle(monkeypatch)
    text = report(run_demo(tmp_path, length=LENGTH)[-1:], "oracle")
    # crop 1, network 1..11, post 0.5
    assert re.search(r"scene +median +1\.00 +6\.00 +0\.50 +7\.50 +133\n +p95 +1\.00 +10\.50 +0\.50 +12\.00\n", text)
    assert "oracle" in text


def test_without_the_real_clip_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    use_oracle(monkeypatch)
    runs = run_demo(tmp_path, length=LENGTH)
    assert [run.name for run in runs] == ["scene"]
    assert 'pip install "siamtrack[demo]"' in capsys.readouterr().out.splitlines()[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.webm", "sheet.png"]


def test_files_of_an_earlier_demo_are_kept_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_oracle(monkeypatch)
    (tmp_path / "sheet.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"sheet\.png exists"):
        run_demo(tmp_path, length=LENGTH)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]  # found out before the work
    assert (tmp_path / "sheet.png").read_text() == "mine"
    run_demo(tmp_path, length=LENGTH, force=True)
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="out"):
        run_demo(tmp_path / "out")


# --- demos/


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scene]:
    scene = Scene((320, 240), LENGTH, 14)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, 25, scene.size) as writer:
        for image in scene:
            writer.write(image)
    return path, scene


def box_text(scene: Scene) -> str:
    return ",".join(f"{v:.2f}" for v in scene.box(0))


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., list[str]]:
    def run(name: str, *arguments: str | Path) -> list[str]:
        """Run a script as its own main module, in this process to spare the imports; give the lines it prints."""
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(ROOT / "demos" / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def assert_follows(boxes: Sequence[Sequence[str]], scene: Scene) -> None:
    truth = np.array([scene.box(t) for t in range(1, LENGTH)])
    found = np.array(boxes, float)
    assert found.shape == truth.shape
    assert iou(found, truth).mean() > 0.5


def test_file_prints_the_boxes(clip: tuple[Path, Scene], tmp_path: Path) -> None:
    path, scene = clip
    command = [sys.executable, str(ROOT / "demos" / "file.py"), str(path), box_text(scene)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    matches = [re.match(rf"(\d+) .*: {NUMBER},{NUMBER},{NUMBER},{NUMBER} score {NUMBER}$", line) for line in lines]
    assert [int(m[1]) for m in matches if m] == list(range(1, LENGTH))
    assert_follows([m.groups()[1:5] for m in matches if m], scene)


def test_many_targets_follows_each_and_writes_a_video(
    clip: tuple[Path, Scene], tmp_path: Path, run_script: Callable[..., list[str]]
) -> None:
    path, scene = clip
    out = tmp_path / "out.mp4"
    lines = run_script("many_targets.py", path, out, box_text(scene), "100,100,50,40", box_text(scene))
    rows = [line.split() for line in lines]
    assert [len(row) for row in rows] == [4] * (LENGTH - 1)
    assert_follows([row[1].split(",") for row in rows], scene)
    assert all(row[1] == row[3] != row[2] for row in rows)  # the same start gives the same way, another another
    assert video_size(out)[0] == LENGTH - 1


def test_robot_prints_where_to_turn(clip: tuple[Path, Scene], run_script: Callable[..., list[str]]) -> None:
    path, scene = clip
    lines = run_script("robot.py", path, box_text(scene))
    assert len(lines) == LENGTH - 1
    for t, line in enumerate(lines, 1):
        match = re.match(rf"{NUMBER} s (turn ([+-]\d\.\d+)|stop) score {NUMBER} dropped 0$", line)
        assert match, line
        if match[3]:
            x, _, w, _ = scene.box(t)
            assert float(match[3]) == pytest.approx((x + w / 2) / 160 - 1, abs=0.1)
    assert sum("turn" in line for line in lines) > LENGTH / 2


def test_same_shows_two_images_with_the_answer(
    clip: tuple[Path, Scene], tmp_path: Path, run_script: Callable[..., list[str]]
) -> None:
    (first, second, *_), other = clip[1], np.zeros((90, 60, 3), np.uint8)
    for name, image in (("a.png", first), ("b.png", second), ("c.png", other)):
        cv2.imwrite(str(tmp_path / name), image)
    said = []
    for name in ("b.png", "c.png"):
        (line,) = run_script("same.py", tmp_path / "a.png", tmp_path / name, tmp_path / f"with-{name}")
        match = re.match(rf"(same|different): {NUMBER} \({NUMBER} and more is the same\)$", line)
        assert match and (float(match[2]) >= float(match[3])) == (match[1] == "same")
        said.append(match[1])
    assert said == ["same", "different"]
    wide, narrow = (cv2.imread(str(tmp_path / f"with-{name}.png")) for name in "bc")
    assert len(wide) == len(narrow) == 320 and wide.shape[1] > narrow.shape[1]


def test_webcam_selects_follows_and_ends(clip: tuple[Path, Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    path, scene = clip
    shown: list[np.ndarray] = []

    def show(window: Window, image: np.ndarray) -> bool:
        shown.append(image)
        return len(shown) < 3  # then q is pressed

    monkeypatch.setattr("tracker.draw.check_display", lambda: None)
    monkeypatch.setattr("tracker.draw.select_box", lambda image: scene.box(0))
    monkeypatch.setattr(Window, "show", show)
    runpy.run_path(str(ROOT / "demos" / "webcam.py"))["main"](str(path))
    assert len(shown) == 3 and shown[0].shape == (240, 320, 3)


def test_demos_are_short_and_say_what_they_do() -> None:
    scripts = sorted((ROOT / "demos").glob("*.py"))
    assert {"file.py", "many_targets.py", "robot.py", "webcam.py"} <= {path.name for path in scripts}
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        most = 120 if path.name == "pan_tilt.py" else 40  # a whole simulation; the others are there to be copied
        assert len(text.splitlines()) < most and text.startswith('"""'), path.name
