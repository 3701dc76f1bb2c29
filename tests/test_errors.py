"""What people read when something cannot be done: one line that names it and what is allowed, and a code of its own."""

import pickle
import re
import sys
import warnings

import cv2
import numpy as np
import pytest

from siamtrack.__main__ import main
from tracker import Result, SiamtrackError, Similarity, Tracker, frames
from tracker.checkpoints import load_network
from tracker.cli import BAD_INPUT, INTERNAL, explained, reported
from tracker.detections import Crowd, from_corners, from_norfair, from_torchvision, from_ultralytics
from tracker.draw import draw_results
from tracker.dropins import to_boxmot
from tracker.errors import InputError
from tracker.footage.output import write_whole
from train.checkpoint import load_state
from train.store import Store

LINES = {  # a command line, in a folder with the files below -> what it says
    "track c.mp4": "one of the arguments --init --targets --select is required; all options: siamtrack track --help",
    "track c.mp4 --init 1,2,3": "'1,2,3' is not four numbers x,y,w,h",
    "track none.mp4 --init 1,2,3,4": "'none.mp4' does not exist; allowed: a video file or pipe, a folder or glob of",
    "track junk --init 1,2,3,4": "junk is not a video, or truncated beyond use",
    "track folder --init 1,2,3,4": "folder: a folder without images (.jpg, ",
    "track 99 --init 1,2,3,4": "camera 99 cannot be opened; is it plugged in",
    "track gopher://x --init 1,2,3,4": "gopher:// is not opened; allowed: ",
    "track c.mp4 --init 1,2,3,4 --stop 0": "start 0 and stop 0 must hold 0 <= start < stop",
    "track c.mp4 --init 1,2,3,4 --save a.avi": "a.avi: suffix .avi; allowed: .mp4, .webm",
    "track c.mp4 --init 1,2,3,4 --boxes no/a.csv": "no/a.csv: there is no folder no",
    "track c.mp4 --init 1,2,3,4 --boxes junk\0.csv": r"'junk\x00.csv' is no path",
    "track c.mp4 --init 1,2,3,4 --boxes /proc/a.csv": "/proc/a.csv: no files can be made in /proc",
    "track c.mp4 --targets junk": "junk: not a text file",
    "track c.mp4 --targets table.csv": "table.csv: no column x, y, w, h; a table of targets has the header x,y,w,h",
    "track c.mp4 --init 1,2,3,4 --camera-size 5": "'5' is not WIDTHxHEIGHT, as 1280x720",
    "replay none": "none: No such file or directory",
    "replay junk": "junk does not begin with the head of a flight log; `siamtrack track ... --record junk.siamlog`",
    "replay deep.json": "deep.json does not begin with the head of a flight log",
    "replay head.json": "head.json: the head says siamtrack: None; a flight log has a version there",
    "bench none": "none: no such folder",
    "bench table.csv": "the first line must name a column `clip`, it reads 'a b'",
    "demo --out junk": "junk: there is a file where a folder is wanted",
    "serve --port 99999": "port 99999 must be in 0 .. 65535",
    "serve --port 0 --host nowhere.invalid": "choose another --host",
    "serve --port 0 --folder junk": "junk is not a folder",
    "serve --port 0 --upload-mb -1": "--upload-mb must be 0 or more, got -1",
    "serve --port 0 --weights none c.mp4": "no weights 'none': neither a file nor one of siamfc, swift, swift-nano",
    "serve --port 0 --detector junk": "junk: not a graph that ONNX Runtime runs",
    "export swift --out junk": "junk is there already; --force overwrites it",
    "export none --out e": "no weights 'none': neither a file nor one of siamfc, swift, swift-nano",
    "train hello": "invalid choice: 'hello' (choose from ",
    "train prepare none --store s": "none: no such file or folder",
    "train inspect c.mp4": "c.mp4: no boxes.csv beside it (columns frame,x,y,w,h[,id], frames count from 0)",
    "train inspect folder --tiles 0 --sheet a.png": "'0' is not a whole number above 0",
    "train fit --config table.csv --store folder --out r": "table.csv: config: expected a mapping, got 'a,b 1,2'",
    "train fit --config junk --store folder --out r": "junk: not a text file",
    "train fit --config c --store folder --out r --minutes 0": "'0' is not a number of minutes above 0",
    "train --from swift --data none --out r --keep-share 1": "'1' is not a share: at least 0, below 1",
    "train average swift swift-nano --out a.safetensors": "these are swift, swift-nano",
    "train convert --fear junk --out a.safetensors": "junk: not an ONNX file",
    "train harvest c.mp4 --out h --teacher identity --detector json:none": "expected MODULE:FUNCTION; module 'json'",
    "train harvest c.mp4 --out h --teacher identity --detector json:codecs": "expected MODULE:FUNCTION; it is <module",
    "train harvest c.mp4 --out h --teacher identity --detector json:loads": "given a frame, it returns boxes x, y",
    "similarity compare a.png": "give two images, or --gallery; got 1 image(s)",
    "similarity compare a.png none.png": "none.png: no such file; wanted: an image",
    "similarity compare a.png junk": "junk: not a readable image",
    "similarity compare a.png a.png --weights swift": "no weight file swift, and no shipped weights of that name",
    "similarity compare a.png --gallery junk": "junk: truncated, or no gallery of siamtrack",
    "similarity fit --config none --data folder --out r": "none: No such file or directory",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("errors")
    (folder / "junk").write_bytes(bytes(range(128, 256)) * 4)
    (folder / "table.csv").write_text("a,b\n1,2\n")
    (folder / "deep.json").write_text("[" * 100_000 + "\n")
    (folder / "head.json").write_text('{"siamlog": 1}\n')
    (folder / "folder").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "a.png"), image)
    video = cv2.VideoWriter(str(folder / "c.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (80, 60))
    for _ in range(12):
        video.write(image)
    video.release()
    return folder


@pytest.mark.parametrize("line", LINES)
def test_a_command_says_what_is_wrong_in_one_line(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = {path.name for path in folder.iterdir()}
    assert main(line.split(" ")) == BAD_INPUT
    said = [one for one in capsys.readouterr().err.splitlines() if one.startswith("siamtrack") and "loading" not in one]
    assert len(said) == 1 and "error: " in said[0] and LINES[line] in said[0], said
    assert {path.name for path in folder.iterdir()} - before <= {"h"}  # which harvest makes first


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu")


FRAME = np.zeros((60, 80, 3), np.uint8)
VALUES = {
    "frame None": (lambda t: t.init(None, (1, 2, 30, 40)), TypeError, "(H, W, 3) uint8 BGR; got NoneType"),
    "frame float": (lambda t: t.init(FRAME / 255, (1, 2, 30, 40)), TypeError, "must be uint8 in [0, 255]; got float64"),
    "frame shape": (lambda t: t.init(FRAME[None], (1, 2, 30, 40)), ValueError, "got shape (1, 60, 80, 3)"),
    "box text": (lambda t: t.init(FRAME, "1,2,3,4"), ValueError, "four finite numbers x, y, w, h; got '1,2,3,4'"),
    "box outside": (lambda t: t.init(FRAME, (99, 2, 3, 4)), ValueError, "lies wholly outside the 80x60 frame"),
    "target": (lambda t: t.update(FRAME, 5), TypeError, "a target is what init returns; got int"),
    "targets": (lambda t: t.update_all(FRAME, t.init(FRAME, (1, 2, 30, 40))), TypeError, "in a list; got Target"),
    "early": (lambda t: Tracker.load("swift").update(FRAME), RuntimeError, "call init(frame, box) first"),
    "weights": (lambda t: Tracker.load("none"), ValueError, "neither a file nor one of siamfc, swift, swift-nano"),
    "engine": (lambda t: Tracker.load("swift", engine="tpu"), ValueError, "no engine 'tpu'; there is auto, torch"),
    "device": (lambda t: Tracker.load("swift", device=5), ValueError, "no device 5 here; there is "),
    "threads": (lambda t: Tracker.load("swift", threads="2"), ValueError, "threads must be from 1 to 1024; got '2'"),
    "threads many": (lambda t: Tracker.load("swift", threads=10**6), ValueError, "from 1 to 1024; got 1000000"),
    "budget": (
        lambda t: Tracker.load("swift", budget_ms=float("inf")),
        ValueError,
        "above 0, and below 1e+06",
    ),
    "network": (lambda t: Tracker("swift"), TypeError, "Tracker.load takes a name or a file"),
    "source": (lambda t: frames(1.5), TypeError, "source is float; allowed: a video file or pipe"),
    "start": (lambda t: frames("a.mp4", 1.5), TypeError, "start 1.5 and stop None must be whole numbers"),
    "threshold": (lambda t: Similarity.load("drawings", float("nan")), ValueError, "must be a finite number; got nan"),
    "rate": (lambda t: Similarity.load("drawings", far=0.5), ValueError, "only for [0.1, 0.01"),
    "runs by": (lambda t: Similarity.load("drawings", engine="x"), ValueError, "there is auto, torch, onnxruntime"),
    "corners": (lambda t: from_corners([["a"] * 4]), TypeError, "are no numbers"),
    "nonsense": (
        lambda t: Crowd(t).update(FRAME, [5]),
        TypeError,
        "5 is no Detection; the functions",
    ),
    "ultralytics": (lambda t: from_ultralytics(5), TypeError, "5 has not all of names, boxes"),
    "torchvision": (lambda t: from_torchvision({}), TypeError, "no output of a torchvision detector: boxes, labels"),
    "norfair": (lambda t: from_norfair([5]), TypeError, "5 has not all of points, scores, label"),
    "ids": (lambda t: to_boxmot([Result((1, 2, 3, 4), 0.5)], [1, 2]), ValueError, "2 ids for 1 results"),
    "picture": (lambda t: draw_results(None, []), ValueError, "frame is NoneType; draw takes (H, W, 3) uint8 BGR"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_call_says_what_is_wrong_by_one_hierarchy(name, tracker):
    call, kind, said = VALUES[name]
    with pytest.raises(kind) as caught:
        call(tracker)
    assert isinstance(caught.value, SiamtrackError) and said in str(caught.value)


def test_paths_are_named_by_python_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weight file none"):
        load_network("none")
    with pytest.raises(FileExistsError, match="no file"):
        write_whole(tmp_path, b"a folder, a device: not replaced")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_whole(tmp_path / "no" / "a", b"")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("two\nlines"), BAD_INPUT, "error: two lines"),
        (ValueError("operands could not be broadcast"), INTERNAL, "internal error: ValueError: operands could not be"),
        (KeyError("x"), INTERNAL, "internal error: KeyError: 'x'; --debug shows where; please report it"),
        (OSError(28, "No space left on device", "a.csv"), BAD_INPUT, "error: a.csv: No space left on device"),
        (OSError(28, "No space left on device"), BAD_INPUT, "error: No space left on device; what was being written"),
        (OSError(5, "Input/output error"), INTERNAL, "internal error: OSError: [Errno 5] Input/output"),
        (NotADirectoryError(20, "Not a directory", "a/b"), BAD_INPUT, "a/b: there is a file where a folder is wanted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), INTERNAL, "error: not enough memory: Default"),
        (cv2.error("(-4:Insufficient memory) Failed"), INTERNAL, "error: not enough memory: "),
        (MemoryError("24 TB"), INTERNAL, "error: not enough memory: 24 TB; smaller frames or fewer targets help"),
    ],
    ids=lambda value: "",
)
def test_what_is_ours_is_told_from_what_was_given(error, code, said):
    assert explained(error)[0] == code and said in explained(error)[1]


def test_nobody_is_advised_to_run_the_code_in_a_file(tmp_path):
    """As the libraries do that refuse to."""
    (tmp_path / "last.pt").write_bytes(pickle.dumps(print))
    np.savez(tmp_path / "index.npz", names=np.array([print], object))
    (tmp_path / "pixels.bin").touch()
    for act in (lambda: load_state(tmp_path), lambda: load_network(tmp_path / "last.pt"), lambda: Store(tmp_path)):
        with warnings.catch_warnings(action="error"), pytest.raises(SiamtrackError) as caught:
            act()
        assert "is damaged" in str(caught.value) or "foreign" in str(caught.value)
        assert not {"weights_only", "allow_pickle", "trust"} & set(re.findall(r"\w+", str(caught.value)))


@pytest.mark.parametrize("words", [["train", "--debug", "inspect", "none"], ["--debug", "train", "inspect", "none"]])
def test_debug_shows_where_in_training_too(words, capsys):
    assert main(words) == BAD_INPUT
    err = capsys.readouterr().err
    assert "Traceback" in err and "DataError: none: no such file" in err
    assert err.endswith("siamtrack train: error: none: no such file or folder\n")


def test_stopped_it_has_a_code_of_its_own(capsys):
    def run(words):
        raise KeyboardInterrupt

    assert reported("siamtrack", [], run) == 130 and capsys.readouterr().err == "siamtrack: interrupted\n"
    assert sys.exc_info() == (None, None, None)
