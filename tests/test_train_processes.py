"""Two real processes over gloo train as one does."""

import csv
import os
import subprocess
import sys
from dataclasses import replace

import cv2
import pytest
import torch
import yaml
from footage import ROOT, tiny
from test_train_similarity import CONFIG, glyphs, write_yaml
from torch import nn

from tracker.checkpoints import load_network
from tracker.config import to_dict
from tracker.errors import ConfigError
from tracker.similarity import load_similarity
from train.__main__ import main
from train.processes import Processes, statistics
from train.run import Run
from train.similarity.__main__ import main as similarity
from train.tasks.similarity import SimilarityTask
from train.tasks.tracker import TrackerTask

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]


@pytest.mark.parametrize("network", ["swift", "siamfc"])
def test_two_processes_give_the_result_of_one(store, tmp_path, network):
    """The same micro-batches make the same step: weights, averages, batch-norm statistics and losses agree."""
    cfg = tiny(network)
    if network == "swift":
        cfg = replace(cfg, loss=replace(cfg.loss, refine=1.0))
    cfg = replace(cfg, optim=replace(cfg.optim, optimiser="sgd", lr=1e-3, batch=8, micro_batch=2, steps=3))
    (tmp_path / "cfg.yaml").write_text(yaml.safe_dump(to_dict(cfg)))
    fit = ["fit", "--config", str(tmp_path / "cfg.yaml"), "--store", str(store.folder), "--device", "cpu", "--out"]
    assert main([*fit, str(tmp_path / "one")]) == 0
    in_two_processes(["train", *fit, str(tmp_path / "two")])
    compare(tmp_path, Run(TrackerTask(cfg, store), tmp_path / "fresh").net.state_dict())
    assert load_network(tmp_path / "two" / "last.safetensors").config == cfg.model
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 2  # one process writes


def in_two_processes(command):
    done = subprocess.run(
        [*TORCHRUN, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def compare(folder, fresh):
    """See that the runs one and two are the same three steps, by how far weights came from the `fresh` ones."""
    one, two = (torch.load(folder / name / "last.pt", weights_only=True) for name in ("one", "two"))
    assert one["step"] == two["step"] == 3
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


def test_two_processes_compare_images_as_one_does(tmp_path):
    """Each draws its share of the batches of a step; the first one validates and writes."""
    letters = glyphs("ACELOXTZ", 12)
    for i, (image, label) in enumerate(zip(letters.images, letters.labels, strict=True)):
        (tmp_path / "set" / letters.names[label]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / letters.names[label] / f"{i}.png"), image)
    optim = replace(CONFIG.optim, optimiser="sgd", lr=1e-2, lr_end=1e-2, steps=3, micro_batches=2)
    cfg = replace(CONFIG, optim=optim, validation=replace(CONFIG.validation, every=2, pairs=40))
    recipe = write_yaml(tmp_path / "recipe.yaml", cfg)
    fit = ["fit", "--config", str(recipe), "--data", str(tmp_path / "set"), "--device", "cpu", "--out"]
    assert similarity([*fit, str(tmp_path / "one")]) == 0
    in_two_processes(["train.similarity", *fit, str(tmp_path / "two")])
    compare(tmp_path, SimilarityTask(cfg, letters, None).net.state_dict())
    ends = [load_similarity(tmp_path / name / "best.safetensors").config for name in ("one", "two")]
    assert ends[0].threshold == pytest.approx(ends[1].threshold, rel=1e-3)
    with open(tmp_path / "two" / "log.csv") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["validation"]] == ["2", "3"]
    with pytest.raises(ConfigError, match="2 processes cannot share 1 micro-batches"):
        Run(SimilarityTask(CONFIG, letters, None), tmp_path / "other", Processes(0, 2))


def test_batches_that_cannot_be_shared_are_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="3 processes cannot share 2 micro-batches"):
        Run(TrackerTask(tiny("swift"), store), tmp_path, Processes(0, 3))


def test_processes_draw_disjoint_shares_of_the_same_batch(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    first, second = run.draw_step(5)
    assert not torch.equal(first["search"], second["search"])
    for rank, wanted in enumerate((first, second)):
        run.processes = Processes(rank, 2)
        (own,) = run.draw_step(5)
        assert all(torch.equal(value, own[key]) for key, value in wanted.items())


def test_statistics_copy_what_batch_norms_have_seen():
    norm = nn.BatchNorm2d(3)
    before = statistics([norm])
    norm(torch.ones(2, 3, 4, 4))
    after = statistics([norm])
    assert before[0].tolist() == [0, 0, 0, 1, 1, 1] and before[1].tolist() == [0] * 6
    assert torch.equal(after[0][:3], norm.running_mean) and after[1].tolist() == [1] * 6
