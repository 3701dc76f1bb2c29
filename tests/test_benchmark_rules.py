"""The rules of the data sets, each by five frames that can be judged in the head, and by published numbers.

The raw results behind the published numbers belong to others: SIAMTRACK_EXTERNAL names a folder that holds them, and
without it those tests are skipped.
"""

import csv
import json
import lzma
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tracker.benchmark.judge import metrics, vot
from tracker.benchmark.judge.polygons import fill, overlaps
from tracker.benchmark.judge.rules import RULE_OF, RULES, judge, table
from tracker.benchmark.judge.scores import undo_start
from tracker.benchmark.peers.finished import ResultFiles, read_rows
from tracker.footage.layouts import OF_SEQUENCES

NAN = float("nan")
HERE = [10.0, 10, 20, 20]
AWAY = [90.0, 90, 20, 20]
OUT = [-3.0, 10, 20, 20]  # its corner lies left of the image: x is -2 counted from 1
GONE = [NAN] * 4


def read(predicted, truth, name, missing=None):
    """Success AUC, share within 20 px and normalised share under a rule."""
    rule = RULES[name]
    found = judge(predicted, truth, rule, missing)
    shares = metrics.precision_20(found.error), metrics.normalised_precision_20(found.normalised)
    return float(rule.success_curve(found.overlap).mean()), *shares


@pytest.mark.parametrize(
    ("name", "success", "precision"),
    [  # a perfect frame is 20/21 of a strict curve; four of five frames have a truth, three of them are right
        ("inclusive", 3 / 4, 3 / 4),  # the absent frame is left out
        ("strict", 3 / 4 * 20 / 21, 3 / 4),
        ("got10k", 3 / 4 * 20 / 21, 3 / 4),
        ("trackingnet", 3 / 4 * 20 / 21, 3 / 4),
        ("lasot", 3 / 5 * 20 / 21, 3 / 5),  # it stays in the denominator
        ("uavdt", 3 / 5 * 20 / 21, 3 / 5),
        ("otb", 3 / 5 * 20 / 21, 4 / 5),  # and is a hit in precision
        ("uav123", 3 / 5 * 20 / 21, 4 / 5),
    ],
)
def test_five_frames_of_which_one_is_absent(name, success, precision):
    truth, predicted = [HERE, HERE, GONE, HERE, HERE], [HERE, HERE, HERE, HERE, AWAY]
    assert read(predicted, truth, name) == (pytest.approx(success), precision, precision)


@pytest.mark.parametrize(
    ("name", "success", "precision"),
    [
        ("inclusive", 1, 1),
        ("strict", 20 / 21, 1),
        ("lasot", 20 / 21, 1),
        ("uavdt", 4 / 5 * 20 / 21, 4 / 5),
        ("otb", 4 / 5 * 20 / 21, 1),
        ("uav123", 4 / 5 * 20 / 21, 1),
    ],
)
def test_five_frames_of_which_one_truth_begins_outside_the_image(name, success, precision):
    boxes = [HERE, HERE, OUT, HERE, HERE]
    assert read(boxes, boxes, name) == (pytest.approx(success), precision, precision)
    edge = [HERE, HERE, [0.0, 0, 20, 20], HERE, HERE]  # 1, 1 in the files of OTB, which counts
    assert read(edge, edge, name)[1] == 1 and read(edge, edge, name)[0] >= 20 / 21 - 1e-9


@pytest.mark.parametrize(("name", "kept"), [("inclusive", 4), ("strict", 4), ("uavdt", 4), ("otb", 5), ("lasot", 5)])
def test_five_frames_of_which_one_has_no_box(name, kept):
    truth, predicted = [HERE] * 5, [HERE, HERE, [0.0, 0, 0, 0], HERE, HERE]
    perfect = 1 if name == "inclusive" else 20 / 21
    assert read(predicted, truth, name)[:2] == (pytest.approx(kept / 5 * perfect), kept / 5)
    dead = [HERE, HERE, GONE, GONE, GONE]  # what was not processed is never repeated
    assert read(dead, truth, name, np.arange(5) > 1)[1] == 2 / 5


@pytest.mark.parametrize("name", list(RULES))
def test_a_sequence_without_truth_is_not_judged(name):
    assert all(np.isnan(value) for value in read([HERE] * 5, [HERE] + [GONE] * 4, name))
    assert read([HERE], [HERE], name)[1] == 1  # one frame is all there is


def test_a_frame_on_a_threshold_falls_where_the_toolkit_of_otb_puts_it():
    """Matlab's 0:0.05:1 holds 0.6 as 1 - 8 * 0.05, which is below 12 * 0.05."""
    exact = 12 * 0.05
    assert RULES["otb"].success_curve([exact])[12] == 1
    assert RULES["strict"].success_curve([np.linspace(0, 1, 21)[12]])[12] == 0


def test_trackingnets_measures_by_hand():
    truth = np.array([HERE] * 5)
    predicted = truth + np.array([[7.0, 0, 0, 0], [0.4, 0.4, 0, 0], [0, 10, 0, 0], [0, 30, 0, 0], [200, 0, 0, 0]])
    # whole pixels: the first is given, the second is exact; overlaps 1, 1, 1/3, 0, 0; errors 0, 0, 10, 30, 200 px
    curve = np.array([[1, 1, t < 0.333, 0, 0] for t in np.arange(21) / 20]).mean(axis=1)
    curve[20] = 0
    success = (curve[1:] + curve[:-1]).sum() / 40
    hits = np.array([[1, 1, t >= 10, t >= 30, 0] for t in np.arange(21) * 2.5]).mean(axis=1)
    near = np.array([[1, 1, t >= 0.5, 0, 0] for t in np.arange(21) / 40]).mean(axis=1)
    areas = [(values[1:] + values[:-1]).sum() / 40 for values in (hits, near)]
    assert metrics.trackingnet(predicted, truth) == pytest.approx((success, *areas))


def test_sre_takes_the_scale_of_its_start_off():
    boxes = np.array([[10.0, 20, 16, 32], [11, 21, 16, 32]])
    np.testing.assert_allclose(undo_start(boxes, "scale-0.8", whole=False), [[8, 16, 20, 40], [9, 17, 20, 40]])
    np.testing.assert_array_equal(undo_start(boxes, "left", whole=False), boxes)
    np.testing.assert_array_equal(undo_start(boxes, "left", whole=True), boxes)  # the toolkit rounds, and back
    np.testing.assert_array_equal(undo_start(boxes + 0.3, "top", whole=True), boxes)


def test_a_tilted_square_is_filled_as_the_toolkit_fills_it():
    corners = np.array([[3.0, 0], [6, 3], [3, 6], [0, 3]])
    assert fill(corners, 7, 7).sum(axis=1).tolist() == [1, 3, 5, 7, 5, 3, 1]
    upright = np.array([[1.0, 1], [4, 1], [4, 3], [1, 3]])
    assert fill(upright, 6, 5).sum() == 4 * 3  # both ends belong to it


def test_polygons_and_boxes_overlap_by_pixels_inside_the_image():
    square = [[2.0, 2], [5, 2], [5, 5], [2, 5]]  # 16 pixels
    box = [2.0, 2, 4, 2]  # 8 of them
    assert overlaps([box], [square], (20, 20)) == pytest.approx([0.5])
    assert overlaps([box], [square], (20, 4)) == pytest.approx([1.0])  # the image ends below row 3
    assert overlaps([GONE], [square], (20, 20)) == [0.0]
    assert overlaps([GONE], [[[NAN, NAN]] * 4], (20, 20)) == [1.0]
    with pytest.raises(ValueError, match="corners for 1 boxes"):
        overlaps([box], square, (20, 20))


def test_supervised_runs_are_judged_by_polygons():
    diamond = np.array([[[10.0, 0], [20, 10], [10, 20], [0, 10]]] * 5)
    boxes, states = np.array([[0.0, 0, 21, 21]] * 5), [1, 0, 0, 0, 0]
    share = 221 / 441  # pixels of the diamond in its upright box
    score = vot.supervised([boxes], [states], [diamond], [(50, 50)], interval=(1, 4), burn_in=1)
    assert (score.accuracy, score.eao, score.per_100) == (pytest.approx(share), pytest.approx(share), 0)
    upright = vot.supervised([boxes], [states], [boxes], [(50, 50)], interval=(1, 4), burn_in=1)
    assert upright.eao == 1


def test_a_tracker_that_never_starts_reads_nothing_and_stops_nobody():
    lost = np.full((30, 4), NAN), np.full(30, 3)
    score = vot.supervised([lost[0]], [lost[1]], [[HERE] * 30], [(100, 100)], interval=(5, 10))
    assert (score.accuracy, score.eao, score.failures) == (0, 0, 1)


def test_every_layout_has_a_rule_and_the_table_names_its_source():
    assert set(RULE_OF) <= set(OF_SEQUENCES)
    lines = table().splitlines()
    assert len(lines) == len(RULES) + 1
    for rule in RULES.values():
        assert any(line.startswith(rule.name) and rule.source in line for line in lines)


# --- published numbers, by the raw results of others -----------------------------------------------------------------

EXTERNAL = os.environ.get("SIAMTRACK_EXTERNAL", "")
external = pytest.mark.skipif(not EXTERNAL, reason="SIAMTRACK_EXTERNAL names no folder of public raw results")


def read_pairs(path, name):
    """Boxes of a tracker and truth by sequence, (N, 4) each, 0-based; null is absent."""
    with lzma.open(Path(EXTERNAL) / path) as file:
        content = json.load(file)
    for found in content.values():
        pair = [[GONE if row is None else row for row in found[key]] for key in (name, "truth")]
        yield [np.array(rows, float) - [1, 1, 0, 0] for rows in pair]


def means(pairs, rule):
    found = [judge(predicted, truth, rule) for predicted, truth in pairs]
    success = np.mean([rule.success_curve(one.overlap).mean() for one in found])
    return success, np.mean([metrics.precision_20(one.error) for one in found])


@external
def test_dtb70_and_uav123_to_the_digit():
    success, precision = means(read_pairs("dtb70/truth_and_nanotrackv3.json.xz", "NanoTrackV3"), RULES["otb"])
    assert (round(success, 4), round(precision, 4)) == (0.6287, 0.8133)
    pairs = list(read_pairs("uav123/truth_and_arcf.json.xz", "ARCF"))
    curves = np.load(Path(EXTERNAL) / "uav123" / "official_matlab_curves.npz")
    for predicted, truth in pairs:
        predicted[0] = truth[0]
    success, precision = means(pairs, RULES["uav123"])
    assert success == pytest.approx(curves["overlap"][0].mean(), abs=1e-9)  # of the toolkit itself, in Matlab
    assert precision == pytest.approx(curves["error"][0][:, 20].mean(), abs=1e-9)


@external
def test_lasot_to_the_digit():
    folder = Path(EXTERNAL) / "lasot"
    with open(folder / "siamrpnpp_official_per_sequence.csv", encoding="utf-8") as file:
        official = {row["sequence"]: row for row in csv.DictReader(file)}
    for path in sorted(folder.glob("*.gt.txt")):
        name = path.name.removesuffix(".gt.txt")
        truth = np.loadtxt(path, delimiter=",")
        truth[np.loadtxt(folder / f"{name}.absent.txt") > 0] = NAN
        predicted = np.loadtxt(folder / f"{name}.siamrpnpp.txt", delimiter=",")
        predicted[0] = truth[0]
        ours = read(predicted, truth, "lasot")
        theirs = [float(official[name][key]) for key in ("auc", "precision20", "norm_precision_0.2")]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@external
def test_vot2019_to_the_digits_of_the_toolkit(tmp_path):
    """What vot-toolkit 0.9.0 says of the same files; sizes of the images are not in them, so only 0 bounds."""
    folder = Path(EXTERNAL) / "vot2019"
    with tarfile.open(folder / "nanotrackv3_baseline.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    (files,) = (ResultFiles(place.parent, False) for place in tmp_path.rglob("baseline"))
    with lzma.open(folder / "truth_polygons.json.xz") as file:
        truth = json.load(file)
    runs = {name: read_rows(files.path(name)) for name in truth}
    regions = [np.array(rows, float) for rows in truth.values()]
    regions = [rows if rows.shape[1] == 4 else rows.reshape(len(rows), -1, 2) for rows in regions]
    boxes, states = [run.boxes for run in runs.values()], [run.states for run in runs.values()]
    score = vot.supervised(boxes, states, regions, [(100_000, 100_000)] * len(truth), interval=(46, 291))
    assert (round(score.eao, 4), score.failures) == (0.2930, 77)
