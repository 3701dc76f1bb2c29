import numpy as np
import pytest
import reference

from tracker import kernels
from tracker.geometry import hann_window


@pytest.mark.parametrize("wide, high", [(1, 1), (1, 3), (3, 1), (2, 5), (4, 3), (9, 300)])
def test_block_mean_equals_the_twin_and_takes_parts_of_frames(wide, high):
    frame = np.random.default_rng(wide).integers(0, 256, (2 * high + 3, 5 * wide + 4, 3), dtype=np.uint8)
    for image in (frame[: 2 * high, : 5 * wide], frame[3:, 4:], np.full_like(frame[3:, 4:], 255)):
        means = kernels.block_mean(image.reshape(2 * high, -1), wide, high)
        assert np.abs(means - reference.block_mean(image, wide, high)).max() <= 0.5 + 1e-4  # rounded


def test_colour_shares_equal_the_twin():
    rng = np.random.default_rng(0)
    pixels, inside = rng.integers(0, 256, (12, 9, 3), dtype=np.uint8), rng.random((12, 9)) < 0.5
    assert np.allclose(kernels.colour_shares(pixels, inside), reference.colour_shares(pixels, inside), atol=1e-12)


def test_stretched_boxes_equal_the_twin():
    rng = np.random.default_rng(0)
    box_map, factors = rng.uniform(-5, 60, (3, 4, 5, 6)).astype(np.float32), rng.uniform(0.7, 1.4, (3, 2))
    expected = reference.stretched(box_map, factors.astype(np.float32))
    assert np.allclose(kernels.stretched(box_map, factors.astype(np.float32)), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_decode_peaks_equals_the_twin(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (14, 14)).astype(np.float32)
    box_map = rng.uniform(1, 60, (4, 14, 14)).astype(np.float32)
    args = hann_window(14), 0.5, 16.0, *rng.uniform(10, 90, 2), *rng.uniform(0, 0.5, 2)
    expected = reference.decode_peaks(logits, box_map, *args, 5)
    assert len(expected) > 1
    assert kernels.decode_peaks(logits, box_map, *args, 5) == pytest.approx(expected, rel=1e-9)
    assert kernels.decode_peaks(logits, box_map, *args, 1) == pytest.approx(expected[:1], rel=1e-9)


def test_decode_peaks_passes_over_cells_without_a_box():
    logits, box_map = np.zeros((3, 3), np.float32), np.full((4, 3, 3), np.nan, np.float32)
    box_map[:, 1, 2] = 5
    logits[0, 0] = 50
    peaks = kernels.decode_peaks(logits, box_map, np.ones((3, 3)), 0.0, 10.0, 10.0, 10.0, 0.1, 0.3, 5)
    assert peaks[:, :5].tolist() == [[20, 10, 10, 10, 0]]
