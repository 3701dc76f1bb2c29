"""What is drawn lies where the box says, on any picture, and nothing else changes."""

import os
import subprocess

import cv2
import numpy as np
import pytest

from siamtrack import show
from tracker.draw import Window, check_display, draw, draw_results, select_box
from tracker.footage.video import Frame
from tracker.target import Result


def changed(frame, *args, **kwargs):
    return np.any(draw(frame, *args, **kwargs) != frame, axis=2)


@pytest.mark.parametrize("shape", [(2, 2), (48, 64), (480, 640), (1080, 1920)])
def test_input_is_never_changed(shape, rng):
    frame = rng.integers(0, 255, (*shape, 3), np.uint8)
    before = frame.copy()
    frame.flags.writeable = False
    out = draw(frame, (shape[1] * 0.3, shape[0] * 0.4, shape[1] * 0.3, shape[0] * 0.2), 0.7, [(0, 0), shape], "name")
    assert out is not frame and out.shape == frame.shape and out.dtype == np.uint8
    assert np.array_equal(frame, before) and not np.shares_memory(out, frame)
    assert not np.array_equal(out, before)


def test_views_and_strides_are_fine(photo):
    box = (50, 60, 70, 80)
    assert np.array_equal(draw(photo[:, ::-1], box), draw(photo[:, ::-1].copy(), box))


def test_only_the_outline_changes(photo):
    mask = changed(photo, (80, 60, 120, 100))
    ys, xs = np.nonzero(mask)
    assert 76 <= xs.min() < 80 and 200 <= xs.max() < 204 and 56 <= ys.min() < 60 and 160 <= ys.max() < 164
    assert not mask[66:154, 86:194].any()  # the target stays visible


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.8])
def test_positions_are_sub_pixel(offset):
    black = np.zeros((240, 320, 3), np.uint8)
    x, y, w, h = 80 + offset, 60 + 2 * offset, 120, 100
    light = draw(black, (x, y, w, h), colour=(255, 255, 255)).astype(float)[..., 1] - 20
    light = np.clip(light, 0, None)
    middle = lambda weights: (weights * (np.arange(len(weights)) + 0.5)).sum() / weights.sum()  # noqa: E731
    row, column = light[110], light[:, 140]
    assert abs(middle(row[:140]) - x) < 0.2 and abs(middle(row[140:]) + 140 - (x + w)) < 0.2
    assert abs(middle(column[:110]) - y) < 0.2 and abs(middle(column[110:]) + 110 - (y + h)) < 0.2


def test_mirrored_box_gives_the_mirrored_picture():
    grey = np.full((200, 300, 3), 128, np.uint8)
    a = draw(grey, (40.25, 50.5, 80, 60)).astype(int)
    b = draw(grey, (300 - 40.25 - 80, 50.5, 80, 60)).astype(int)
    assert np.abs(a - b[:, ::-1]).mean() < 0.3


@pytest.mark.parametrize("level", [0, 60, 128, 190, 255])
@pytest.mark.parametrize("score", [None, 0.0, 0.5, 1.0])
def test_box_stands_out_on_any_grey(level, score):
    frame = np.full((240, 320, 3), level, np.uint8)
    out = draw(frame, (80, 60, 120, 100), score).astype(int)
    ring = np.abs(out[110, 70:90] - level).sum(1)
    assert ring.max() > 150  # the line or its dark rim


def test_lines_scale_with_the_frame():
    def width(size):
        frame = np.zeros((9 * size, 16 * size, 3), np.uint8)
        return changed(frame, (4 * size, 3 * size, 8 * size, 4 * size))[5 * size, : 8 * size].sum()

    assert 2 <= width(20) < width(80) < width(120) < width(240)
    assert 0.8 < width(240) / (2 * width(120)) < 1.2


def test_score_fills_the_bar_and_sets_the_colour():
    frame = np.zeros((360, 480, 3), np.uint8)
    box = (100, 150, 200, 100)

    def green(score):
        line = draw(frame, box, score)[200, 96:104].astype(int)
        _, g, r = line[line.max(1).argmax()]
        return g - r

    assert green(1.0) > 100 > 0 > green(0.5) > -100 > green(0.0)

    def bar(score):
        part = draw(frame, box, score)[100:148, 100:160].astype(int)
        return (part.max(2) - part.min(2) > 60).sum()  # coloured, not grey

    filled = [bar(s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert filled[0] == 0 and np.allclose(np.diff(filled), filled[-1] / 4, rtol=0.15)
    assert np.array_equal(draw(frame, box, 1.7)[110:147, 100:145], draw(frame, box, 1.0)[110:147, 100:145])  # clamped


def test_label_is_readable_on_noise_and_stays_inside(rng):
    frame = rng.integers(0, 255, (360, 480, 3), np.uint8)
    for box in ((200, 150, 80, 60), (-20, -30, 90, 60), (440, 0, 90, 60), (430, 340, 90, 60)):
        mask = changed(frame, box, 0.5, None, "car") & ~changed(frame, box, colour=(1, 2, 3))
        assert mask.sum() > 1500  # the plate is there, whole, wherever the box is
    out = draw(frame, (200, 150, 80, 60), None, None, "car")
    plate = np.nonzero(np.any(out != frame, axis=2)[:144].any(1))[0]
    inside = out[plate.min() + 3 : plate.max() - 3, 203:225]
    assert np.median(inside) < 90 and inside.max() > 240  # dark plate, light letters


def test_trail_leads_to_the_target_and_fades():
    frame = np.full((360, 480, 3), 200, np.uint8)
    trail = np.stack([np.linspace(40, 400, 30), np.full(30, 300)], 1)
    strength = np.abs(draw(frame, None, None, trail).astype(int) - 200).sum((0, 2))
    assert strength[:36].sum() == strength[405:].sum() == 0
    assert 0 < strength[60] < strength[200] < strength[390]
    for short in ([], [(5, 5)], [(np.nan, 3), (4, 4)], [(-900, -900), (-800, -900)]):
        assert not changed(frame, None, None, short).any()


def test_without_a_box_only_the_tag_is_drawn():
    frame = np.zeros((360, 480, 3), np.uint8)
    assert not changed(frame, None).any()
    mask = changed(frame, None, 0.1, None, "lost")
    assert mask[:40, :200].any() and not mask[60:].any()


@pytest.mark.parametrize("box", [(-50, -40, 500, 400), (-500, -500, 20, 20), (1e7, 1e7, 10, 10), (10, 10, 1e-3, 1e-3)])
def test_boxes_beyond_the_frame_do_not_fail(photo, box):
    draw(photo, box, 0.5, [(1e9, 1e9), (0, 0)], "x")


def test_bad_input_is_refused(photo):
    for box in ((1, 2, np.nan, 4), (1, 2, 0, 4), (1, 2, 3, -4), (np.inf, 2, 3, 4)):
        with pytest.raises(ValueError, match="not four finite numbers"):
            draw(photo, box)
    for frame in (None, photo[..., 0], photo.astype(float), photo[..., :2]):
        with pytest.raises(ValueError, match=r"draw takes \(H, W, 3\) uint8 BGR"):
            draw(frame, (1, 2, 3, 4))


def test_no_display_is_found_out_without_a_crash(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OSError, match=r"no display .*--init"):
        check_display()
    monkeypatch.setenv("DISPLAY", ":4711")  # set, but nobody listens: Qt aborts its process
    with pytest.raises(OSError, match="display cannot be used"):
        check_display()


def test_display_that_answers_is_accepted(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, 0))
    check_display()
    assert os.environ["DISPLAY"] == ":0"


class Screen:
    """Stands in for the windows of cv2. drawn: corners between which the mouse is drawn, then Enter is pressed."""

    def __init__(self, monkeypatch, drawn=(), key=-1):
        self.open, self.shown, self.drawn, self.key = set(), [], list(drawn), key
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: self.open.add(title))
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, w, h: self.shown.append((w, h)))
        monkeypatch.setattr(cv2, "destroyWindow", self.open.discard)
        monkeypatch.setattr(cv2, "setMouseCallback", lambda title, call: setattr(self, "mouse", call))
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda ms: self.press())
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: 1.0 if title in self.open else -1.0)

    def press(self):
        if not self.drawn:
            return self.key
        events = [cv2.EVENT_LBUTTONDOWN, *[cv2.EVENT_MOUSEMOVE] * len(self.drawn)]
        for event, (x, y) in zip(events, [self.drawn[0], *self.drawn], strict=True):
            self.mouse(event, x, y, 0, None)
        self.mouse(cv2.EVENT_LBUTTONUP, *self.drawn[-1], 0, None)
        self.mouse(cv2.EVENT_MOUSEMOVE, 1, 1, 0, None)  # no longer drawn
        self.drawn = []
        return self.key


def test_select_box(monkeypatch):
    big = np.zeros((2160, 3840, 3), np.uint8)
    for corners, box in (
        ([(3, 4), (30, 9), (53, 64)], (3, 4, 50, 60)),
        ([(53, 64), (3, 4)], (3, 4, 50, 60)),
        ([(3700, 2000), (9000, 9000)], (3700, 2000, 140, 160)),  # over the edge
    ):
        screen = Screen(monkeypatch, corners, key=13)
        assert select_box(big) == box
        assert screen.shown[0] == (1280, 720) and not screen.open
    for key in (27, ord("c")):
        Screen(monkeypatch, key=key)
        with pytest.raises(ValueError, match="no box was drawn"):
            select_box(big)
    screen = Screen(monkeypatch, [(9, 9), (9, 30)], key=13)  # no area: Enter waits, until the window is closed
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: -1.0 if len(screen.shown) > 1 else 1.0)
    with pytest.raises(ValueError, match="no box was drawn"):
        select_box(big)


def test_ctrl_c_is_heard_while_a_box_is_drawn(monkeypatch, photo):
    screen = Screen(monkeypatch)

    def stop():
        raise KeyboardInterrupt

    screen.press = stop
    with pytest.raises(KeyboardInterrupt):
        select_box(photo)
    assert not screen.open


def test_window_goes_on_until_the_user_ends_it(monkeypatch, photo):
    screen, window = Screen(monkeypatch), Window()
    assert window.show(photo) and window.show(photo)
    assert len(screen.open) == 1 and len(screen.shown) == 3  # opened once, shown twice
    screen.key = ord("q")
    assert not window.show(photo)
    screen.key = -1
    assert window.show(photo)
    screen.open.clear()  # closed with the mouse
    assert not window.show(photo)


# --- results


def found(*states):
    return [Result((20 + 60 * i, 100, 40, 40), 0.1 * i, state=state) for i, state in enumerate(states)]


def test_who_is_lost_is_drawn(photo):
    three = found("lost", "tracking", "lost")
    changed = [
        np.abs(draw_results(photo, results).astype(int) - photo).sum(2) > 30
        for results in (three, three[:2], three[:1], three[1:2])
    ]
    for c in changed[:3]:
        assert c[:20].any()  # the tag of who is lost
    for k in (0, 1):
        assert changed[k][100:140, 78:83].any() and not changed[k][100:140, 15:25].any()
    assert changed[0][:20].sum() > changed[1][:20].sum()  # "lost: 0, 2" is longer than "lost: 0"
    assert not changed[2][60:].any()
    assert not changed[3][:20].any()


def test_a_guess_is_dashed():
    grey = np.full((360, 480, 3), 128, np.uint8)
    x, y, w, h = box = (100.5, 150.25, 200, 90)
    around = np.array([[x, y, 1, 0], [x, y, 0, 1], [x + w, y + h, -1, 0], [x + w, y + h, 0, -1]])  # sides, from corners
    for state, least, most in (("tracking", 1.0, 1.0), ("uncertain", 0.4, 0.8)):
        painted = np.ptp(draw_results(grey, [Result(box, 0.5, state=state)]), axis=2) > 60  # amber, not its dark rim
        for (left, top, right, down), length in zip(around, (w, h, w, h), strict=True):
            steps = np.arange(1, length - 1)
            side = painted[(top + down * steps).astype(int), (left + right * steps).astype(int)]
            assert least <= side.mean() <= most, state
            assert side[:6].all() and side[-6:].all()  # the corners are there
    drawn = np.any(draw_results(grey, found("uncertain", "tracking")) != grey, axis=2)
    assert not drawn[105:135, 18:23].all(0).any() and drawn[105:135, 78:83].all(0).any()  # of several: only the guess


@pytest.mark.parametrize("box", [(10, 10, 4, 4), (10, 10, 1e-3, 1e-3), (1e7, 5, 1e-12, 9), (-1e6, -1e6, 2e6, 2e6)])
def test_a_guess_of_any_size_is_drawn(photo, box):
    changed = np.any(draw(photo, box, dashed=True) != photo, axis=2)
    assert changed.any() == (box[0] == 10)  # the others have no edge in the picture


def test_notebooks_show_what_was_found(photo, tmp_path):
    results = found("tracking", "lost")
    for frame in (photo, Frame(photo, 3, 0.1)):
        picture = show(frame, results)
        assert np.array_equal(picture.image, draw_results(photo, results))
    assert np.array_equal(cv2.imdecode(np.frombuffer(picture._repr_png_(), np.uint8), cv2.IMREAD_COLOR), picture.image)
    assert np.array_equal(show(photo, results[0]).image, draw(photo, results[0].box, 0.0))
    picture.save(tmp_path / "seen.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "seen.png")), picture.image)
    assert "320 x 240" in repr(picture)
