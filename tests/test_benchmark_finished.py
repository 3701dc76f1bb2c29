"""Runs that were finished elsewhere, official submissions, and what a clock makes of a run."""

import json
import zipfile

import numpy as np
import pytest
from test_benchmark_report import bench
from test_benchmark_runner import make_sequence

from tracker.benchmark.judge.rules import RULES
from tracker.benchmark.judge.scores import score_tracker
from tracker.benchmark.peers.finished import ResultFiles, read_rows
from tracker.benchmark.peers.peers import load_tracker
from tracker.benchmark.protocols import plan
from tracker.benchmark.results import CUT, FAILED, STARTED, Run, Runs
from tracker.benchmark.run.jobs import load_runs, run_all
from tracker.benchmark.run.runner import run_part
from tracker.footage.sequence import Sequence


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sequences of 12 frames whose image files hold nothing: who decodes one fails."""
    root = tmp_path_factory.mktemp("blind") / "data"
    sequences = []
    for name in ("Jogging-1", "Human4"):
        folder = root / name / "img"
        folder.mkdir(parents=True)
        for index in range(1, 13):
            (folder / f"{index:04d}.jpg").touch()
        boxes = np.array([[10.0 + t, 20, 30, 40] for t in range(12)])
        np.savetxt(root / name / "groundtruth_rect.txt", boxes + np.array([1, 1, 0, 0]), delimiter=",", fmt="%g")
        sequences.append(Sequence(name, tuple(sorted(folder.iterdir())), boxes))
    return root, sequences


def write_rows(path, boxes, form="%g"):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, boxes, delimiter=",", fmt=form)


def run_of(folder, sequence, protocol="ope", place=0):
    return run_part(load_tracker(f"results={folder}"), plan(protocol, sequence)[place], protocol)


@pytest.mark.parametrize(
    "name", ["Jogging-1.txt", "jogging.1.csv", "Jogging_1/Jogging_1_001.txt", "baseline/Jogging-1/Jogging-1_001.txt"]
)
def test_the_usual_names_are_found(tmp_path, data, name):
    _, (sequence, _) = data
    write_rows(tmp_path / name, sequence.boxes)
    (tmp_path / "._Jogging-1.txt").write_bytes(b"\x00\x05\x16\x07")  # what macOS leaves beside a file
    run = run_of(tmp_path, sequence)
    assert run.error == ""
    np.testing.assert_array_equal(run.boxes, sequence.boxes)


def test_human4_is_human4_2_and_what_all_names_end_with_is_the_tracker(tmp_path, data):
    _, (jogging, human) = data
    write_rows(tmp_path / "human4-2_MDNet.txt", human.boxes)
    write_rows(tmp_path / "jogging-1_MDNet.txt", jogging.boxes)
    files = ResultFiles(tmp_path, False)
    assert files.path("Human4").name == "human4-2_MDNet.txt"
    assert files.path("Jogging-1").name == "jogging-1_MDNet.txt"
    with pytest.raises(ValueError, match="no result file of Skating2-1"):
        files.path("Skating2-1")


def test_scores_times_polygons_and_matlab_files_are_read(tmp_path, data):
    scipy = pytest.importorskip("scipy.io")
    _, (sequence, _) = data
    scored = np.hstack([sequence.boxes, np.linspace(1, 0.5, 12)[:, None]])
    write_rows(tmp_path / "a" / "Jogging-1" / "Jogging-1_001.txt", scored)
    np.savetxt(tmp_path / "a" / "Jogging-1" / "Jogging-1_time.txt", np.full((12, 1), 0.02))
    run = run_of(tmp_path / "a", sequence)
    np.testing.assert_allclose(run.scores, scored[:, 4], atol=1e-5)
    np.testing.assert_allclose(run.milliseconds(), 20)
    x, y, w, h = sequence.boxes.T
    write_rows(tmp_path / "b" / "Jogging-1.txt", np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1))
    np.testing.assert_array_equal(run_of(tmp_path / "b", sequence).boxes, sequence.boxes)
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = {"res": sequence.boxes + np.array([1, 1, 0, 0]), "type": "rect", "len": 12}
    (tmp_path / "c").mkdir()
    scipy.savemat(tmp_path / "c" / "jogging-1_MDNet.mat", {"results": cell})
    scipy.savemat(tmp_path / "c" / "human4-2_MDNet.mat", {"results": {"res": sequence.boxes, "type": "affine"}})
    files = ResultFiles(tmp_path / "c", one_based=True)
    run = files.finished(plan("ope", sequence)[0], "ope")
    np.testing.assert_array_equal(run.boxes, sequence.boxes)
    with pytest.raises(ValueError, match="of type rect"):
        read_rows(tmp_path / "c" / "human4-2_MDNet.mat")


def score_of(run, sequence, rule="otb", protocol="ope"):
    return score_tracker(
        Runs("a", "a", {}, {sequence.name: [(plan(protocol, sequence)[0], run)]}, []), protocol, RULES[rule]
    )


@pytest.mark.parametrize(
    ("rows", "judged", "word"), [(11, 11, "the last frame is left out"), (13, 12, "the last was cut")]
)
def test_one_row_too_few_or_too_many_is_cut_with_a_word(tmp_path, data, rows, judged, word):
    _, (sequence, _) = data
    more = np.vstack([sequence.boxes, sequence.boxes[-1:]])
    write_rows(tmp_path / "Jogging-1.txt", more[:rows])
    run = run_of(tmp_path, sequence)
    assert run.error == "" and word in run.note
    assert (run.states != CUT).sum() == judged
    assert score_of(run, sequence).values["success_auc"] == pytest.approx(20 / 21)  # nothing is held against it
    write_rows(tmp_path / "Jogging-1.txt", more[:9])
    assert "9 boxes for 12 frames" in run_of(tmp_path, sequence).error


def test_files_of_the_vot_toolkit_are_supervised_runs(tmp_path, data):
    _, (sequence, _) = data
    lines = [",".join(f"{value:g}" for value in box) for box in sequence.boxes]
    lines[0], lines[4], lines[5:9], lines[9] = "1", "2", ["0"] * 4, "1"
    path = tmp_path / "baseline" / "Jogging-1" / "Jogging-1_001.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    run = run_of(tmp_path, sequence, "supervised")
    assert (run.states == STARTED).nonzero()[0].tolist() == [0, 9]
    assert (run.states == FAILED).nonzero()[0].tolist() == [4]
    assert "which only supervised can judge" in run_of(tmp_path, sequence).error
    write_rows(path, sequence.boxes)
    assert "one pass without restarts" in run_of(tmp_path, sequence, "supervised").error
    write_rows(path.with_name("Jogging-1_00000000.txt"), sequence.boxes)
    write_rows(path.with_name("Jogging-1_00000011.txt"), sequence.boxes[::-1])
    back = run_of(tmp_path, sequence, "anchors", 1)
    np.testing.assert_array_equal(back.boxes[1:], sequence.boxes[10::-1])


@pytest.mark.parametrize("protocol", ["tre", "sre", "realtime", "streaming"])
def test_files_cannot_answer_where_a_tracker_sees_other_frames(tmp_path, data, protocol, capsys):
    root, (sequence, _) = data
    write_rows(tmp_path / "mine" / "Jogging-1.txt", sequence.boxes)
    words = [root, "--trackers", f"results={tmp_path / 'mine'}", "--protocol", protocol, "--out", tmp_path / "out"]
    assert bench(*words, "--workers", 0) == 2
    assert f"result files cannot answer {protocol}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bench_judges_files_without_decoding_an_image(tmp_path, data, capsys):
    root, sequences = data
    for sequence in sequences:
        write_rows(tmp_path / "mine" / f"{sequence.name}.txt", sequence.boxes[:11])
        write_rows(tmp_path / "theirs" / f"{sequence.name}.txt", sequence.boxes + np.array([200, 0, 0, 0]))
    trackers = f"results={tmp_path / 'mine'},results={tmp_path / 'theirs'}"
    words = [root, "--trackers", trackers, "--rule", "otb", "--no-frames", "--out", tmp_path / "out"]
    assert bench(*words, "--workers", 0) == 0
    shown = capsys.readouterr().out
    assert "note: mine: Human4.txt: 11 boxes for 12 frames" in shown
    mine, theirs = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert (mine["success_auc"], theirs["precision_20"]) == (pytest.approx(20 / 21), 1 / 12)  # the first box is given


def test_a_wrong_folder_an_empty_one_and_half_of_one(tmp_path, data, capsys):
    root, sequences = data
    words = [root, "--no-frames", "--out", tmp_path / "out", "--workers", 0, "--trackers"]
    assert bench(*words, f"results={tmp_path / 'none'}") == 2
    assert "expected =FOLDER of an existing folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert bench(*words, f"results={tmp_path / 'empty'}") == 2
    assert "no result files in it" in capsys.readouterr().err
    write_rows(tmp_path / "half" / "Human4.txt", sequences[1].boxes)
    assert bench(*words, f"results={tmp_path / 'half'}") == 1
    shown = capsys.readouterr().out
    assert "failed: half on Jogging-1: no result file of Jogging-1" in shown
    (half,) = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert half["sequences"]["Human4"]["success_auc"] == 1


@pytest.mark.parametrize("kind", ["got10k", "trackingnet", "lasot", "otb"])
def test_submissions_are_read_back_as_they_were(tmp_path, kind):
    make_sequence(tmp_path / "data", "one", 12)
    words = [tmp_path / "data", "--trackers", "ncc", "--no-frames", "--workers", 0, "--out", tmp_path / "out"]
    assert bench(*words, "--export", kind, "--repeats", 2) == 0
    folder = tmp_path / "out" / "submissions" / kind
    (run,) = load_runs(tmp_path / "out", "ope", "ncc", [make_sequence(tmp_path / "again", "one", 12)]).by_sequence[
        "one"
    ]
    files = ResultFiles(folder / "ncc", one_based=True)
    again = files.finished(run[0], "ope")
    np.testing.assert_allclose(again.boxes, run[1].boxes, atol=1e-4)
    if kind in ("got10k", "trackingnet"):
        with zipfile.ZipFile(folder / "ncc.zip") as archive:
            names = archive.namelist()
            first = archive.read(names[0]).decode().splitlines()[0]
        assert ("one/one_time.txt" in names) == (kind == "got10k")
        assert len(names) == (3 if kind == "got10k" else 2)
        assert first == ",".join(
            f"{value:.4f}" for value in run[1].boxes[0] + np.array([1, 1, 0, 0])
        )  # as the data set counts


@pytest.mark.parametrize("protocol", ["supervised", "anchors", "longterm"])
def test_vot_submissions_are_read_back_and_judged_alike(tmp_path, protocol):
    make_sequence(tmp_path / "data", "one", 45)
    words = [tmp_path / "data", "--trackers", "identity", "--protocol", protocol, "--no-frames", "--workers", 0]
    assert bench(*words, "--export", "vot", "--out", tmp_path / "out") == 0
    files = tmp_path / "out" / "submissions" / "vot" / "identity"
    words[2] = f"results-onebased={files}"
    assert bench(*words, "--out", tmp_path / "again") == 0
    one, two = (json.loads((tmp_path / out / "report.json").read_text())["trackers"][0] for out in ("out", "again"))
    measures = [key for key in one if key.startswith(("vot_", "long_term_"))]
    assert measures
    assert {key: two[key] for key in measures} == pytest.approx({key: one[key] for key in measures}, nan_ok=True)


def test_an_export_that_does_not_fit_is_refused(tmp_path, data, capsys):
    root, _ = data
    words = [root, "--trackers", "ncc", "--export", "vot", "--out", tmp_path]
    assert bench(*words) == 2
    assert "--export vot holds runs of supervised or anchors or longterm, not of ope" in capsys.readouterr().err


class Clock:
    """Answers the number of the frame that it sees, in its x."""

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return (float(frame[0, 0, 0]), 5, 9, 9)


@pytest.mark.parametrize(
    ("protocol", "latency", "seen", "judged"),
    [  # ten frames a second, the start takes as long; the frame whose answer is judged at each of six frames
        ("realtime", 60, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ("streaming", 60, [0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4]),  # an answer comes after its frame
        ("realtime", 150, [0, 1, 3, 4], [0, 0, 1, 1, 3, 4]),
        ("streaming", 150, [0, 1, 3, 4], [0, 0, 0, 1, 1, 3]),
    ],
)
def test_five_frames_under_a_clock(protocol, latency, seen, judged):
    from dataclasses import replace

    class Numbers(Sequence):
        def image(self, index):
            return np.full((20, 20, 3), index, np.uint8)

    boxes = np.array([[0.0, 5, 9, 9]] * 6)
    sequence = Numbers("clock", tuple([None] * 6), boxes, fps=10.0)
    part = replace(plan(protocol, sequence)[0], latency=float(latency))
    run = run_part(Clock(), part, protocol)
    assert run.boxes[:, 0].tolist() == judged
    assert np.flatnonzero(np.isfinite(run.rows[:, 5])).tolist() == seen


def test_a_clock_shows_beside_what_is_without_one(tmp_path, capsys):
    make_sequence(tmp_path / "data", "one", 30)
    words = [tmp_path / "data", "--trackers", "ncc", "--no-frames", "--workers", 0, "--out", tmp_path / "out"]
    assert bench(*words) == 0
    assert bench(*words, "--protocol", "streaming", "--fps", 30, "--latency", "ncc=100") == 0
    assert "without a clock" in capsys.readouterr().out
    (ncc,) = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert ncc["offline_auc"] == 1.0 and ncc["success_auc"] < 1 and ncc["seen"] < 0.5
    for bad in ("0", "other=5", "soon"):
        assert bench(*words, "--protocol", "streaming", "--latency", bad) == 2
    assert bench(*words, "--latency", "5") == 2  # no clock there


def test_a_test_set_without_truth_reads_a_dash(tmp_path, capsys):
    sequence = make_sequence(tmp_path / "data", "one", 12)
    lines = (tmp_path / "data" / "one" / "groundtruth_rect.txt").read_text().splitlines()
    (tmp_path / "data" / "one" / "groundtruth_rect.txt").write_text("\n".join([lines[0], *["nan,nan,nan,nan"] * 11]))
    words = [tmp_path / "data", "--trackers", "ncc,identity", "--no-frames", "--workers", 0, "--out", tmp_path / "out"]
    assert bench(*words) == 0
    shown = capsys.readouterr().out
    assert "No success AUC: the data set publishes no truth" in shown
    row = next(line for line in shown.splitlines() if line.startswith("ncc "))
    assert row.split()[1] == "-" and "1.000" not in row
    assert len(sequence) == 12


class Broken:
    """Cannot start."""

    def init(self, frame, box):
        raise RuntimeError("no such device")

    def update(self, frame):
        raise AssertionError


@pytest.mark.parametrize("protocol", ["ope", "supervised", "anchors", "longterm"])
def test_a_tracker_that_never_starts_leaves_the_others_their_report(tmp_path, protocol):
    make_sequence(tmp_path / "data", "one", 30)
    words = [tmp_path / "data", "--trackers", "ncc,test_benchmark_finished:Broken", "--protocol", protocol]
    assert bench(*words, "--no-frames", "--workers", 0, "--out", tmp_path / "out") == 0
    ncc, broken = json.loads((tmp_path / "out" / "report.json").read_text())["trackers"]
    assert (ncc["name"], broken["name"]) == ("ncc", "Broken")
    assert "no such device" in broken["sequences"]["one"]["error"]


def test_repeats_are_runs_of_their_own(tmp_path):
    sequence = make_sequence(tmp_path / "data", "one", 12)
    run_all(["ncc"], [sequence], "ope", tmp_path / "out", workers=0, quiet=True, repeats=3)
    names = sorted(path.name for path in (tmp_path / "out" / "results" / "ope" / "ncc").iterdir())
    assert names == ["one.csv", "one@r2.csv", "one@r3.csv"]
    runs = load_runs(tmp_path / "out", "ope", "ncc", [sequence], 3)
    assert len(runs.by_sequence["one"]) == 3
    assert isinstance(runs.by_sequence["one"][2][1], Run)


def test_five_frames_of_which_two_have_no_target_read_as_oxuva_reads_them():
    here, gone = [10.0, 10, 20, 20], [float("nan")] * 4
    sequence = Sequence("five", tuple([None] * 5), np.array([here, here, gone, gone, here]))
    rows = np.full((5, 10), np.nan)
    rows[:, :4], rows[:, 4] = here, [1, 0.9, 0.2, 0.9, 0.2]  # says lost on the first frame without, and on the last
    rows[:, 9] = [STARTED, 0, 0, 0, 0]
    part = plan("longterm", sequence)[0]

    class Sized(Sequence):
        def size(self):
            return 100, 100

    from dataclasses import replace

    part = replace(part, sequence=Sized("five", sequence.frames, sequence.boxes))
    runs = Runs("a", "a", {}, {"five": [(part, Run(rows))]}, [])
    values = score_tracker(runs, "longterm", RULES["strict"]).values
    assert (values["tpr"], values["tnr"]) == (1 / 2, 1 / 2)
    assert values["max_gm"] == pytest.approx(0.5)
