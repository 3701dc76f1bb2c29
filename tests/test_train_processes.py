"""Two real processes over gloo train as one does."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from footage import ROOT, tiny
from torch import nn

from tracker.config import ConfigError, to_dict
from tracker.network import load_network
from train.__main__ import main
from train.loop import Run
from train.processes import Processes, statistics

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]


@pytest.mark.parametrize("network", ["swift", "siamfc"])
def test_two_processes_give_the_result_of_one(store, tmp_path, network):
    """The same micro-batches make the same step: weights, averages, batch-norm statistics and losses agree."""
    cfg = tiny(network)
    cfg = replace(cfg, loss=replace(cfg.loss, refine=1.0 if network == "swift" else 0.0))
    cfg = replace(cfg, optim=replace(cfg.optim, optimiser="sgd", lr=1e-3, batch=8, micro_batch=2, steps=3))
    (tmp_path / "cfg.yaml").write_text(yaml.safe_dump(to_dict(cfg)))
    fit = ["fit", "--config", str(tmp_path / "cfg.yaml"), "--store", str(store.folder), "--device", "cpu", "--out"]
    assert main([*fit, str(tmp_path / "one")]) == 0
    done = subprocess.run(
        [*TORCHRUN, "-m", "train", *fit, str(tmp_path / "two")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("one", "two"))
    assert one["step"] == two["step"] == 3
    fresh = Run(cfg, store, tmp_path / "fresh").net.state_dict()
    for part in ("net", "ema"):
        for key, value in one[part].items():
            other = two[part][key]
            if not value.is_floating_point():
                assert torch.equal(value, other), key  # passes of batch-norm
                continue
            moved = (value - fresh[key]).abs().max()
            assert (value - other).abs().max() <= 1e-4 * moved + 1e-6, (part, key, float(moved))
    for name, value in one["average"].items():
        assert two["average"][name] == pytest.approx(value, rel=1e-5), name
    assert load_network(tmp_path / "two" / "last.safetensors").config == cfg.model
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 2  # one process writes


def test_batches_that_cannot_be_shared_are_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="3 processes cannot share 2 micro-batches"):
        Run(tiny("swift"), store, tmp_path, processes=Processes(0, 3))


def test_processes_draw_disjoint_shares_of_the_same_batch(store, tmp_path):
    cfg = tiny("swift")
    run = Run(cfg, store, tmp_path)
    whole = run.draw_batch(5)
    run.processes = Processes(1, 2)
    second = run.draw_batch(5)
    for key, value in whole.items():
        assert torch.equal(value[2:], second[key])


def test_statistics_copy_what_batch_norms_have_seen():
    norm = nn.BatchNorm2d(3)
    before = statistics([norm])
    norm(torch.ones(2, 3, 4, 4))
    after = statistics([norm])
    assert before[0].tolist() == [0, 0, 0, 1, 1, 1] and before[1].tolist() == [0] * 6
    assert torch.equal(after[0][:3], norm.running_mean) and after[1].tolist() == [1] * 6
