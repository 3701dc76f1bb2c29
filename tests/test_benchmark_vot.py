"""VOT and long-term measures: derived by hand, and against the package vot-toolkit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tracker.benchmark.judge import vot

NAN = float("nan")
SIZE = (640, 480)
HERE, AWAY = [0.0, 0, 10, 10], [500.0, 0, 10, 10]
HALF = [0.0, 0, 10, 5]  # overlap 0.5 with HERE


def test_overlaps_are_of_whole_pixels_inside_the_image():
    truth = [[0, 0, 10, 10], [635, 0, 10, 10], [0, 0, 10, 10], [NAN] * 4, [NAN] * 4, [0, 0, 10, 10]]
    predicted = [[0.4, -0.4, 10.3, 9.6], [630, 0, 20, 10], [20, 0, 10, 10], [NAN] * 4, [1, 1, 5, 5], [NAN] * 4]
    np.testing.assert_array_equal(vot.overlaps(predicted, truth, SIZE), [1, 0.5, 0, 1, 0, 0])


def test_supervised_by_hand():
    truth = [HERE] * 30
    boxes, states = [HERE] + [HALF] * 14 + [AWAY] + [[NAN] * 4] * 4 + [HERE] + [HERE] * 9, [0] * 30
    states[0] = states[20] = 1
    states[15] = 2
    states[16:20] = [3] * 4
    score = vot.supervised([boxes], [states], [truth], [SIZE], interval=(2, 4))
    # frames 10..14 are counted: burn-in is 0..9, the failure is 15, the second start burns 20..29
    assert score.accuracy == pytest.approx(0.5)
    assert (score.failures, score.robustness) == (1, 1.0)
    assert score.eao == pytest.approx((0.5 + 1.0) / 2)  # both fragments are longer than 4
    later = vot.supervised([boxes], [states], [truth], [SIZE], interval=(12, 200))
    # fragments of 15 (failed) and 10 frames: at 12 to 14 the failed one alone, no fragment is longer
    assert later.eao == pytest.approx(0.5)
    never = vot.supervised([boxes], [states], [truth], [SIZE], interval=(20, 21))
    assert never.eao == pytest.approx((14 * 0.5 / 20 + 14 * 0.5 / 21) / 2)  # the failed one goes on with zeros


def test_frames_are_pooled_by_tag():
    boxes = np.array([HERE] * 11 + [HALF] * 2 + [HERE] * 2 + [AWAY], float)
    states = np.array([1] + [0] * 14 + [2])
    hidden, moving = np.arange(16) < 12, np.isin(np.arange(16), (12, 15))  # 10, 11 of hidden are not burned in
    never = np.zeros(16, bool)
    films = [boxes, boxes], [states] * 2, [np.array([HERE] * 16)] * 2, [SIZE] * 2
    table = vot.by_tag(*films, [{"hidden": hidden, "moving": moving, "never": never}, {}])
    assert table["hidden"] == (2, pytest.approx(0.75), 0)
    assert table["moving"] == (1, pytest.approx(0.5), 1)
    assert table["no tag"] == (2, 1.0, 0)  # 13, 14; the sequence without tags is left out
    assert table["never"].frames == 0 and np.isnan(table["never"].overlap)


def test_supervised_weights_sequences_by_length():
    long, short = 30, 10
    boxes = [[HALF] * long, [HERE] * short]
    states = [[1] + [0] * (long - 1), [1] + [0] * (short - 1)]
    truths = [[HERE] * long, [HERE] * short]
    score = vot.supervised(boxes, states, truths, [SIZE] * 2, interval=(1, 2), burn_in=2)
    assert score.accuracy == pytest.approx((30 * 0.5 + 10 * 1) / 40)


def test_anchors_by_hand():
    truth = [HERE] * 40
    good, lost = [HERE] * 40, [HERE] * 11 + [AWAY] * 29
    score = vot.anchors([[good, lost]], [[truth, truth]], [SIZE], [40], interval=(5, 6))
    assert score.failures == 1
    assert score.robustness == pytest.approx((40 + 11) / 80)
    assert score.accuracy == pytest.approx((39 + 10) / (40 + 11))
    assert score.eao == pytest.approx(1.0)
    blink = [HERE] * 11 + [AWAY] * 9 + [HERE] * 20
    assert vot.anchors([[blink]], [[truth]], [SIZE], [40], interval=(5, 6)).failures == 0
    beyond = vot.anchors([[good]], [[truth]], [SIZE], [40], interval=(30, 50))
    assert beyond.eao == pytest.approx(10 / 20)  # lengths 30 to 39 of 30 to 49


def test_the_eao_interval_is_the_quartiles():
    assert vot.eao_interval([11, 21, 31, 41, 51]) == (20, 40)
    perfect = vot.supervised([[HERE] * 30], [[1] + [0] * 29], [[HERE] * 30], [SIZE], interval=(10, 200))
    assert perfect.eao == pytest.approx(1.0)


def test_long_term_by_hand():
    truth = [HERE, HERE, HERE, [NAN] * 4, [NAN] * 4, HERE]
    boxes = [HERE, HERE, HALF, AWAY, AWAY, [NAN] * 4]
    scores = [NAN, 0.9, 0.8, 0.1, 0.2, NAN]
    best = vot.long_term([boxes], [scores], [truth], [SIZE])
    # sure of frames 1 and 2: precision 1.5 / 2, recall 1.5 of 4 visible; a lower threshold only costs precision
    assert best.precision == pytest.approx(0.75)
    assert best.recall == pytest.approx(1.5 / 4)
    assert best.threshold == pytest.approx(0.8)
    assert best.f == pytest.approx(2 * 0.75 * 0.375 / 1.125)
    assert (best.precisions[0], best.recalls[0]) == (1, 0)  # sure of nothing


def test_long_term_rewards_a_score_that_knows_when_the_target_is_absent():
    truth = [HERE] * 10 + [[NAN] * 4] * 10
    boxes = [HERE] * 20
    knows, says_nothing = [0.9] * 10 + [0.1] * 10, [0.5] * 20
    assert (
        vot.long_term([boxes], [knows], [truth], [SIZE]).f > vot.long_term([boxes], [says_nothing], [truth], [SIZE]).f
    )


# --- the package vot-toolkit, in a process of its own ----------------------------------------------------------------

TOOLKIT = """
import json, sys, typing
plain = typing.dataclass_transform  # a package it needs takes this for a decorator without a call
typing.dataclass_transform = lambda *given, **named: given[0] if given else plain(**named)
from types import SimpleNamespace
import numpy as np
from vot.analysis import longterm, multistart, supervised
from vot.region import Special
from vot.region import raster
from vot.region.raster import calculate_overlaps
from vot.region.shapes import Rectangle

known = raster._infer_meta  # without its compiler, which would take longest, rounded numbers must be whole ones
def whole(region):
    data, offset, kind = known(region)
    return data.astype(int), offset, kind
raster._infer_meta = whole

def region(row):
    return Rectangle(*row) if None not in row else Special(0)
def regions(rows):
    return [region(row) for row in rows]

data = json.load(sys.stdin)
size, answers = tuple(data["size"]), {}
answers["overlaps"] = calculate_overlaps(regions(data["boxes"]), regions(data["truth"]), size)
kinds = [Special(code) if code else region(row) for row, code in zip(data["boxes"], data["states"])]
truth = SimpleNamespace(groundtruth=lambda: regions(data["truth"]), size=size)
answers["accuracy"] = supervised.compute_accuracy(kinds, truth)[0]
answers["curve"] = np.asarray(supervised.compute_eao_curve(*data["fragments"])).tolist()
answers["partial"] = multistart.compute_eao_partial(data["fragments"][0], data["fragments"][2], 30)
limits = longterm.determine_thresholds(data["scores"], 100)
first = [Special(1), *regions(data["boxes"])[1:]]
answers["long"] = [[str(limit) for limit in limits], *longterm.compute_tpr_curves(first, data["scores"], truth, limits)]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def made_up():
    """Boxes of 400 frames with misses, absent targets, borders, half pixels, failures; scores; fragments."""
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(0, 2, (400, 4)), axis=0) + np.array([60, 40, 0, 0])
    truth[:, 2:] = rng.uniform(1, 40, (400, 2))
    boxes = truth + rng.normal(0, 3, (400, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    boxes[::3] = np.round(truth[::3] * 2) / 2
    boxes[5::40] = NAN
    states = np.zeros(400, int)
    states[[0, 100, 300]] = 1
    states[[90, 290]] = 2
    absent = truth.copy()
    absent[7::30] = NAN
    scores = np.round(rng.random(400), 2)
    scores[0] = 0
    fragments = [rng.random(count) for count in (5, 8, 13, 21, 34)]
    return boxes, truth, absent, states, scores, fragments


@pytest.fixture(scope="module")
def toolkit(made_up):
    """What the package says of them."""
    boxes, truth, absent, states, scores, fragments = made_up

    def plain(rows):
        return [[None if np.isnan(v) else v for v in row] for row in np.asarray(rows).tolist()]

    ends = [[f.tolist() for f in fragments], [1.0] * len(fragments), [bool(len(f) % 2) for f in fragments]]
    answers = []
    for rows in (truth, absent):
        given = {"size": [120, 90], "boxes": plain(boxes), "truth": plain(rows), "states": states.tolist(),
                 "scores": scores.tolist(), "fragments": ends}  # fmt: skip
        done = subprocess.run([sys.executable, "-c", TOOLKIT], input=json.dumps(given), capture_output=True, text=True,
                              env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=False)  # fmt: skip
        if "No module named 'vot'" in done.stderr:
            pytest.skip("pip install vot-toolkit")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    return answers


def test_overlaps_equal_the_toolkit(made_up, toolkit):
    boxes, truth, absent, *_ = made_up
    for rows, theirs in zip((truth, absent), toolkit, strict=True):
        np.testing.assert_allclose(vot.overlaps(boxes, rows, (120, 90)), theirs["overlaps"], rtol=0, atol=1e-12)


def test_accuracy_equals_the_toolkit(made_up, toolkit):
    boxes, truth, _, states, *_ = made_up
    ours = boxes.copy()
    ours[states > 0] = NAN
    codes = np.where(
        (states == 0) & np.isnan(boxes[:, 0]), 3, states
    )  # a box that is missing is unknown to the toolkit
    score = vot.supervised([ours], [codes], [truth], [(120, 90)])
    assert score.accuracy == pytest.approx(toolkit[0]["accuracy"], abs=1e-9)


def test_eao_curves_equal_the_toolkit(made_up, toolkit):
    pairs = [(f, bool(len(f) % 2)) for f in made_up[-1]]
    sums, number = vot.eao_sums(pairs, 34, 0)
    np.testing.assert_allclose(sums[1:] / number[1:], toolkit[0]["curve"][1:], atol=1e-6)  # theirs is float32
    sums, number = vot.eao_sums(pairs, 30, 1)
    theirs, active = toolkit[0]["partial"]
    np.testing.assert_allclose(sums[1:] / number[1:], theirs[1:], atol=1e-9)
    np.testing.assert_array_equal(number[1:], active[1:])


def test_long_term_equals_the_toolkit(made_up, toolkit):
    boxes, truth, absent, _, scores, _ = made_up
    for rows, theirs in zip((truth, absent), toolkit, strict=True):
        limits, precision, recall = theirs["long"]
        ours = vot.long_term([boxes], [scores], [rows], [(120, 90)])
        np.testing.assert_array_equal(vot.confidence_thresholds(scores, 100), [float(limit) for limit in limits])
        np.testing.assert_allclose(ours.precisions, precision, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.recalls, recall, rtol=0, atol=1e-12)
