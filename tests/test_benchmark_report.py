"""The command and its report, from files to files; the page is opened in a browser where there is one."""

import argparse
import base64
import csv
import json
import math
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from test_benchmark_runner import make_sequence

from tracker.benchmark import command, report
from tracker.benchmark.report import first_loss
from tracker.benchmark.runner import run_all

pytest.importorskip("matplotlib")


def bench(*words):
    parser = argparse.ArgumentParser("bench")
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    for name in ("one", "two<b>"):
        make_sequence(root / "data", name, 45)
    (root / "data" / "one" / "attributes.txt").write_text("FM, OCC")
    words = [root / "data", "--trackers", "ncc,floor:=identity", "--out", root / "out", "--workers", 0]
    assert bench(*words) == 0
    return root / "out"


def test_the_numbers_agree_in_json_csv_and_page(done):
    document = json.loads((done / "report.json").read_text())
    ncc, floor = document["trackers"]
    assert (ncc["name"], floor["name"]) == ("ncc", "floor")
    assert ncc["success_auc"] == pytest.approx(1.0)  # the patch moves by whole pixels and nothing hides it
    assert 0 < floor["success_auc"] < 0.5
    assert floor["sequences"]["one"]["lost_at"] is not None
    assert document["about"]["rule"] == "inclusive"
    assert re.fullmatch("[0-9a-f]{16}", document["about"]["data fingerprint"])
    rows = list(csv.DictReader((done / "sequences.csv").open()))
    assert len(rows) == 4
    mean = np.mean([float(row["success_auc"]) for row in rows if row["tracker"] == "floor"])
    assert mean == pytest.approx(floor["success_auc"], abs=1e-6)
    page = (done / "report.html").read_text()
    assert f"<td>{floor['success_auc']:.3f}</td>" in page
    assert "<td>FM</td>" in page


def test_the_page_needs_no_network_and_escapes_names(done):
    page = (done / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "two&lt;b&gt;" in page
    assert "two<b>" not in page
    for kind, data in re.findall(r"data:image/(svg\+xml|jpeg);base64,([^\"]+)", page):
        raw = base64.b64decode(data)
        assert (
            raw.lstrip().startswith(b"<?xml")
            if kind == "svg+xml"
            else cv2.imdecode(np.frombuffer(raw, np.uint8), 1).size
        )


def test_plots_and_latex(done):
    for name in ("success", "precision", "normalised_precision", "speed"):
        assert cv2.imread(str(done / "plots" / f"{name}.png")).shape[0] > 300
        assert b"</svg>" in (done / "plots" / f"{name}.svg").read_bytes()
    lines = (done / "table.tex").read_text().splitlines()
    rows = [line for line in lines if line.startswith(("ncc", "floor", "Tracker"))]
    assert len(rows) == 3
    assert len({line.count("&") for line in rows}) == 1


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_shows_the_page_and_sorts_its_table(done, tmp_path):
    page = (done / "report.html").read_text()
    click = "<script>document.querySelectorAll('table.sort')[0].querySelectorAll('th')[1].click();"
    click += "document.querySelectorAll('table.sort')[0].querySelectorAll('th')[1].click();</script></body>"
    (tmp_path / "page.html").write_text(page.replace("</body>", click))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]
    command = ["chromium", *flags, "--dump-dom", str(tmp_path / "page.html")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    first = shown.split("<tbody>")[1].split("</tbody>")[0]
    assert first.index("floor") < first.index("ncc")  # the second click sorts upwards: the page itself has ncc first


@pytest.mark.parametrize("protocol", ["tre", "sre", "realtime", "anchors"])
def test_every_protocol_runs_and_scores(tmp_path, protocol):
    sequence = make_sequence(tmp_path / "data", "one", 45)
    out = tmp_path / "out"
    run_all(["ncc", "identity"], [sequence], protocol, out, workers=0, quiet=True)
    count = {"tre": 20, "sre": 12, "anchors": 2}.get(protocol, 1)
    assert len(list((out / "results" / protocol / "ncc").iterdir())) == count
    ncc, floor = (
        report.score_tracker(spec, report.load_runs(out, protocol, spec, [sequence]), protocol, "inclusive")
        for spec in ("ncc", "identity")
    )
    assert ncc.success_auc > floor.success_auc
    if protocol == "anchors":
        assert (ncc.vot["failures"], floor.vot["failures"]) == (0, 2)
        assert ncc.vot["eao"] > floor.vot["eao"]


def test_a_vot_report_has_its_own_columns(tmp_path):
    make_sequence(tmp_path / "data", "one", 45)
    words = [tmp_path / "data", "--trackers", "ncc,identity", "--protocol", "supervised", "--workers", 0]
    assert bench(*words, "--out", tmp_path / "out") == 0
    ncc, floor = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert (ncc["vot"]["failures"], ncc["vot"]["accuracy"]) == (0, pytest.approx(1))
    assert floor["vot"]["failures"] == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>EAO</th>" in page
    assert "success AUC</th>" not in page.split("<h2>")[0]


def test_bad_input_is_one_line_and_code_two(tmp_path, capsys):
    make_sequence(tmp_path / "data", "one", 6)
    data, out = tmp_path / "data", tmp_path / "out"
    cases = {
        (tmp_path / "nothing",): "no such folder",
        (data, "--trackers", "fear"): "expected =FOLDER",
        (data, "--trackers", ","): "names no tracker",
        (data, "--trackers", "no.such.module:Thing"): "No module named",
        (data, "--trackers", "ncc,ncc"): "two trackers are called ncc",
        (data, "--trackers", "ncc", "--sequences", "three"): "no sequence three",
        (data, "--trackers", "ncc", "--timeout", "0"): "--timeout",
    }
    for words, message in cases.items():
        assert bench(*words, "--out", out, "--workers", 0) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_check_lists_and_returns_one(tmp_path, capsys):
    make_sequence(tmp_path / "data", "one", 6)
    assert bench(tmp_path / "data", "--check") == 0
    (tmp_path / "data" / "one" / "img" / "0003.png").unlink()
    assert bench(tmp_path / "data", "--check") == 1
    assert "5 frames but 6 boxes" in capsys.readouterr().out


def test_a_failed_sequence_is_named_in_the_page(tmp_path):
    make_sequence(tmp_path / "data", "one", 20)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.txt").write_text("1,1,5,5\n" * 7)
    words = [tmp_path / "data", "--trackers", f"results={tmp_path / 'mine'}", "--workers", 0]
    assert bench(*words, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "7 boxes for 20 frames" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["trackers"][0]["success_auc"] == 0


def test_a_loss_is_ten_frames_in_a_row_or_the_end():
    ious = np.ones(40)
    ious[5:12] = 0
    assert first_loss(ious) is None
    ious[20:30] = 0.1
    assert first_loss(ious) == 20
    ious[3] = math.nan
    ious[20:] = 1
    ious[36:] = 0
    assert first_loss(ious) == 36


def test_got10k_measures_pool_frames_and_success_averages_sequences(done):
    document = json.loads((done / "report.json").read_text())
    floor = document["trackers"][1]
    assert floor["average_overlap"] == pytest.approx(
        np.mean([s["average_overlap"] for s in floor["sequences"].values()])
    )
    assert set(report.COLOURS) and len(set(report.COLOURS)) == 10
