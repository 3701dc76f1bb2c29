"""What speaks for a box."""

import numpy as np
import pytest

from tracker.benchmark.events import other_colours
from tracker.engine import Refined
from tracker.evidence import colours, examine
from tracker.geometry import Box
from tracker.scene import Scene
from tracker.target import EVIDENCE, Found, Reference

BOX = Box(20, 30, 40, 60)
PATCH = np.ones((1, 64, 16, 16), np.float32)


@pytest.fixture(scope="module")
def frame():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


def found(logit, seen, likeness):
    return Found(BOX, 0.3, np.zeros(len(EVIDENCE)), logit, 0 * PATCH, seen, likeness)


def test_colours_are_shares_and_move_with_the_picture(frame):
    seen = colours(frame, BOX)
    assert seen @ seen == pytest.approx(1) and (seen >= 0).all()
    moved = np.roll(frame, (5, 7), axis=(0, 1))
    assert np.array_equal(colours(moved, Box(27, 35, 40, 60)), seen)
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    assert seen @ colours(mirrored, Box(160 - 60, 30, 40, 60)) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("x, y", [(0, 0), (31, 17)])
def test_colours_are_those_of_the_pixels_in_the_box(frame, x, y):
    pixels = frame[y : y + 24, x : x + 24]  # as many as are looked at
    away = np.mgrid[:24, :24] - 11.5
    counted = pixels[(away**2).sum(0) <= 0.8 * 12**2] // 32 @ np.array([64, 8, 1])
    expected = np.bincount(counted, minlength=512) / len(counted)
    assert np.allclose(colours(frame, Box(x, y, 24, 24)) ** 2, expected)


def test_the_corners_of_a_box_do_not_count():
    frame = np.full((100, 100, 3), 10, np.uint8)
    frame[20:80, 20:80] = 200
    inside = colours(frame, Box(20, 20, 60, 60))
    for y, x in ((20, 20), (20, 74), (74, 20), (74, 74)):
        frame[y : y + 6, x : x + 6] = (0, 0, 255)
    assert np.array_equal(colours(frame, Box(20, 20, 60, 60)), inside)
    assert np.flatnonzero(inside).tolist() == [6 * 64 + 6 * 8 + 6]


def test_colours_outlast_motion_and_tell_a_recoloured_copy():
    scene = Scene((320, 240), 40, seed=3)
    first = colours(scene.render(0), Box(*scene.box(0)))
    later = colours(scene.render(20), Box(*scene.box(20)))
    copy = colours(other_colours(scene.render(20)), Box(*scene.box(20)))
    assert first @ later > first @ copy + 0.2


def test_reference_is_a_mean_that_slowly_forgets(frame):
    a, b = colours(frame, BOX), colours(255 - frame // 2, BOX)
    reference = Reference(a, PATCH)
    for k, (logit, likeness) in enumerate(((3.0, 0.9), (5.0, 0.6), (1.0, 0.8))):
        reference = reference.after(found(logit, b, likeness))
        assert reference.colours @ reference.colours == pytest.approx(1) and reference.frames == k + 1
        assert reference.logit == pytest.approx(np.mean((3.0, 5.0, 1.0)[: k + 1]))
        assert reference.likeness == pytest.approx(np.mean((0.9, 0.6, 0.8)[: k + 1]))
        assert reference.patch == pytest.approx(0.9 ** (k + 1) * PATCH)
    for _ in range(200):
        reference = reference.after(found(-2.0, b, 0.5))
    assert reference.logit == pytest.approx(-2, abs=1e-6) and reference.colours @ b == pytest.approx(1, abs=1e-6)
    assert reference.likeness == pytest.approx(0.5, abs=1e-6)


def test_evidence_is_bounded_and_in_the_promised_order(frame):
    peaks = np.array([[50.0, 50.0, 40.0, 60.0, 30.0, 1.0, 0.7], [90.0, 50.0, 40.0, 60.0, 2.5, 1.0, 0.6]])
    known = Reference(colours(frame, BOX), PATCH, logit=6.0, likeness=0.9)
    seen = examine(peaks, 0, Refined(BOX, -9.0, PATCH), frame, BOX, 0.5, 0.3, known)
    assert seen.evidence == pytest.approx([8, 16, 0.7, -8, 0, 0.5, 2, 0.1])
    assert (seen.box, seen.rate, seen.logit) == (BOX, 0.3, 8) and seen.likeness == pytest.approx(1)
    three = np.concatenate([peaks, [[10.0, 10.0, 40.0, 60.0, 4.0, 1.0, 0.2]]])
    margins = [examine(three, k, Refined(BOX, 0.0, PATCH), frame, BOX, 0.0, 0.3, known).evidence[1] for k in (1, 2)]
    assert margins == pytest.approx([-16, -16])  # to the best of the others
    three[0, 4] = 1.0
    assert examine(three, 2, Refined(BOX, 0.0, PATCH), frame, BOX, 0.0, 0.3, known).evidence[1] == pytest.approx(1.5)
    new = Reference(colours(frame, BOX), PATCH)
    other = examine(peaks[1:], 0, Refined(Box(20, 30, 80, 90), 1.5, PATCH), frame, BOX, 9.0, 0.3, new)
    assert other.evidence == pytest.approx([2.5, 16, 0.6, 1.5, np.log(3) / 2, 2, 0, 0])
    huge = examine(peaks[1:], 0, Refined(Box(0, 0, 160, 120), 1.5, PATCH), frame, BOX, 9.0, 0.3, new)
    assert huge.evidence[EVIDENCE.index("change")] == 1  # eight times the area: no more than e squared counts
