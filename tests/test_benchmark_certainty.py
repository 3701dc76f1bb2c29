"""How sure a mean is: intervals, paired differences, and what a report says of them."""

import csv
import json

import numpy as np
import pytest
from test_benchmark_report import bench
from test_benchmark_runner import make_sequence

from tracker.benchmark.judge.certainty import difference, interval, mean_of, ratio_of, sentence
from tracker.benchmark.judge.scores import _class_balanced

NAN = float("nan")


def test_the_interval_is_that_of_a_plain_bootstrap():
    values = np.random.default_rng(3).random(40)
    low, high = interval(mean_of(values), 40)
    drawn = np.random.default_rng(9).choice(values, (20_000, 40)).mean(axis=1)  # other draws of the same sequences
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.004)
    assert (low, high) == interval(mean_of(values), 40)  # and always the same
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(40), rel=0.05)  # as theory has it


def test_a_pooled_measure_weighs_sequences_by_their_frames():
    pooled = ratio_of([10.0, 0.0], [10, 90])
    assert pooled(np.array([[1.0, 1], [2, 0]])).tolist() == [0.1, 1.0]


def test_sequences_without_a_value_are_left_out():
    assert mean_of([1.0, NAN, 0.5])(np.ones((1, 3)))[0] == 0.75
    assert np.isnan(mean_of([NAN, NAN])(np.ones((1, 2)))[0])
    assert all(np.isnan(interval(mean_of([NAN, NAN]), 2)))


def test_a_paired_difference_is_surer_than_two_intervals():
    hard = np.linspace(0.1, 0.9, 30)  # the sequences differ much, the trackers by a constant
    better, worse = mean_of(hard + 0.02), mean_of(hard)
    assert interval(better, 30).low < interval(worse, 30).high  # they overlap
    found = difference(better, worse, 30)
    assert found.value == pytest.approx(0.02) and found.interval.low == pytest.approx(0.02)
    assert (found.wins, found.losses, found.distinguishable) == (30, 0, True)
    assert (
        sentence("a", "b", "AUC", found)
        == "a: AUC 0.020 above b [+0.020, +0.020], 30 wins, 0 losses: better on 30 sequences"
    )


def test_noise_is_not_distinguishable_and_few_sequences_never_are():
    rng = np.random.default_rng(0)
    found = difference(mean_of(rng.random(12)), mean_of(rng.random(12)), 12)
    assert not found.distinguishable
    assert "not distinguishable on 12 sequences" in sentence("a", "b", "AUC", found)
    few = difference(mean_of([0.9] * 5), mean_of([0.1] * 5), 5)
    assert few.wins == 5 and not few.distinguishable
    assert "too few to tell on 5 sequences" in sentence("a", "b", "AUC", few)


def test_less_can_be_better():
    found = difference(mean_of([0.1] * 8), mean_of([0.3] * 8), 8, better=-1)
    assert (found.wins, found.losses) == (8, 0)
    assert sentence("a", "b", "R", found, better=-1).endswith("better on 8 sequences")


def test_the_class_balanced_mean_counts_classes_once():
    measure = _class_balanced([1.0, 1.0, 1.0, 0.0], np.array(["dog", "dog", "dog", "cat"]))
    assert measure(np.array([[1.0, 1, 1, 1], [0, 0, 0, 1]])).tolist() == [0.5, 0.0]
    assert np.isnan(_class_balanced([1.0, 0.5], np.array(["dog", ""]))(np.ones((1, 2)))[0])


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """A report over seven sequences, one of which is broken."""
    root = tmp_path_factory.mktemp("seven")
    for index in range(8):
        make_sequence(root / "data", f"s{index}", 30 + index)
    (root / "data" / "s7" / "groundtruth_rect.txt").unlink()
    words = [root / "data", "--trackers", "ncc,identity", "--workers", 0, "--no-frames"]
    assert bench(*words, "--out", root / "out", "--against", "identity") == 1  # s7 was asked for and is missing
    return root / "out"


def test_a_bad_sequence_is_named_and_the_rest_is_measured(seven):
    document = json.loads((seven / "report.json").read_text())
    assert document["about"]["sequences"] == 7
    assert len(document["left out"]) == 1 and "s7" in document["left out"][0]
    assert any("Left out: 1" in line for line in document["verdict"])


def test_the_report_begins_with_its_verdict(seven):
    page = (seven / "report.html").read_text()
    first, *_ = page.partition("<table")[0].split("<li>")[1:]
    assert first.startswith("ncc reads the best success AUC, 1.000") and "better than every other one here" in first
    assert (seven / "tables.md").read_text().startswith("- ncc reads the best success AUC")


def test_bold_is_what_is_distinguishable_and_every_table_says_how_sure(seven):
    page = (seven / "report.html").read_text()
    assert '<td class="best">1.000<small>[1.000, 1.000]</small></td>' in page
    tables = (seven / "tables.md").read_text()
    assert "| ncc | **1.000** [1.000, 1.000] |" in tables
    tex = (seven / "table.tex").read_text()
    assert r"\textbf{1.000} {\scriptsize [1.000, 1.000]}" in tex
    ncc, floor = csv.DictReader((seven / "trackers.csv").open())
    assert (ncc["held against"], ncc["wins"], ncc["losses of the comparison"]) == ("identity", "7", "0")
    assert float(ncc["difference low"]) > 0 and floor["difference"] == ""
    assert float(floor["success AUC low"]) < float(floor["success AUC"]) < float(floor["success AUC high"])


def test_a_busy_machine_is_said(seven, tmp_path):
    busy = tmp_path / "out"
    for path in (seven / "results").rglob("*.csv"):
        place = busy / path.relative_to(seven)
        place.parent.mkdir(parents=True, exist_ok=True)
        head, *rest = path.read_text().splitlines()
        about = {**json.loads(head.removeprefix("# ")), "load a core": 3.0 if "ncc" in str(path) else 0.4}
        place.write_text("\n".join([f"# {json.dumps(about)}", *rest]) + "\n")
    data = seven.parent / "data"
    words = [data, "--trackers", "ncc,identity", "--workers", 0, "--no-frames", "--out", busy]
    assert bench(*words) == 1
    page = (busy / "report.html").read_text()
    assert "Unreliable, more than one process wanted each core: ncc." in page
    ncc, floor = json.loads((busy / "report.json").read_text())["trackers"]
    shown = f"{ncc['latency_ms']['update']['p50']:.2f}?"
    assert f"<td>{shown}</td>" in page
    assert f"{floor['latency_ms']['update']['p50']:.2f}?" not in page
