"""Networks as graphs: they say what PyTorch says, they are those of the shipped weights, and they run without it."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from packaging.requirements import Requirement

from tracker import Tracker
from tracker.checkpoints import load_network, save_network
from tracker.cli import main
from tracker.config import SWIFT
from tracker.errors import GraphError
from tracker.export import MOST_OFF, _compare, export
from tracker.fastest import WORTH, memory
from tracker.graphs import GRAPHS, KEY, can_run, digest, open_network
from tracker.loading import weight_file
from tracker.network import build_network
from tracker.scene import Scene

ROOT = Path(__file__).parents[1]
FOLDERS = {name: ROOT / "tracker" / "weights" / name for name in ("swift", "swift-nano")}
FRAMES = 8


@pytest.fixture(scope="module")
def scene():
    return Scene((320, 240), 30, seed=3)


def boxes(tracker, scene):
    tracker.init(scene.render(0), scene.box(0))
    return np.array([tracker.update(scene.render(t)).box for t in range(1, FRAMES)])


@pytest.mark.parametrize("name", FOLDERS)
def test_the_shipped_graphs_are_those_of_the_shipped_weights(name):
    opened = open_network(FOLDERS[name], 1)
    assert opened.weights == digest(weight_file(name)), "the weights are others by now: make graphs"
    net = load_network(weight_file(name))
    assert opened.config == net.config and opened.runner.grid == net.grid
    assert _compare(net, FOLDERS[name]) < MOST_OFF


def test_graphs_are_small_and_say_what_they_are():
    for name, folder in FOLDERS.items():
        size = sum(file.stat().st_size for file in folder.iterdir())
        assert size < 1.8 * weight_file(name).stat().st_size
        for file in folder.iterdir():
            said = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
            about = json.loads(said[KEY])
            assert about["licence"] and about["version"] and file.stem in GRAPHS
        about = json.loads({e.key: e.value for e in onnx.load(folder / "search.onnx").metadata_props}[KEY])
        assert (about["config"]["confidence"] is not None) == (name == "swift")


def test_an_export_tracks_as_its_weights_do(tmp_path, scene, capsys):
    weights = tmp_path / "mine.safetensors"
    save_network(load_network(weight_file("swift")), weights)
    assert main(["export", str(weights), "--out", str(tmp_path / "mine"), "--licence", "mine"]) == 0
    assert re.match(r"wrote .*mine: \d\.\d MB, off from PyTorch by at most \de-0[5-9]\n", capsys.readouterr().out)
    assert sorted(file.stem for file in (tmp_path / "mine").iterdir()) == sorted(GRAPHS)
    theirs = boxes(Tracker.load(weights, device="cpu", engine="torch"), scene)
    tracker = Tracker.load(tmp_path / "mine")
    assert tracker.engine.runner.engine == "onnxruntime"
    ours = boxes(tracker, scene)
    assert ours[:3] == pytest.approx(theirs[:3], abs=0.05) and np.abs(ours - theirs).max() < 3

    assert main(["export", str(weights), "--out", str(tmp_path / "mine")]) == 2
    assert "is there already; --force overwrites it" in capsys.readouterr().err
    (tmp_path / "mine" / "note.txt").write_text("of the user")
    (tmp_path / "mine" / "other.onnx").write_text("of the user")
    (tmp_path / "mine" / "search.onnx").write_text("old")
    assert export(weights, tmp_path / "mine", force=True).off < MOST_OFF
    others = [tmp_path / "mine" / name for name in ("note.txt", "other.onnx")]
    assert [file.read_text() for file in others] == ["of the user"] * 2 and not list(tmp_path.glob(".mine*"))
    assert boxes(Tracker.load(tmp_path / "mine"), scene) == pytest.approx(ours, abs=1e-4)
    with pytest.raises(ValueError, match=r"graphs run on the cpu by onnxruntime, openvino, openvino-bf16; got 'torch'"):
        Tracker.load(tmp_path / "mine", engine="torch")


def test_siamfc_runs_as_graphs_at_all_its_scales(tmp_path, scene):
    folder = export(weight_file("siamfc"), tmp_path / "siamfc").folder
    assert sorted(file.stem for file in folder.iterdir()) == ["exemplar", "search"]
    theirs = boxes(Tracker.load("siamfc", device="cpu", engine="torch"), scene)
    assert np.ptp(theirs[:, 2]) > 0.1  # a scale other than the middle one was chosen
    assert boxes(Tracker.load(folder), scene) == pytest.approx(theirs, abs=0.05)


def test_what_cannot_be_opened_is_named(tmp_path, capsys):
    assert main(["export", "swit", "--out", str(tmp_path / "out")]) == 2
    assert "no weights 'swit'" in capsys.readouterr().err
    save_network(build_network(SWIFT), tmp_path / "net.safetensors")
    folder = export(tmp_path / "net.safetensors", tmp_path / "net").folder
    whole = (folder / "look.onnx").read_bytes()
    (folder / "look.onnx").write_bytes(whole[:500])
    with pytest.raises(GraphError, match=r"look\.onnx: truncated or foreign graph"):
        Tracker.load(folder)
    model = onnx.load_from_string(whole)
    del model.metadata_props[:]
    onnx.save(model, folder / "look.onnx")
    with pytest.raises(GraphError, match=r"look\.onnx: a graph, but not one of siamtrack"):
        Tracker.load(folder)
    (folder / "exemplar.onnx").unlink()
    with pytest.raises(GraphError, match=r"no exemplar\.onnx; `siamtrack export` writes all graphs"):
        Tracker.load(folder)


def test_graphs_of_other_weights_are_not_taken(tmp_path, scene):
    weights = tmp_path / "net.safetensors"
    first = build_network(SWIFT)
    save_network(first, weights)
    export(weights, tmp_path / "net")
    assert Tracker.load(weights, device="cpu").engine.runner.grid == first.grid
    save_network(load_network(weight_file("swift")), weights)  # trained on
    tracker = Tracker.load(weights, device="cpu")
    assert tracker.config.confidence is not None
    shipped = boxes(Tracker.load("swift", device="cpu", engine="torch"), scene)
    assert boxes(tracker, scene)[:3] == pytest.approx(shipped[:3], abs=0.05)


def test_pytorch_runs_what_asks_for_it():
    assert can_run("cpu", "auto") and can_run("cpu", "onnxruntime")
    assert not can_run("cuda", "auto") and not can_run("cpu", "torch")
    tracker = Tracker.load("swift", device="cpu", engine="torch")
    assert tracker.engine.runner.engine == "torch"


# --- where there is no PyTorch

PROGRAM = """
import json, sys
from siamtrack import Tracker
from tracker.scene import Scene
scene = Scene((320, 240), 30, seed=3)
found = {}
for name in ("swift", "swift-nano"):
    tracker = Tracker.load(name)
    tracker.init(scene.render(0), scene.box(0))
    found[name] = [tracker.update(scene.render(t)).box for t in range(1, 8)]
    for t in range(20):
        tracker.update(scene.render(0) * 0 + 99)  # in doubt, and lost
    found[name + " state"] = tracker.target.state
found["torch"] = "torch" in sys.modules
try:
    import torch
except ImportError:
    found["missing"] = True
    try:
        Tracker.load("siamfc")
    except ImportError as error:
        found["siamfc"] = str(error)
print(json.dumps(found))
"""


def run(*command, **env):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    words = [sys.executable, *command, "-c", PROGRAM]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same(found, scene):
    for name in FOLDERS:
        theirs = boxes(Tracker.load(name, device="cpu", engine="torch"), scene)
        assert np.array(found[name])[:3] == pytest.approx(theirs[:3], abs=0.05)
    assert found["swift state"] == "lost" and found["swift-nano state"] == "tracking"


def test_tracking_does_not_import_pytorch_where_it_is_installed(scene):
    found = run()
    assert not found["torch"]
    same(found, scene)


def test_tracking_needs_no_more_than_the_lean_list(tmp_path, scene):
    """In an environment that holds the packages of configs/lean.txt and what they need, and nothing else."""
    lines = (ROOT / "configs" / "lean.txt").read_text().splitlines()
    wanted = [re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")]
    taken, (opencv, *_) = set(), importlib.metadata.packages_distributions()["cv2"]
    while wanted:
        name = wanted.pop().replace("opencv-python-headless", opencv)
        if name.lower() in taken:
            continue
        taken.add(name.lower())
        package = importlib.metadata.distribution(name)
        for file in {Path(file.parts[0]) for file in package.files if file.parts[0] not in ("..", "__pycache__")}:
            if not (tmp_path / file).exists():
                (tmp_path / file).symlink_to(package.locate_file(file))
        needs = [Requirement(line) for line in package.requires or ()]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert "torch" not in taken and "numba" in taken
    found = run("-S", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert found["missing"] and "without PyTorch only what `siamtrack export` wrote runs" in found["siamfc"]
    for words in (["train", "inspect", "."], ["similarity", "compare", "a", "b"], ["export", "swift", "--out", "x"]):
        command = [sys.executable, "-S", "-m", "siamtrack", *words]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2 and line.startswith("siamtrack: error: this needs PyTorch: ")
    same(found, scene)


# --- other engines


@pytest.mark.parametrize(("engine", "apart"), [("openvino", 1e-4), ("openvino-bf16", 0.06)])
def test_openvino_says_what_pytorch_says(scene, engine, apart):
    pytest.importorskip("openvino")
    net = load_network(weight_file("swift"))
    assert _compare(net, FOLDERS["swift"], engine) < apart
    tracker = Tracker.load("swift", engine=engine)
    assert tracker.engine.runner.engine == engine
    found = boxes(tracker, scene)
    theirs = boxes(Tracker.load("swift", device="cpu", engine="torch"), scene)
    assert np.abs(found - theirs).max() < (3 if engine == "openvino" else 12)
    mine = Tracker(net, device="cpu", engine=engine)  # exported on the way
    assert boxes(mine, scene) == pytest.approx(found, abs=0.5)


def test_auto_measures_once_and_remembers(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begun = Tracker.load("swift", device="cpu").engine.runner.engine
    ((key, times),) = json.loads(memory().read_text()).items()
    assert begun == ("openvino" if times["openvino"] < WORTH * times["onnxruntime"] else "onnxruntime")
    assert min(times.values()) > 0 and "1 threads" in key
    for slow, fast in (("onnxruntime", "openvino"), ("openvino", "onnxruntime")):
        memory().write_text(json.dumps({key: {slow: 9.0, fast: 3.0}}))  # it is believed, not measured again
        assert Tracker.load("swift", device="cpu").engine.runner.engine == fast
    memory().write_text('{"cut')
    Tracker.load("swift", device="cpu")
    assert list(json.loads(memory().read_text())) == [key] and [memory()] == list(memory().parent.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert Tracker.load("swift", device="cpu").engine.runner.engine == "onnxruntime"


def test_graphs_are_checked_before_they_are_measured(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(FOLDERS["swift-nano"], tmp_path / "mine")
    whole = (tmp_path / "mine" / "search.onnx").read_bytes()
    (tmp_path / "mine" / "search.onnx").write_bytes(whole[:900])
    with pytest.raises(GraphError, match=r"search\.onnx: truncated or foreign graph"):
        Tracker.load(tmp_path / "mine", device="cpu")
    assert not list(tmp_path.glob("cache/**/*.*"))
    shutil.copy(weight_file("swift-nano"), tmp_path / "mine.safetensors")  # the graphs beside it are of no use
    assert Tracker.load(tmp_path / "mine.safetensors", device="cpu").weights == tmp_path / "mine.safetensors"


def test_graphs_of_two_exports_and_targets_of_two_engines_are_refused(tmp_path, scene):
    shutil.copytree(FOLDERS["swift"], tmp_path / "mine")
    shutil.copy(FOLDERS["swift-nano"] / "exemplar.onnx", tmp_path / "mine" / "exemplar.onnx")
    with pytest.raises(GraphError, match=r"exemplar\.onnx and search\.onnx are of two exports"):
        Tracker.load(tmp_path / "mine")
    shutil.copy(FOLDERS["swift"] / "exemplar.onnx", tmp_path / "mine" / "exemplar.onnx")
    (tmp_path / "mine" / "look.onnx").unlink()
    with pytest.raises(GraphError, match=r"no look\.onnx; `siamtrack export` writes all graphs"):
        Tracker.load(tmp_path / "mine")
    graphs, torch = (Tracker.load("swift-nano", device="cpu", engine=engine) for engine in ("onnxruntime", "torch"))
    target = torch.init(scene.render(0), scene.box(0))
    with pytest.raises(ValueError, match="with another network or engine"):
        graphs.update(scene.render(1), target)


def test_a_path_is_no_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no weights 'swift': neither a file nor one of"):
        Tracker.load(Path("swift"))
    shutil.copytree(FOLDERS["swift-nano"], "swift")
    assert Tracker.load(Path("swift"), device="cpu").config.network == "swift-nano"
    assert Tracker.load("swift", device="cpu").config.network == "swift"


def test_a_network_that_was_opened_runs_as_it_was_opened(scene):
    opened = open_network(FOLDERS["swift-nano"], 2)
    assert Tracker(opened).threads == Tracker(opened, "cpu", 2, engine="onnxruntime").threads == 2
    for asked in ({"device": "cuda"}, {"threads": 1}, {"engine": "openvino"}):
        ((name, value),) = asked.items()
        with pytest.raises(ValueError, match=f"^{name} is .* of the network that was opened; got {value!r}"):
            Tracker(opened, **asked)
    with pytest.raises(ValueError, match=r"graphs run on the cpu by onnxruntime, .*; got 'torch'"):
        open_network(FOLDERS["swift-nano"], 1, "torch")
    with pytest.raises(ValueError, match="graphs run on the cpu; got 'cuda'"):
        Tracker.load(FOLDERS["swift-nano"], device="cuda")


def test_without_an_engine_for_graphs_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(ValueError, match=r'graphs want onnxruntime: .* pip install ".*\[fast\]"'):
        Tracker.load(FOLDERS["swift"])
    monkeypatch.setitem(sys.modules, "tracker.checkpoints", None)  # as where PyTorch is missing, too
    with pytest.raises(ImportError, match=r'what `siamtrack export` wrote runs, by onnxruntime: .* pip install "'):
        Tracker.load("swift")


def test_an_engine_that_is_not_installed_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else find(name))
    with pytest.raises(ValueError, match=r'engine "openvino" wants openvino: .*siamtrack\[openvino\]'):
        Tracker.load("swift", device="cpu", engine="openvino")
    with pytest.raises(ValueError, match=r"graphs want openvino"):
        open_network(FOLDERS["swift"], 1, "openvino")
