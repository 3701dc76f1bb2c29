"""Fine-tuning in one command, and what it writes."""

import builtins
import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from footage import tiny

from tracker import Tracker
from tracker.checkpoints import load_network, save_network
from tracker.errors import ConfigError, DataError, InputError
from tracker.footage.layouts import load_folder
from tracker.loading import weight_file
from train.__main__ import main
from train.log import Log
from train.render import render
from train.run import Run
from train.store import Store, prepare
from train.tasks.tracker import TrackerTask
from train.tune import KEPT, tune_config

MINUTES = ["--minutes", "0.02"]  # a step or two


def test_boxes_csv_to_weights_in_one_command(footage, tmp_path, capsys):
    """A video beside a boxes.csv goes in, weights that a tracker loads come out; the same command is then done."""
    clip = footage / "clips" / "walk" / "clip.mp4"
    tune = ["--from", "swift", "--data", str(clip), "--out", str(tmp_path / "run"), *MINUTES]
    assert main(tune) == 0
    said = capsys.readouterr().out
    assert f"siamtrack track VIDEO --select --weights {tmp_path / 'run' / 'last.safetensors'}" in said
    tracker = Tracker.load(tmp_path / "run" / "last.safetensors")
    capture = cv2.VideoCapture(str(clip))
    tracker.init(capture.read()[1], (20, 60, 36, 36))
    assert tracker.update(capture.read()[1]).box == pytest.approx((25, 60, 36, 36), abs=6)
    step = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"]
    assert step >= 1
    assert main(tune) == 0
    assert f"going on at step {step}" in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == step


def test_weights_lie_between_the_start_and_what_was_learnt(store, tmp_path):
    cfg = tune_config(load_network(weight_file("swift")).config, store, 0.5)
    run = Run(TrackerTask(cfg, store, weight_file("swift")), tmp_path)
    with torch.no_grad():
        for name in ("score", "box"):
            run.ema[f"head.{name}.read.10.bias"] += 1.0
    run.save()
    start = load_network(weight_file("swift")).state_dict()
    kept = load_network(tmp_path / "last.safetensors").state_dict()
    assert kept["head.box.read.10.bias"] == pytest.approx(start["head.box.read.10.bias"] + 0.5, abs=2e-3)
    assert torch.equal(kept["head.score.read.0.weight"], start["head.score.read.0.weight"])
    again = Run(TrackerTask(cfg, store), tmp_path)  # the start comes out of the checkpoint
    assert torch.equal(*(one.averaged().state_dict()["head.box.read.10.bias"] for one in (again, run)))


def test_swift_nano_learns_from_its_first_step(store, tmp_path):
    """Trunk and head move; there is no refiner to train."""
    cfg = tune_config(load_network(weight_file("swift-nano")).config, store, 0.5)
    cfg = replace(cfg, optim=replace(cfg.optim, batch=4, micro_batch=2))
    run = Run(TrackerTask(cfg, store, weight_file("swift-nano")), tmp_path)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    losses = run.train_step(run.draw_step(0), 1.0)
    moved = {k for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    expected = {"head.read.weight", "head.alike.weight", "backbone.features.9.conv.0.weight"}
    assert losses["loss"] > 0 and expected <= moved
    assert not any(k.startswith("backbone.features.4.") for k in moved)  # the first five stages stay
    with pytest.raises(ConfigError, match=r"loss\.refine: swift-nano has no refiner, give 0; got 0\.5"):
        replace(cfg, loss=replace(cfg.loss, refine=0.5))


def test_shares_of_new_and_kept_footage(store, footage, tmp_path):
    prepare([footage / "stills"], tmp_path)
    joined = store.joined(Store(tmp_path), KEPT)
    mix = tune_config(load_network(weight_file("swift")).config, joined, 0.25).pairs.mix
    assert set(mix) == {"clips", "shapes", "kept:shapes"}
    assert mix["kept:shapes"] == pytest.approx(0.25) and sum(mix.values()) == pytest.approx(1)
    assert mix["clips"] / mix["shapes"] == pytest.approx((29 / 2) ** 0.5)
    alone = tune_config(load_network(weight_file("siamfc")).config, store, 0.25)
    assert sum(alone.pairs.mix.values()) == pytest.approx(1)


def test_kept_footage_is_mixed_in(footage, tmp_path):
    assert main(["prepare", str(footage / "stills"), "--store", str(tmp_path / "old")]) == 0
    tune = ["--from", "siamfc", "--data", str(footage / "clips"), "--out", str(tmp_path / "run"), *MINUTES]
    assert main([*tune, "--keep", str(tmp_path / "old")]) == 0
    assert load_network(tmp_path / "run" / "last.safetensors").config.network == "siamfc"


def test_footage_that_has_changed_is_not_trained_on_as_it_was(footage, tmp_path, capsys):
    clip = tmp_path / "walk"
    shutil.copytree(footage / "clips" / "walk", clip)
    tune = ["--from", "swift", "--data", str(clip), "--out", str(tmp_path / "run"), *MINUTES]
    assert main(tune) == 0
    assert json.loads((tmp_path / "run" / "store" / "origin.json").read_text())[0][1] == "boxes"
    with open(clip / "boxes.csv", "a") as file:
        file.write("12,0,80,60,36,36\n")
    assert main(tune) == 2
    assert "the footage has changed; give another --out" in capsys.readouterr().err


def test_wrong_input_is_named(footage, tmp_path, capsys):
    data = ["--data", str(footage / "clips")]
    assert main(["--from", "swft", *data, "--out", str(tmp_path / "run")]) == 2
    assert "no weights 'swft': neither a file nor one of siamfc, swift" in capsys.readouterr().err
    assert main(["--from", "swift", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "run")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "run" / "store").exists()
    with pytest.raises(InputError, match="neither a file"):
        weight_file("nothing.safetensors")


# --- the log and its curves


def test_the_log_is_drawn_and_kept_over_a_resume(tmp_path):
    log = Log(tmp_path, 0)
    for step in range(1, 30):
        log.write(step, 30.0 * step, {"loss": 1 / step, "lr": 1e-3, "hit": 0.5, "score": 0.4, "unknown": 1.0})
    log.write(29, 900.0, {"validation": 0.5})
    log.draw()
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert not list(tmp_path.glob(".*.part"))
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert len(rows) == 30 and rows[-1]["validation"] == "0.5" and rows[3]["loss"] == "0.25"
    assert len(Log(tmp_path, 12).rows()) == 12


def test_curves_without_matplotlib_are_left_out(tmp_path, monkeypatch, store, capsys):
    hide(monkeypatch, "matplotlib")
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    run.train(stop_at=1)
    assert 'pip install "siamtrack[plots]"' in capsys.readouterr().out
    assert (tmp_path / "last.pt").is_file() and not (tmp_path / "curves.png").exists()


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch, store):
    hide(monkeypatch, "torch.utils.tensorboard")
    with pytest.raises(ImportError, match=r'pip install "siamtrack\[tensorboard\]"'):
        Run(TrackerTask(tiny("swift"), store), tmp_path, tensorboard=True)


def test_tensorboard_gets_every_row(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = Log(tmp_path, 0, tensorboard=True)
    for step in (1, 2):
        log.write(step, 1.0 * step, {"loss": 0.5 / step})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def hide(monkeypatch, package):
    """Make `import package` fail, as where it is not installed."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == package or name.startswith(package + "."):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


# --- rendered footage


def test_rendered_footage_is_read_back(tmp_path):
    render(tmp_path / "r", clips=2, sequences=1)
    tally = prepare([tmp_path / "r" / "clips"], tmp_path / "store")
    assert (tally.kept["sequences"], tally.kept["frames"], tally.kept["boxes"]) == (2, 100, 100)
    assert tally.kept["cut-outs"] == 2 * 13 and not tally.dropped
    sequence = load_folder(tmp_path / "r" / "val", one_based=True)[0]
    assert len(sequence) == 50
    with pytest.raises(DataError, match="not empty"):
        render(tmp_path / "r", clips=1, sequences=1)


def test_weights_of_a_file_begin_a_run(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path / "a")
    save_network(run.averaged(), tmp_path / "w.safetensors", half=False)
    other = Run(TrackerTask(tiny("swift"), store, tmp_path / "w.safetensors"), tmp_path / "b")
    for key, value in run.net.state_dict().items():
        assert torch.equal(value, other.net.state_dict()[key])


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_length_of_training_that_is_none_is_refused(minutes, capsys):
    with pytest.raises(SystemExit):
        main(["--from", "swift", "--data", "clip", "--minutes", minutes])
    assert f"argument --minutes: '{minutes}' is not a number of minutes above 0" in capsys.readouterr().err


def test_weights_with_another_suffix_are_refused_in_one_line(tmp_path, capsys):
    assert main(["average", "swift", "--out", str(tmp_path / "mean.pt")]) == 2
    assert capsys.readouterr().err.endswith("suffix .pt; allowed: .safetensors\n")
