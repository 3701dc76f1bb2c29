"""A run survives what machines and people do to it: killed in a checkpoint, a full disk, Ctrl-C, a wrong config."""

import csv
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from footage import ROOT, tiny

from tracker.checkpoints import load_network
from tracker.config import from_dict, to_dict
from tracker.errors import CheckpointError, ConfigError
from tracker.footage.output import only_run
from train.__main__ import main
from train.config import TrainConfig
from train.run import Run
from train.tasks.tracker import TrackerTask

# The kernel kills the process in the middle of a write: the file grows over the limit, and SIGXFSZ is not caught.
KILLED = """
import resource, signal, sys
from pathlib import Path
from footage import tiny
from train.run import Run
from train.store import Store
from train.tasks.tracker import TrackerTask
run = Run(TrackerTask(tiny("swift"), Store(sys.argv[1])), Path(sys.argv[2]))
run.train(stop_at=2)
print("saved", flush=True)
run.step = 3
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
run.save()
"""


def test_a_kill_in_the_middle_of_a_checkpoint_costs_what_came_after_the_last_good_one(store, tmp_path):
    command = [sys.executable, "-c", KILLED, str(store.folder), str(tmp_path), "2000000"]
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGXFSZ and "saved" in done.stdout, done.stderr
    assert (tmp_path / ".last.pt.part").stat().st_size == 2_000_000
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert run.step == 2
    assert load_network(tmp_path / "last.safetensors").config == run.task.cfg.model
    run.train()
    assert run.step == 4 and not list(tmp_path.glob(".*.part"))
    whole = Run(TrackerTask(tiny("swift"), store), tmp_path / "whole")  # nobody kills it
    whole.train()
    assert all(torch.equal(value, whole.ema[name]) for name, value in run.ema.items())


def test_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(store, tmp_path):
    """SIGKILL while checkpoint after checkpoint is written."""
    code = KILLED.split("signal.signal")[0] + "while True: run.save(); run.step += 1"
    for round_ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(store.folder), str(tmp_path), "0"],
            cwd=ROOT / "tests",
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"saved\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3 + 0.21 * round_)
        process.kill()
        process.wait(10)
        assert Run(TrackerTask(tiny("swift"), store), tmp_path).step >= 2
        assert load_network(tmp_path / "last.safetensors").config == tiny("swift").model


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_a_full_disk_is_reported_and_the_checkpoint_before_it_stays(store, tmp_path):
    """The limit on the size of a file fails a write as a full disk does."""
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    run.train(stop_at=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix in (".pt", ".safetensors")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step 4 was not saved \(File too large\); the checkpoint before"):
            run.train(save_minutes=0)  # the tries on the way only warn
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name in before} == before
    assert not list(tmp_path.glob(".*.part"))
    assert Run(TrackerTask(tiny("swift"), store), tmp_path).step == 1
    run.save()  # there is room again
    assert Run(TrackerTask(tiny("swift"), store), tmp_path).step == 4


def test_a_loss_that_is_not_finite_keeps_the_checkpoint(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    run.train(stop_at=1)
    with torch.no_grad():
        run.net.head.score.read[-1].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at step 1; try a smaller optim\.lr"):
        run.train()
    again = Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert again.step == 1 and all(v.isfinite().all() for v in again.net.state_dict().values())


def test_a_gradient_that_is_not_finite_keeps_the_checkpoint(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    run.train(stop_at=1)
    run.parameters[0].register_hook(lambda gradient: gradient * float("inf"))  # the loss is finite
    with pytest.raises(FloatingPointError, match=r"the gradient is not finite at step 1; try a smaller optim\.lr"):
        run.train()
    again = Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert again.step == 1 and all(v.isfinite().all() for v in again.net.state_dict().values())


def test_a_second_run_in_a_folder_in_use_leaves_its_log_alone(store, tmp_path):
    Run(TrackerTask(tiny("swift"), store), tmp_path).train(stop_at=1)
    (tmp_path / "last.pt").unlink()  # it would begin anew
    log = (tmp_path / "log.csv").read_bytes()
    with only_run(tmp_path), pytest.raises(OSError, match="another run works in this folder"):
        Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert (tmp_path / "log.csv").read_bytes() == log and log.count(b"\n") == 2


def test_the_way_back_to_the_start_needs_no_mean_of_the_steps(store, tmp_path):
    cfg = tiny("swift")
    run = Run(TrackerTask(replace(cfg, optim=replace(cfg.optim, ema=0.0, start_share=0.75)), store), tmp_path)
    start = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.train(stop_at=1)
    last, kept = run.net.state_dict(), run.averaged().state_dict()
    moved = [k for k, v in start.items() if v.is_floating_point() and not torch.equal(v, last[k])]
    assert moved and all(torch.allclose(kept[k], last[k].lerp(start[k], 0.75), atol=1e-6) for k in moved)


def test_a_damaged_checkpoint_is_named(store, tmp_path):
    Run(TrackerTask(tiny("swift"), store), tmp_path).train(stop_at=1)
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged .*take it away"):
        Run(TrackerTask(tiny("swift"), store), tmp_path)


def test_a_run_of_another_config_is_not_taken_up(store, tmp_path):
    Run(TrackerTask(tiny("swift"), store), tmp_path).train(stop_at=1)
    with pytest.raises(ConfigError, match="holds a run of another config"):
        Run(TrackerTask(tiny("siamfc"), store), tmp_path)


def test_rows_of_a_killed_run_are_dropped_from_the_log(store, tmp_path):
    Run(TrackerTask(tiny("swift"), store), tmp_path).train(stop_at=2)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("9,1.0,0.1,0.5,,,,,\n12,3.0,0.")  # steps after the checkpoint, and a row cut off
    Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert [row["step"] for row in csv.DictReader((tmp_path / "log.csv").open())] == ["2"]


def changed(part, **values):
    config = to_dict(tiny("swift"))
    (config[part] if part else config).update(values)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("optim", weight_decai=1.0), r"optim\.weight_decai: unknown key; did you mean 'weight_decay'"),
        (changed("pairs", distracter=1.0), r"pairs\.distracter: unknown key; did you mean 'distractor'"),
        (changed("", precision="fp16"), r"precision: 'fp16' is not allowed; choose from 'fp32', 'bf16'"),
        (changed("pairs", mix={}), r"pairs\.mix: give the sources weights"),
        (changed("pairs", mix={"clips": -1.0}), r"pairs\.mix: give the sources weights"),
        (changed("optim", micro_batch=0), r"must be at least 1; got 0"),
        (changed("optim", micro_batch=3), r"optim\.batch \(4\) must be a multiple"),
    ],
)
def test_config_errors_name_the_key(config, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, config)


def test_command_line_errors_are_one_line(store, tmp_path, capsys):
    fit = ["fit", "--store", str(store.folder), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "c.yaml")]
    cfg = tiny("swift")

    def said(config, *more):
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        assert main([*fit, *more]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("siamtrack train: error: ") and "\n" not in error
        return error

    assert "c.yaml: pairs.flop: unknown key; did you mean 'flip'?" in said(changed("pairs", flop=1))
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}" in said(to_dict(cfg), "--val", str(tmp_path / "empty"))
    assert "the store has clips, shapes" in said(to_dict(replace(cfg, pairs=replace(cfg.pairs, mix={"moon": 1.0}))))
    assert "neither a file nor one of siamfc, swift" in said(to_dict(cfg), "--from", "nothing")
    assert "is a siamfc of exemplar_size 127, the config wants a swift of exemplar_size 128" in said(
        to_dict(cfg), "--from", "siamfc"
    )
    assert "no device 'cuda'" in said(to_dict(cfg), "--device", "cuda") or torch.cuda.is_available()
    assert not (tmp_path / "run" / "last.pt").exists()
