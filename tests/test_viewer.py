"""The window of `track --show`: keys do what they say, and what they do is in the boxes and in the flight log."""

import csv
import time

import cv2
import numpy as np
import pytest

from tracker import Tracker
from tracker.cli import main
from tracker.draw import COLOURS, draw_heat, draw_lines, draw_results
from tracker.footage.video import VideoWriter
from tracker.geometry import Box
from tracker.recorder import read_log
from tracker.replay import differences, run_again
from tracker.scene import Scene
from tracker.target import Result

COUNT = 8
SCENE = Scene((160, 120), COUNT, seed=2, occlusion=False, distractor=False)
OTHER = (8.0, 10.0, 36.0, 30.0)


class Screen:
    """Stands in for the windows of cv2, and for who sits before them.

    keys: what is pressed while each frame is shown, one key after the other. drawn: boxes that are drawn when asked.
    after: (frame, key) -> what is shown then.
    """

    def __init__(self, monkeypatch, keys, drawn=()):
        self.keys, self.drawn, self.shown = {k: list(v) for k, v in keys.items()}, list(drawn), []
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr("tracker.draw.check_display", lambda: None)
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, w, h: None)
        monkeypatch.setattr(cv2, "destroyWindow", lambda title: None)
        monkeypatch.setattr(cv2, "setMouseCallback", self.draw)
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.show(image))
        monkeypatch.setattr(cv2, "waitKey", self.wait)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: 1.0)
        self.pressed, self.after, self.answer = None, {}, None
        self.frame, self.engine = 0, Tracker.load("swift", device="cpu")
        update = self.engine.update_all

        def count(frame, targets):
            self.frame += 1
            return update(frame, targets)

        self.engine.update_all = count
        monkeypatch.setattr(Tracker, "load", lambda *args, **kwargs: self.engine)

    def show(self, image):
        self.shown.append(image)
        if self.pressed:
            self.after[self.pressed], self.pressed = image, None

    def draw(self, title, mouse):
        x, y, w, h = map(int, self.drawn.pop(0))
        for event, at in ((cv2.EVENT_LBUTTONDOWN, (x, y)), (cv2.EVENT_LBUTTONUP, (x + w, y + h))):
            mouse(event, *at, 0, None)
        self.answer = 13 if w else ord("c")

    def wait(self, ms):
        if self.answer:
            answer, self.answer = self.answer, None
            return answer
        waiting = self.keys.get(self.frame)
        if waiting:
            self.pressed = self.frame, waiting.pop(0)
            return ord(self.pressed[1])
        time.sleep(ms / 1000)
        return -1


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, 60, SCENE.size) as writer:
        for image in SCENE:
            writer.write(image)
    return path


def run(clip, tmp_path, *more):
    box = ",".join(map(str, SCENE.box(0)))
    words = ["--boxes", tmp_path / "b.csv", "--record", tmp_path / "b.siamlog", "--show", "--quiet"]
    return main(["track", str(clip), "--init", box, *map(str, words), *map(str, more)])


def rows(tmp_path):
    with open(tmp_path / "b.csv", newline="") as file:
        return [(int(row["frame"]), int(row["id"]), [float(row[k]) for k in "xywh"]) for row in csv.DictReader(file)]


def test_targets_are_added_drawn_anew_and_deleted_by_keys(clip, tmp_path, monkeypatch):
    Screen(monkeypatch, {2: " an", 3: "n", 4: "1rn", 5: "n", 6: "0dn", 7: " "}, [OTHER, (100, 60, 30, 30)])
    assert run(clip, tmp_path) == 0
    found = rows(tmp_path)
    assert [n for n, _, _ in found] == sorted(n for n, _, _ in found)
    ours, added = ({f: box for f, n, box in found if n == number} for number in (0, 1))
    assert set(ours) == set(range(7)) and set(added) == set(range(2, 8))
    assert added[2] == list(OTHER) and added[4] == [100, 60, 30, 30]
    log = read_log(tmp_path / "b.siamlog")
    assert log.steps[4].started == {1: (100, 60, 30, 30)} and log.steps[4].followed == (0, 1)
    monkeypatch.undo()
    assert differences(log, run_again(log)) == []  # also of what was done by hand


def test_it_plays_by_the_time_stamps_of_the_source(tmp_path, monkeypatch):
    slow = tmp_path / "slow.mp4"
    with VideoWriter(slow, 2, SCENE.size) as writer:
        for t in range(3):
            writer.write(SCENE.render(t))
    screen, begin = Screen(monkeypatch, {}), time.monotonic()
    assert run(slow, tmp_path) == 0
    assert time.monotonic() - begin > 0.9 and len(screen.shown) > 5  # the keyboard is asked while it waits
    screen = Screen(monkeypatch, {0: "f"})
    assert run(slow, tmp_path, "--force") == 0 and len(screen.shown) == 3


def test_q_ends_and_what_was_found_is_kept(clip, tmp_path, monkeypatch):
    Screen(monkeypatch, {3: "q"})
    assert run(clip, tmp_path) == 0
    assert [f for f, _, _ in rows(tmp_path)] == [0, 1, 2, 3]
    assert read_log(tmp_path / "b.siamlog").end["end"] == "finished"


def test_the_picture_is_written_as_it_is_shown_and_never_over_another(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screen = Screen(monkeypatch, {2: " hww "})
    assert run(clip, tmp_path) == 0
    written = cv2.imread("siamtrack-000002.png")
    assert any(np.array_equal(written, image) for image in screen.shown)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_the_response_map_lies_on_the_target_and_changes_no_box(clip, tmp_path, monkeypatch):
    screen = Screen(monkeypatch, {3: " hm ", 5: " m "})
    assert run(clip, tmp_path) == 0
    with_map = rows(tmp_path)
    changed = np.abs(screen.after[3, "m"].astype(int) - screen.after[3, "h"]).sum(2)
    ys, xs = np.nonzero(changed > 0.5 * changed.max())
    x, y, w, h = SCENE.box(3)
    assert x < xs.mean() < x + w and y < ys.mean() < y + h
    Screen(monkeypatch, {})
    assert run(clip, tmp_path, "--force") == 0 and rows(tmp_path) == with_map


def test_what_cannot_be_done_is_said_on_the_screen_and_nothing_happens(clip, tmp_path, monkeypatch):
    screen = Screen(monkeypatch, {1: " ha5dr" + " "}, [(0, 0, 0, 0)])  # drawn and given up; no target 5; deleted, drawn
    assert run(clip, tmp_path) == 0
    assert [f for f, _, _ in rows(tmp_path)] == [0, 1]
    assert len({image.tobytes() for image in screen.shown}) > 5  # each note is another picture
    box = ",".join(map(str, SCENE.box(0)))
    Screen(monkeypatch, {1: " a "}, [OTHER])
    assert main(["track", str(clip), "--init", box, "--boxes", str(tmp_path / "b.txt"), "--show", "--quiet"]) == 0
    assert len((tmp_path / "b.txt").read_text().splitlines()) == COUNT


# --- what is drawn


def test_several_targets_have_colours_of_their_own():
    grey = np.full((200, 300, 3), 128, np.uint8)
    found = [Result(Box(20, 60, 60, 60), 0.9), Result(Box(120, 60, 60, 60), 0.9)]
    for ids in ([0, 1], [3, 12]):
        picture = draw_results(grey, found, ids=ids)
        for number, result in zip(ids, found, strict=True):
            line = picture[100, round(result.box.x) - 1 : round(result.box.x) + 2].reshape(-1, 3)
            assert any(np.array_equal(pixel, COLOURS[number % len(COLOURS)]) for pixel in line)
    assert not np.array_equal(draw_results(grey, found[:1]), draw_results(grey, found[:1], ids=[4]))  # its number


def test_a_map_lies_where_it_says_also_beyond_the_frame():
    black = np.zeros((100, 100, 3), np.uint8)
    values = np.zeros((10, 10))
    values[2, 7] = 1
    out = draw_heat(black, values, (20, 10, 50, 50))
    ys, xs = np.nonzero(out[:, :, 2] > 60)
    assert (xs.mean(), ys.mean()) == (
        pytest.approx(20 + 7.5 * 5 - 0.5, abs=1),
        pytest.approx(10 + 2.5 * 5 - 0.5, abs=1),
    )
    assert np.array_equal(draw_heat(black, np.zeros((4, 4)), (-30, -30, 60, 60)), black)
    assert draw_heat(black, np.ones((4, 4)), (-30, -30, 60, 60))[:25, :25, 2].min() > 60


def test_lines_of_text_fit_any_picture():
    for shape in ((60, 80, 3), (480, 640, 3)):
        picture = np.full(shape, 200, np.uint8)
        out = draw_lines(picture, ["a line that is much longer than a small picture is wide", "another"])
        assert out.shape == shape and not np.array_equal(out, picture)
        assert np.array_equal(draw_lines(picture, []), picture)


def test_a_result_plots_itself_in_a_notebook():
    picture = Result(Box(*SCENE.box(0)), 0.8).plot(SCENE.render(0))
    image = cv2.imdecode(np.frombuffer(picture._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(image, draw_results(SCENE.render(0), [Result(Box(*SCENE.box(0)), 0.8)]))
