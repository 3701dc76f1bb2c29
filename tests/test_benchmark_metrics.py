import itertools
import warnings

import cv2
import numpy as np
import pytest

from tracker.benchmark import results
from tracker.benchmark.judge import metrics
from tracker.benchmark.run.jobs import result_path, run_all
from tracker.footage.layouts import load_folder
from tracker.scene import Scene

NAN = float("nan")


@pytest.fixture(scope="module")
def real_results(tmp_path_factory):
    """What two trackers did on ten rendered sequences, read back from their result files: (predicted, truth) each."""
    root = tmp_path_factory.mktemp("real")
    for seed in range(10):
        scene, shown = Scene((160, 120), 130, seed=seed), range(0, 60 + 7 * seed, 5)  # in jumps, so that trackers fail
        folder = root / "data" / f"scene-{seed}"
        (folder / "img").mkdir(parents=True)
        for t in shown:
            cv2.imwrite(str(folder / "img" / f"{t:04d}.jpg"), scene.render(t))
        boxes = np.array([scene.box(t) for t in shown]) + np.array([1, 1, 0, 0])
        np.savetxt(folder / "groundtruth_rect.txt", np.round(boxes, 3), delimiter=",", fmt="%.3f")
    sequences = load_folder(root / "data")
    assert run_all(["ncc", "identity"], sequences, "ope", root / "out", workers=0, quiet=True) == []
    return [
        (results.load(result_path(root / "out", "ope", tracker, sequence.name))[0].boxes, sequence.boxes)
        for tracker in ("ncc", "identity")
        for sequence in sequences
    ]


def made_up_results(count=12, seed=0):
    """The edges that few real results hold: exact hits, overlaps of exactly a half, jumps out of the image, misses."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        n = 40 + 7 * index
        truth = np.round(np.cumsum(rng.normal(0, 4, (n, 4)), axis=0) + np.array([120, 90, 60, 45]))
        truth[:, 2:] = np.maximum(np.abs(truth[:, 2:]), 8)
        predicted = np.round(truth + rng.normal(0, 0.3 + index, (n, 4)), 3)
        predicted[:, 2:] = np.maximum(predicted[:, 2:], 1)
        predicted[::9] = truth[::9]
        predicted[1::9] += [3000, 0, 0, 0]
        predicted[2::9, 0] = truth[2::9, 0] + truth[2::9, 2] / 2
        predicted[0] = truth[0]
        yield predicted, truth


def test_a_hand_made_overlap():
    truth = [[0, 0, 10, 10]] * 4
    predicted = [[0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [2, 2, 5, 5]]
    np.testing.assert_allclose(metrics.iou(predicted, truth), [1, 50 / 150, 0, 0.25], atol=1e-12)


def test_a_perfect_run_reads_one_in_ours_and_0952_in_the_strict_one():
    boxes = np.array([[0.1, 0.7, 33.3, 21.9], [17.3, 5.1, 0.3, 0.7]])
    ious = metrics.iou(boxes, boxes)
    assert metrics.success_auc(ious) == 1.0
    assert metrics.success_auc(ious, success="strict") == pytest.approx(20 / 21, abs=1e-12)


def test_a_run_that_never_overlaps_reads_zero_under_both_rules():
    assert metrics.success_auc(np.zeros(5)) == 0
    assert metrics.success_auc(np.zeros(5), success="strict") == 0


def test_the_rules_differ_only_at_equality():
    assert metrics.success_curve([0.5], "inclusive")[10] == 1
    assert metrics.success_curve([0.5], "strict")[10] == 0
    np.testing.assert_array_equal(metrics.success_curve([0.52], "inclusive"), metrics.success_curve([0.52], "strict"))


def test_absent_truth_is_left_out_and_a_nan_prediction_fails():
    truth = [[0, 0, 10, 10], [NAN, 0, 10, 10], [0, 0, 0, 0], [0, 0, 10, 10]]
    predicted = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [NAN, NAN, NAN, NAN]]
    ious, errors = metrics.iou(predicted, truth), metrics.center_error(predicted, truth)
    np.testing.assert_array_equal(ious, [1, NAN, NAN, 0])
    np.testing.assert_array_equal(errors, [0, NAN, NAN, np.inf])
    assert metrics.success_auc(ious) == 0.5
    assert metrics.precision_20(errors) == 0.5
    assert metrics.normalised_precision_20(metrics.normalised_center_error(predicted, truth)) == 0.5


def test_no_frame_to_judge_gives_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(metrics.success_auc([NAN, NAN]))
        assert np.isnan(metrics.precision_20([]))
        assert np.isnan(metrics.average_overlap([1.0]))


def test_precision_counts_exactly_20_px():
    truth = np.array([[0, 0, 10, 10]] * 3)
    predicted = truth + np.array([[20, 0, 0, 0], [20.001, 0, 0, 0], [12, 16, 0, 0]])
    assert metrics.precision_20(metrics.center_error(predicted, truth)) == pytest.approx(2 / 3)


def test_normalised_error_is_in_units_of_the_target():
    truth, predicted = [[0, 0, 10, 40]], [[1, 8, 10, 40]]
    np.testing.assert_allclose(metrics.normalised_center_error(predicted, truth), [np.hypot(0.1, 0.2)])
    assert metrics.normalised_precision_20([0.2, 0.21]) == 0.5
    assert metrics.normalised_precision_auc([0.0]) == 1.0
    assert metrics.normalised_precision_auc([0.5]) == pytest.approx(1 / 51)


def test_got10k_measures_leave_the_given_first_frame_out():
    ious = [1.0, 0.5, 0.76, 0.2]
    assert metrics.average_overlap(ious) == pytest.approx((0.5 + 0.76 + 0.2) / 3)
    assert metrics.success_rate_50(ious) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.iou(np.zeros((2, 4)), np.zeros((3, 4))), "2 predicted boxes for 3"),
        (lambda: metrics.iou(np.zeros((2, 3)), np.zeros((2, 4))), r"expected shape \(N, 4\)"),
        (lambda: metrics.success_curve([0.5], "otb"), "inclusive"),
        (lambda: metrics.success_curve([50.0]), r"\[0, 1\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equal_to_a_plain_second_derivation():
    """Frame by frame in Python floats, so that the measures are held even where the reference package is missing."""
    for predicted, truth in made_up_results(3):
        ious, errors = [], []
        for (ax, ay, aw, ah), (bx, by, bw, bh) in zip(predicted.tolist(), truth.tolist(), strict=True):
            across = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
            down = max(0.0, min(ay + ah, by + bh) - max(ay, by))
            ious.append(across * down / (aw * ah + bw * bh - across * down))
            errors.append(((ax + aw / 2 - bx - bw / 2) ** 2 + (ay + ah / 2 - by - bh / 2) ** 2) ** 0.5)
        np.testing.assert_allclose(metrics.iou(predicted, truth), ious, atol=1e-12)
        curve = [sum(v > t / 20 for v in ious) / len(ious) for t in range(21)]
        np.testing.assert_allclose(metrics.success_curve(ious, "strict"), curve, atol=1e-12)
        assert metrics.precision_20(errors) == sum(e <= 20 for e in errors) / len(errors)


def test_equal_to_the_got10k_toolkit(real_results):
    reference = pytest.importorskip("got10k.utils.metrics", reason="pip install got10k six")
    experiments = pytest.importorskip("got10k.experiments")
    otb = experiments.ExperimentOTB.__new__(experiments.ExperimentOTB)
    otb.nbins_iou, otb.nbins_ce = 21, 51
    got = experiments.ExperimentGOT10k.__new__(experiments.ExperimentGOT10k)
    assert len(real_results) == 20
    spread = [metrics.success_auc(metrics.iou(*pair)) for pair in real_results]
    assert min(spread) < 0.4 and max(spread) > 0.7  # neither all lost nor all followed
    for predicted, truth in itertools.chain(real_results, made_up_results()):
        ious, errors = metrics.iou(predicted, truth), metrics.center_error(predicted, truth)
        their_ious, their_errors = otb._calc_metrics(predicted, truth)
        np.testing.assert_allclose(ious, their_ious, rtol=0, atol=1e-12)
        np.testing.assert_allclose(errors, their_errors, rtol=0, atol=1e-9)
        success, precision = otb._calc_curves(their_ious, their_errors)
        np.testing.assert_allclose(metrics.success_curve(ious, "strict"), success, rtol=0, atol=1e-9)
        np.testing.assert_allclose(metrics.precision_curve(errors), precision, rtol=0, atol=1e-9)
        assert metrics.success_auc(ious, "strict") == pytest.approx(np.mean(success), abs=1e-9)

        clipped = reference.rect_iou(predicted[1:].copy(), truth[1:].copy(), bound=(200, 150))
        ours = metrics.iou(predicted, truth, bound=(0, 0, 200, 150))
        zero_based = np.array([1, 1, 0, 0])  # as read from its one-based files
        again = metrics.iou(predicted - zero_based, truth - zero_based, bound=(-1, -1, 199, 149))
        np.testing.assert_allclose(again, ours, rtol=0, atol=1e-9)
        seen = np.isfinite(ours[1:])  # truth wholly outside the image is still a frame for both
        assert seen.all()
        np.testing.assert_allclose(ours[1:], clipped, rtol=0, atol=1e-9)
        overlap, rate, _, _ = got._evaluate(clipped, np.ones(3))
        assert metrics.average_overlap(ours) == pytest.approx(overlap, abs=1e-9)
        assert metrics.success_rate_50(ours) == pytest.approx(rate, abs=1e-9)


def test_the_confidence_auc_is_the_chance_of_a_right_order():
    ious = [0.9, 0.8, 0.0, NAN, 0.3]
    assert metrics.confidence_auc([0.9, 0.8, 0.1, 0.2, 0.99], ious) == 1.0  # an overlap between is neither
    assert metrics.confidence_auc([0.1, 0.2, 0.8, 0.9, 0], ious) == 0.0
    assert metrics.confidence_auc([0.5] * 5, ious) == 0.5
    assert metrics.confidence_auc([0.9, 0.5, 0.5, 0.7, 0], ious) == pytest.approx((2 + 0.5) / 4)
    assert np.isnan(metrics.confidence_auc([NAN] * 5, ious))
    assert np.isnan(metrics.confidence_auc([0.5, 0.5], [1.0, 1.0]))
