"""The command and its report, from files to files; the page is opened in a browser where there is one."""

import base64
import csv
import html
import importlib.util
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_benchmark_runner import make_sequence

from tracker.benchmark.judge import scores
from tracker.benchmark.judge.rules import RULES
from tracker.benchmark.judge.scores import losses
from tracker.benchmark.report import pictures
from tracker.benchmark.report.pictures import PICTURE as SHAPE
from tracker.benchmark.report.pictures import need_matplotlib, plain, render
from tracker.benchmark.report.tables import harmless
from tracker.benchmark.run.jobs import load_runs, result_path, run_all
from tracker.cli import main
from tracker.footage.files import inside

pytest.importorskip("matplotlib")


def bench(*words):
    return main(["bench", *map(str, words)])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    for name in ("one", "two<b>"):
        make_sequence(root / "data", name, 45)
    (root / "data" / "one" / "attributes.txt").write_text("FM, OCC")
    words = [root / "data", "--trackers", "ncc,floor:=identity", "--out", root / "out", "--workers", 0]
    assert bench(*words) == 0
    return root / "out"


class Still:
    """Says the first box for ever, as identity does, whose losses are not shown."""

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return self.box


@pytest.fixture(scope="module")
def lossy(done):
    """A report with strips of losses."""
    words = [done.parent / "data", "--trackers", "ncc,floor:=test_benchmark_report:Still", "--workers", 0]
    assert bench(*words, "--out", done.parent / "lossy") == 0
    return done.parent / "lossy"


def test_every_loss_has_its_strip_and_footage_can_be_left_out(lossy):
    page = (lossy / "report.html").read_text()
    document = json.loads((lossy / "report.json").read_text())
    floor = document["trackers"][1]
    assert sum(row["losses"] for row in floor["sequences"].values()) == 2
    strips = page.split('<div class="loss"')[1:]
    assert len(strips) == 2
    assert "All 2 places" in page
    for strip in strips:
        captions = re.findall("<figcaption>(.*?)</figcaption>", strip)
        lost = floor["sequences"]["one"]["lost_at"]
        assert captions == [f"frame {lost + at}{', lost' if at == 0 else ''}" for at in (-10, -3, 0, 5, 10, 20)]
        pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)
                    for jpeg in re.findall("data:image/jpeg;base64,([^\"]+)", strip)]  # fmt: skip
        assert {picture.shape[1::-1] for picture in pictures} == {SHAPE}
    words = [lossy.parent / "data", "--trackers", "ncc,floor:=test_benchmark_report:Still", "--workers", 0]
    for option, count in ((["--no-frames"], 0), (["--strips", "1"], 1)):
        assert bench(*words, "--out", lossy.parent / "bare", *option) == 0
        bare = (lossy.parent / "bare" / "report.html").read_text()
        assert bare.count('<div class="loss"') == count
        assert bare.count("data:image/jpeg") == 6 * count


def test_a_strip_shows_the_boxes_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "AROUND", 100)  # all of the 96 x 72 frame
    sequence = make_sequence(tmp_path / "data", "one", 45)
    out = tmp_path / "out"
    run_all(["identity"], [sequence], "ope", out, workers=0, quiet=True)
    runs = {"floor": load_runs(out, "ope", "identity", [sequence])}
    (loss,) = pictures.find_all(runs, [sequence], "ope")
    strip = pictures.draw_strip(loss, runs, {"floor": "#ff0000"})
    image = cv2.imdecode(np.frombuffer(strip.pictures[2][1], np.uint8), cv2.IMREAD_COLOR).astype(int)
    scale = pictures.PICTURE[0] / 96
    red = (image[:, :, 2] > 180) & (image[:, :, :2].max(axis=2) < 90)
    x0, y0, x1, y1 = np.round(np.array([20, 20, 38, 34]) * scale).astype(int)  # the first box
    for edge in (red[y0, x0:x1], red[y1, x0:x1], red[y0:y1, x0], red[y0:y1, x1]):
        assert edge.mean() > 0.8
    white = image.min(axis=2) > 200
    at = sequence.boxes[loss.frame] * scale
    assert white[round(at[1]) - 2 : round(at[1]) + 3, round(at[0]) : round(at[0] + at[2])].any(axis=0).mean() > 0.6


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
    low, high = floor["intervals"]["success_auc"]
    assert low <= floor["success_auc"] <= high
    assert f"<td>{floor['success_auc']:.3f}<small>[{low:.3f}, {high:.3f}]</small></td>" in page
    assert 'class="best"' not in page  # of two sequences nothing is certain
    trackers = list(csv.DictReader((done / "trackers.csv").open()))
    assert float(trackers[1]["success AUC"]) == pytest.approx(floor["success_auc"], abs=1e-6)
    assert float(trackers[0]["update ms p50"]) == pytest.approx(ncc["latency_ms"]["update"]["p50"], abs=1e-6)
    tables = (done / "tables.md").read_text()
    assert f"| ncc | {ncc['success_auc']:.3f} [1.000, 1.000] |" in tables
    assert f"- data fingerprint: `{document['about']['data fingerprint']}`" in tables
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
    drawn = (done / "plots" / "speed.svg").read_text()
    ticks = [float(label) for label in re.findall(r'<g id="xtick_\d+">.*?<!-- (.*?) -->', drawn, re.S)]
    assert len(ticks) > 1 and {f"{tick:e}"[0] for tick in ticks} <= {*"125"}  # milliseconds, not powers of ten
    lines = (done / "table.tex").read_text().splitlines()
    rows = [line for line in lines if line.startswith(("ncc", "floor", "Tracker"))]
    assert len(rows) == 3
    assert len({line.count("&") for line in rows}) == 1


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLICKS = """<script>
const heads = document.querySelectorAll("table.sort")[0].querySelectorAll("th"), found = {};
const rows = document.querySelectorAll("table.sort")[0].tBodies[0].rows;
const names = () => [...rows].map(row => row.cells[0].textContent);
heads[1].click(); found.down = names();
heads[1].click(); found.up = names();
heads[0].click(); found.word = names();
const pick = document.getElementById("sequence"), shown = () => [...document.querySelectorAll("[data-of=sequence]")]
  .filter(part => !part.hidden).map(part => part.dataset.is);
found.first = shown(); pick.value = "losses"; pick.dispatchEvent(new Event("change")); found.picked = shown();
const who = document.getElementById("who"), visible = () => [...document.querySelectorAll(".loss")]
  .filter(loss => !loss.hidden).length;
found.all = visible(); who.value = "floor"; who.dispatchEvent(new Event("change")); found.floor = visible();
found.broken = [...document.images].filter(image => !image.complete || !image.naturalWidth).length;
document.title = JSON.stringify(found);
</script></body>"""


def browse(page, folder, *flags):
    """Open a page in a headless browser without a network; returns its document."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        *flags,
    ]
    flags += [
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={folder / 'user'}",
    ]
    words = [BROWSER, *flags, "--proxy-server=127.0.0.1:9", "--virtual-time-budget=3000", "--dump-dom", str(page)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_a_browser_shows_the_page_sorts_its_tables_and_picks_losses(lossy, tmp_path):
    page = (lossy / "report.html").read_text()
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>onload = () => {{}}</script>{CLICKS}"))
    title = re.search("<title>(.*?)</title>", browse(tmp_path / "page.html", tmp_path), re.DOTALL)
    found = json.loads(html.unescape(title[1]))
    assert (found["down"], found["up"], found["word"]) == (["ncc", "floor"], ["floor", "ncc"], ["floor", "ncc"])
    assert (found["first"], found["picked"]) == (["success AUC"], ["losses"])
    assert found["all"] == found["floor"] == 2
    assert found["broken"] == 0


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_the_picture_of_the_page_is_not_blank(lossy, tmp_path):
    picture = tmp_path / "page.png"
    browse(lossy / "report.html", tmp_path, f"--screenshot={picture}", "--window-size=1300,2400")
    image = cv2.imread(str(picture))
    assert image.shape[:2] == (2400, 1300)
    bands = image.reshape(8, 300, 1300, 3).std(axis=(1, 2, 3))
    assert (bands[:6] > 5).all()  # tables and plots all the way down


@pytest.mark.parametrize("protocol", ["tre", "sre", "realtime", "anchors"])
def test_every_protocol_runs_and_scores(tmp_path, protocol):
    sequence = make_sequence(tmp_path / "data", "one", 45)
    out = tmp_path / "out"
    run_all(["ncc", "identity"], [sequence], protocol, out, workers=0, quiet=True)
    count = {"tre": 20, "sre": 12, "anchors": 2}.get(protocol, 1)
    assert len(list((out / "results" / protocol / "ncc").iterdir())) == count
    ncc, floor = (
        scores.score_tracker(load_runs(out, protocol, spec, [sequence]), protocol, RULES["inclusive"]).values
        for spec in ("ncc", "identity")
    )
    assert ncc["success_auc"] > floor["success_auc"]
    if protocol == "anchors":
        assert (ncc["vot_failures"], floor["vot_failures"]) == (0, 2)
        assert ncc["vot_eao"] > floor["vot_eao"]


def test_a_vot_report_has_its_own_columns(tmp_path):
    make_sequence(tmp_path / "data", "one", 45)
    folder = tmp_path / "data" / "one"
    (folder / "img").rename(folder / "color")
    (folder / "groundtruth_rect.txt").rename(folder / "groundtruth.txt")
    (folder / "occlusion.tag").write_text("0\n" * 20 + "1\n" * 25)
    words = [tmp_path / "data", "--data", "vot", "--trackers", "ncc,identity", "--protocol", "supervised"]
    assert bench(*words, "--workers", 0, "--out", tmp_path / "out") == 0
    ncc, floor = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert (ncc["vot_failures"], ncc["vot_accuracy"]) == (0, pytest.approx(1))
    assert floor["vot_failures"] == 2
    assert floor["vot_per_100"] == pytest.approx(100 * 2 / 45)
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">EAO</th>" in page
    assert ">success AUC</th>" not in page.split("<h2>")[0]
    assert floor["vot_eao"] < 0.5
    assert ncc["tags"] == {
        "no tag": {"frames": 10, "overlap": 1, "failures": 0}, "occlusion": {"frames": 25, "overlap": 1, "failures": 0}
    }  # fmt: skip
    assert sum(tagged["failures"] for tagged in floor["tags"].values()) == 2
    assert "| occlusion | 25 | 1.000, 0 |" in (tmp_path / "out" / "tables.md").read_text()
    assert "<td>occlusion</td><td>25</td><td>1.000, 0</td>" in page


def test_bad_input_is_one_line_and_code_two(tmp_path, capsys):
    make_sequence(tmp_path / "data", "one", 6)
    data, out = tmp_path / "data", tmp_path / "out"
    cases = {
        (tmp_path / "nothing",): "no such folder",
        (data, "--trackers", "fear"): "expected =FOLDER",
        (data, "--trackers", ","): "names no tracker",
        (data, "--trackers", "no.such.module:Thing"): "No module named",
        (data, "--trackers", "ncc,ncc"): "two trackers are called ncc",
        (data, "--trackers", "ncc", "--sequences", "three"): "three: no such sequence",
        (data, "--trackers", "ncc", "--against", "swift"): "no such tracker in this run; there are ncc",
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
    assert bench(*words, "--out", tmp_path / "out") == 1  # what was asked for is not there
    page = (tmp_path / "out" / "report.html").read_text()
    assert "7 boxes for 20 frames" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["trackers"][0]["success_auc"] == 0


def test_a_loss_is_ten_frames_in_a_row_or_the_end():
    ious = np.ones(40)
    ious[5:12] = 0
    assert losses(ious) == []
    ious[20:30] = 0.1
    assert losses(ious) == [20]
    ious[3] = math.nan
    ious[20:] = 1
    ious[36:] = 0
    assert losses(ious) == [36]
    ious[12:25] = 0  # with 5 to 11
    assert losses(ious) == [5, 36]


def test_got10k_measures_pool_frames_and_success_averages_sequences(done):
    document = json.loads((done / "report.json").read_text())
    floor = document["trackers"][1]
    assert floor["average_overlap"] == pytest.approx(
        np.mean([s["average_overlap"] for s in floor["sequences"].values()])
    )
    assert len(set(pictures.COLOURS)) == len(pictures.COLOURS)


def test_the_numbers_of_a_report_go_into_the_documents(done, tmp_path, capsys):
    path = Path(__file__).parents[1] / "docs" / "update_results.py"
    spec = importlib.util.spec_from_file_location("update_results", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = tmp_path / "results.md"
    page.write_text(f"before\n{script.BEGIN}\nstale numbers\n{script.END}\nafter\n")
    for _ in range(2):  # again changes nothing
        assert script.main(["report", str(done), "--docs", str(tmp_path)]) == 0
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n")
        assert "stale numbers" not in text
        assert (done / "tables.md").read_text() in text
    for name in re.findall(r"\]\((bench/.*?)\)", text):
        assert cv2.imread(str(tmp_path / name)) is not None
    assert {p.suffix for p in (tmp_path / "bench").iterdir()} == {".png", ".svg", ".json", ".csv", ".tex"}
    page.write_text("no marks")
    assert script.main(["report", str(done), "--docs", str(tmp_path)]) == 2
    assert "marks" in capsys.readouterr().err
    assert page.read_text() == "no marks"
    for name in ("results.md", "lost.md"):
        real = (path.parent / name).read_text()
        assert real.count(script.BEGIN) == real.count(script.END) == 1


# --- names that are more than names


@pytest.mark.parametrize(
    ("cell", "written"),
    [("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("-cmd", "'-cmd"), ("+x", "'+x"), ("\tx", "'\tx"),
     ("-0.25", "-0.25"), ("swift", "swift"), ("", "")],
)  # fmt: skip
def test_a_spreadsheet_takes_no_name_for_a_formula(cell, written):
    assert harmless(cell) == written


@pytest.mark.parametrize("name", ["cost$_{5$", "$x", "_hidden", "a$b$c"])
def test_a_plot_shows_any_name_letter_by_letter(name):
    figure = need_matplotlib()()
    axis = figure.add_subplot()
    axis.plot([0, 1], label=plain(name))
    axis.set(title=plain(name))
    axis.legend()
    assert render(figure, "png")[:4] == b"\x89PNG"  # "$_{5$" alone is an error of the renderer
    (shown,) = axis.get_legend().get_texts()
    assert shown.get_text().replace("\\", "").strip("\u200b") == name


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", ".", ""])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of it"):
        inside(tmp_path, name)
    assert inside(tmp_path, "a/b..c") == tmp_path / "a/b..c"


@pytest.mark.parametrize("name", ["..", "../x", "/etc", ".hidden"])
def test_results_lie_in_out_whatever_a_tracker_is_called(tmp_path, name):
    path = result_path(tmp_path, "ope", name, name, "")
    assert path.resolve().is_relative_to((tmp_path / "results" / "ope").resolve())
    assert len(path.relative_to(tmp_path).parts) == 4
