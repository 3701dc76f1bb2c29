import numpy as np
import pytest
import reference

from tracker.geometry import hann_window
from tracker.pyramid import cubic_weights, parabola, pyramid_peak


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scales", [1, 3, 5])
def test_pyramid_peak_equals_the_twin(seed, scales):
    rng = np.random.default_rng(seed)
    response = rng.normal(0, 1, (scales, 17, 17)).astype(np.float32)
    window = hann_window(272)
    window /= window.sum()
    index, weight = cubic_weights(17, 16)
    got = pyramid_peak(response, window, index, weight, 8.0, 16, 0.9745, 0.176)
    assert got == pytest.approx(reference.pyramid_peak(response, window, 8.0, 16, 0.9745, 0.176), rel=1e-6, abs=1e-6)


def test_cubic_weights_equal_the_twin_and_keep_constants():
    index, weight = cubic_weights(5, 4)
    matrix = np.zeros((20, 5))
    np.add.at(matrix, (np.repeat(np.arange(20), 4), index.ravel()), weight.ravel())
    assert np.allclose(matrix, reference.cubic_matrix(5, 4), atol=1e-12)
    assert np.allclose(matrix.sum(1), 1)


def test_a_symmetric_response_does_not_move():
    line = np.exp(-(np.linspace(-2, 2, 17) ** 2))
    response = np.outer(line, line)[None].astype(np.float32).repeat(3, 0)
    window = hann_window(272)
    index, weight = cubic_weights(17, 16)
    scale, dx, dy, _ = pyramid_peak(response, window / window.sum(), index, weight, 8.0, 16, 0.9745, 0.176)
    assert scale == 1  # the current scale wins a tie
    assert (dx, dy) == pytest.approx((0, 0), abs=1e-6)


def test_a_negative_peak_never_gains_by_the_scale_penalty():
    response = np.full((3, 5, 5), -2.0, np.float32)
    index, weight = cubic_weights(5, 4)
    assert pyramid_peak(response, np.ones((20, 20)) / 400, index, weight, 8.0, 4, 0.9, 0.1)[0] == 1


@pytest.mark.parametrize("top", [-0.4, 0.0, 0.3])
def test_parabola_finds_its_top(top):
    before, peak, after = (-((x - top) ** 2) for x in (-1, 0, 1))
    assert parabola(before, peak, after) == pytest.approx(top)


def test_a_flat_peak_stays_in_the_middle():
    assert parabola(1.0, 1.0, 1.0) == 0
