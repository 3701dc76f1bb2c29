import tracemalloc

import numpy as np
import pytest
import reference

from tracker.crop import crop, mean_colour
from tracker.geometry import CropWindow

FILL = (10.0, 20.0, 30.0)


@pytest.mark.parametrize(
    "window",
    [CropWindow(40.3, 31.7, 30.0, 30.0, 24), CropWindow(-11.2, 200.4, 61.0, 61.0, 32),
     CropWindow(100.0, 50.0, 32.0, 32.0, 32), CropWindow(20.6, 10.1, 150.0, 150.0, 40),
     CropWindow(-60.0, -40.0, 420.0, 420.0, 30), CropWindow(300.0, 220.0, 90.0, 90.0, 31),
     CropWindow(-210.7, -190.2, 640.0, 640.0, 24), CropWindow(70.2, 51.8, 30.0, 85.0, 24),
     CropWindow(-20.6, 60.1, 200.0, 31.0, 30)],
)  # fmt: skip
def test_equals_the_twin(photo, window):
    expected = reference.crop(photo, window, FILL)
    # rounding of block means and of the result, and 1/32 px steps of cv2's bilinear weights
    assert np.abs(crop(photo, window, FILL) - expected).max() <= 6
    assert abs((crop(photo, window, FILL) - expected).mean()) < 0.2


def test_a_window_of_whole_pixels_is_a_copy(photo):
    assert np.array_equal(crop(photo, CropWindow(17, 23, 64, 64, 64), FILL), photo[23:87, 17:81])


def test_outside_the_frame_is_fill(photo):
    out = crop(photo, CropWindow(-500, -500, 100, 100, 20), FILL)
    assert (out == np.array(FILL)).all()


def test_mirroring_the_frame_mirrors_the_crop(photo):
    for side in (50.0, 200.0):
        window = CropWindow.around((150.25, 110.5), side, side, 33)
        mirrored = CropWindow.around((320 - 150.25, 110.5), side, side, 33)
        a = crop(photo, window, FILL)[:, ::-1].astype(int)
        b = crop(np.ascontiguousarray(photo[:, ::-1]), mirrored, FILL).astype(int)
        assert np.abs(a - b).max() <= (2 if side == 50 else 12)  # blocks of a shrunk crop begin at another pixel
        assert abs((a - b).mean()) < 0.1


def test_moving_frame_and_window_by_whole_pixels_changes_nothing(photo):
    window = CropWindow(60.3, 40.8, 70.0, 70.0, 30)
    moved = np.roll(photo, (7, 11), (0, 1))
    assert np.array_equal(crop(photo, window, FILL), crop(moved, CropWindow(71.3, 47.8, 70.0, 70.0, 30), FILL))


def test_a_big_target_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    out = crop(stripes, CropWindow(0, 0, 512, 512, 64), FILL)
    assert np.abs(out[2:-2, 2:-2].astype(int) - 127).max() <= 1


def test_a_window_far_wider_than_the_frame_needs_no_more_memory_than_a_few_frames(photo):
    tracemalloc.start()
    out = crop(photo, CropWindow.around((160, 120), 32_000, 32_000, 256), FILL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (out != np.array(FILL)).any()
    assert peak < 20 * photo.nbytes  # the window has 13,000 times its pixels


def test_the_frame_is_not_mutated(photo):
    before = photo.copy()
    crop(photo, CropWindow(-20, -20, 400, 400, 50), FILL)
    assert np.array_equal(before, photo)


@pytest.mark.parametrize("w, h", [(60, 200), (130, 70), (200, 200)])  # blocks of 1 x 3, 2 x 1 and 3 x 3 px
def test_a_part_of_a_frame_and_one_that_nobody_may_write_to_are_cropped_alike(photo, w, h):
    part = photo[10:-10, 20:-5]
    still = part.copy()
    still.flags.writeable = False
    for window in (CropWindow(-9, -7, w, h, 60), CropWindow(3, 4, w, h, 60)):
        assert np.array_equal(crop(part, window, FILL), crop(still, window, FILL))


def test_mean_colour(photo):
    assert mean_colour(photo) == pytest.approx(photo.mean((0, 1)))
