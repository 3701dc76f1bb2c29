import numpy as np
import pytest

from tracker.geometry import Box, CropWindow, Grid, check_box, clip_box, context_side, hann_window, iou


def test_frame_to_crop_and_back_is_exact(rng):
    for _ in range(200):
        window = CropWindow(*rng.uniform(-300, 300, 2), *rng.uniform(3, 900, 2), int(rng.integers(16, 300)))
        box = (*rng.uniform(-100, 500, 2), *rng.uniform(1, 200, 2))
        assert np.allclose(window.to_frame(window.to_crop(box)), box, atol=1e-9)


def test_the_window_around_a_point_puts_it_in_the_middle():
    window = CropWindow.around((31.25, 17.5), 80.0, 40.0, 209)
    x, y, w, h = window.to_crop((30.25, 15.5, 2, 4))
    assert (x + w / 2, y + h / 2) == pytest.approx((104.5, 104.5))
    assert (w, h) == pytest.approx((2 * 209 / 80, 4 * 209 / 40))


def test_context_side_of_a_square_target_is_twice_its_side():
    assert context_side(40, 40, 0.5) == 80
    assert context_side(10, 90, 0.5) == pytest.approx(np.sqrt(60 * 140))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((0, 0, 4, 4), (0, 0, 4, 4), 1), ((0, 0, 4, 4), (2, 0, 4, 4), 1 / 3), ((0, 0, 4, 4), (4, 0, 4, 4), 0),
     ((0, 0, 4, 4), (1, 1, 2, 2), 1 / 4), ((0, 0, 0, 0), (0, 0, 0, 0), 0)],
)  # fmt: skip
def test_iou_by_hand(a, b, expected):
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)


def test_iou_of_nan_is_zero_and_of_rows_is_row_by_row():
    boxes = np.array([[0, 0, 2, 2], [np.nan] * 4, [1, 1, 2, 2]])
    assert iou(boxes, (0, 0, 2, 2)).tolist() == pytest.approx([1, 0, 1 / 7])


def test_clip_box():
    assert clip_box(Box(-5, 2, 10, 10), 100, 8) == (0, 2, 5, 6)
    assert clip_box(Box(200, 2, 10, 10), 100, 8).w == 0


@pytest.mark.parametrize(
    ("box", "message"),
    [((0, 0, 0, 5), "positive width"), ((0, 0, 5, -1), "positive width"), ((np.nan, 0, 5, 5), "finite"),
     ((0, 0, 5), "four finite"), ((100, 0, 5, 5), "wholly outside the 100x50"), ((0, -5, 5, 5), "wholly outside"),
     ((np.inf, 0, 5, 5), "finite"), ((0, 0, 1001, 5), "ten times as large as the 100x50"),
     ((0, 0, 1e308, 1e308), "ten times")],
)  # fmt: skip
def test_bad_boxes_are_named(box, message):
    with pytest.raises(ValueError, match=message):
        check_box(box, 100, 50)


def test_a_box_that_reaches_over_the_edge_is_allowed():
    assert check_box(np.array([-4, -4, 5, 5]), 100, 50) == (-4, -4, 5, 5)


def test_the_cells_of_a_grid():
    assert Grid(3, 16, 15.5).centres.tolist() == [15.5, 31.5, 47.5]


def test_hann_window_is_symmetric_with_peak_one():
    window = hann_window(15)
    assert window[7, 7] == 1 and window.min() > 0
    assert np.allclose(window, window[::-1]) and np.allclose(window, window.T)
    assert np.allclose(window[7], np.hanning(17)[1:-1])
