"""The synthetic scene: its truth agrees with its pixels, its frames are reproducible, and it is worth tracking."""

import cv2
import numpy as np
import pytest

import tracker.scene
from tracker.scene import Scene

SMALL = (160, 120)
SEEDS = range(8)  # together they hold every kind of outline and of coat


def bare(seed: int, **extra: object) -> Scene:
    """The target over the ground and nothing else."""
    return Scene(SMALL, 100, seed, **{"distractor": False, "occlusion": False, "light": False, "noise": 0.0, **extra})


@pytest.mark.parametrize("seed", SEEDS)
def test_box_agrees_with_the_supersampled_mask(seed: int) -> None:
    scene = bare(seed)
    zoom = 16
    for t in (0, 47):
        mask = scene.mask(t, zoom) >= 0.5
        columns, rows = np.flatnonzero(mask.any(0)) / zoom, np.flatnonzero(mask.any(1)) / zoom
        x, y, w, h = scene.box(t)
        measured = columns[0], rows[0], columns[-1] + 1 / zoom, rows[-1] + 1 / zoom
        np.testing.assert_allclose((x, y, x + w, y + h), measured, atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_is_the_area_of_the_outline(seed: int) -> None:
    scene = bare(seed)
    polygon = scene.outline(20).astype(np.float32)
    assert scene.mask(20).sum() == pytest.approx(cv2.contourArea(polygon), rel=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_change_where_the_box_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker.scene, "SHUTTER", 0.0)  # sharp edges
    scene = bare(seed)
    for t in (0, 60):
        with_target = scene.render(t).astype(int)
        bodies, scene._bodies = scene._bodies, []
        changed = np.abs(with_target - scene.render(t)).max(2)
        scene._bodies = bodies
        x, y, w, h = scene.box(t)
        # The shadow falls to the lower right, so only the left and the top edge stand alone.
        assert np.flatnonzero((changed > 8).any(0))[0] == pytest.approx(x, abs=1.5)
        assert np.flatnonzero((changed > 8).any(1))[0] == pytest.approx(y, abs=1.5)
        assert (changed[round(y) : round(y + h), round(x) : round(x + w)] > 8).mean() > 0.5


@pytest.mark.parametrize("motion", [(3.0, 0.0), (-2.3, 4.1), (0.0, -7.7)])
def test_motion_blur_does_not_move_anything(motion: tuple[float, float]) -> None:
    dot = np.zeros((41, 41), np.float32)
    dot[20, 20] = 1
    blurred = tracker.scene.smear(dot, *motion)
    rows, columns = np.mgrid[:41, :41]
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred * columns).sum() == pytest.approx(20, abs=1e-3)
    assert (blurred * rows).sum() == pytest.approx(20, abs=1e-3)
    assert blurred.max() < 0.5


def test_frames_depend_on_the_arguments_alone() -> None:
    one, two = Scene(SMALL, 40, 3), Scene(SMALL, 40, 3)
    forth = [one.render(t) for t in (5, 30, 12)]
    back = [two.render(t) for t in (12, 30, 5)][::-1]
    for a, b in zip(forth, back, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.box(12) == two.box(12)
    other = Scene(SMALL, 40, 4)
    assert other.box(12) != one.box(12)
    assert np.abs(other.render(12).astype(int) - forth[2]).mean() > 10


def test_frames_are_images_and_come_in_order() -> None:
    scene = Scene(SMALL, 5, 1)
    frames = list(scene)
    assert len(frames) == len(scene) == 5
    for t, frame in enumerate(frames):
        assert frame.shape == (120, 160, 3) and frame.dtype == np.uint8
        np.testing.assert_array_equal(frame, scene.render(t))


@pytest.mark.parametrize("seed", range(16))
def test_target_stays_in_the_frame_and_moves(seed: int) -> None:
    scene = Scene(SMALL, 240, seed)
    x, y, w, h = np.array([scene.box(t) for t in range(240)]).T
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= 160).all() and (y + h <= 120).all()
    speed = np.hypot(np.diff(x + w / 2), np.diff(y + h / 2))
    assert speed.max() > 2.5 * np.median(speed) or speed.max() > 5 * speed.min()
    assert (w * h).max() > 1.2 * (w * h).min()


@pytest.mark.parametrize("seed", SEEDS)
def test_ground_and_target_are_textured(seed: int) -> None:
    scene = bare(seed)
    grey = cv2.cvtColor(scene.render(10), cv2.COLOR_BGR2GRAY).astype(float)
    blocks = grey[:112].reshape(7, 16, 10, 16).std((1, 3))
    assert np.median(blocks) > 5
    assert grey[scene.mask(10) > 0.9].std() > 10


def test_seeds_give_many_looks() -> None:
    scenes = [bare(seed) for seed in range(40)]
    assert {scene._target.coat.kind for scene in scenes} == {"gores", "stripes", "spots", "rings"}
    outlines = np.array([scene._target.outline for scene in scenes])
    assert outlines.max() < tracker.scene.REACH
    np.testing.assert_allclose(outlines.mean(1), 1)
    aspects = [w / h for *_, w, h in (scene.box(0) for scene in scenes)]
    assert min(aspects) < 0.8 and max(aspects) > 1.25


@pytest.mark.parametrize("seed", SEEDS)
def test_pole_hides_part_of_the_target_for_a_short_time(seed: int) -> None:
    plain, crossed = bare(seed), bare(seed, occlusion=True)
    hidden = []
    for t in range(100):
        mask = plain.mask(t) > 0.9
        differs = np.abs(plain.render(t).astype(int) - crossed.render(t)).max(2) > 3
        hidden.append((differs & mask).sum() / mask.sum())
    assert 0.15 < max(hidden) < 0.85
    assert 3 <= sum(share > 0.1 for share in hidden) <= 40


def test_look_alike_is_another_thing_of_the_same_shape() -> None:
    alone, pair = bare(2), bare(2, distractor=True)
    assert alone.box(50) == pair.box(50)
    other, target = pair._bodies
    assert target is pair._target
    np.testing.assert_array_equal(other.outline, target.outline)
    assert other.coat.kind == target.coat.kind and other.coat.colours != target.coat.colours
    assert np.abs(alone.render(50).astype(int) - pair.render(50)).max() > 30


def test_light_and_noise_can_be_chosen() -> None:
    sums = [bare(1, light=True).render(t).mean() / bare(1).render(t).mean() for t in (0, 30, 60, 90)]
    assert max(sums) / min(sums) > 1.03
    difference = bare(1, noise=6.0).render(0).astype(float) - bare(1).render(0)
    assert difference.std() == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (320, 20)}, "at least 64 x 64, got 320 x 20"),
        ({"length": 0}, "at least 1 frame, got 0"),
        ({"noise": -1.0}, r"\[0, 100\) grey levels, got -1"),
        ({"noise": float("nan")}, "got nan"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene(**arguments)


@pytest.mark.parametrize("t", [-1, 5])
def test_a_frame_outside_the_scene_is_refused(t: int) -> None:
    scene = Scene(SMALL, 5)
    for give in (scene.box, scene.outline, scene.render, scene.mask):
        with pytest.raises(IndexError, match=rf"frame {t} is not in \[0, 5\)"):
            give(t)
