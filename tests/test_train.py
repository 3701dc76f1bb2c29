"""The training package on a tiny tree of real files: a clip, stills with masks."""

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import reference
import torch
import yaml

from tracker.benchmark.sequences import DataError
from tracker.config import SIAMFC, SWIFT, load_yaml, to_dict
from tracker.geometry import Box, Grid, iou
from tracker.kernels import decode_peaks
from tracker.network import load_network
from train import augment
from train.__main__ import main
from train.config import TrainConfig
from train.labels import ellipse_labels, radius_labels
from train.loop import Run, learning_rate, make_batch
from train.losses import balanced_logistic, giou_loss, masked_bce
from train.pairs import PairSampler
from train.store import Store, StoreError, prepare

ROOT = Path(__file__).parents[1]


def write_boxes(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """clips/walk: 30 frames of a textured square that moves; stills/shapes: two photos of discs with masks."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("footage")
    clip = root / "clips" / "walk"
    (clip / "masks" / "0").mkdir(parents=True)
    ground = cv2.resize(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8), (240, 160))
    patch = cv2.resize(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8), (36, 36), interpolation=cv2.INTER_NEAREST)
    writer = cv2.VideoWriter(str(clip / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (240, 160))
    rows = []
    for t in range(30):
        frame, mask = ground.copy(), np.zeros((160, 240), np.uint8)
        x, y = 20 + 5 * t, 60
        frame[y : y + 36, x : x + 36] = patch
        mask[y : y + 36, x : x + 36] = 255
        writer.write(frame)
        cv2.imwrite(str(clip / "masks" / "0" / f"{t:05d}.png"), mask)
        if t != 7:  # absent
            rows.append((t, 0, x, y, 36, 36))
    writer.release()
    write_boxes(
        clip / "boxes.csv", ("frame", "id", "x", "y", "w", "h"), [*rows, (9, 1, 5, 5, 2, 2), (99, 0, 1, 1, 30, 30)]
    )

    stills = root / "stills" / "shapes"
    (stills / "images").mkdir(parents=True)
    (stills / "masks").mkdir()
    rows = []
    for i in range(2):
        image = cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240))
        mask = cv2.circle(np.zeros((240, 320), np.uint8), (100 + 90 * i, 120), 40, 255, -1)
        image[mask > 0] = (40, 80 + 90 * i, 200)
        cv2.imwrite(str(stills / "images" / f"{i}.png"), image)
        cv2.imwrite(str(stills / "masks" / f"{i}.png"), mask)
        rows.append((f"{i}.png", 60 + 90 * i, 80, 81, 81, "disc", f"masks/{i}.png"))
    rows.append(("gone.png", 1, 1, 30, 30, "disc", ""))
    (stills / "images" / "broken.png").write_bytes(b"not an image")
    rows.append(("broken.png", 1, 1, 30, 30, "disc", ""))
    write_boxes(stills / "boxes.csv", ("image", "x", "y", "w", "h", "label", "mask"), rows)
    return root


@pytest.fixture(scope="module")
def store(footage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    tally = prepare([footage / "clips", footage / "stills"], folder)
    assert tally.kept == {"sequences": 1, "photos": 2, "frames": 31, "tracks": 3, "boxes": 31, "cut-outs": 8 + 2}
    assert tally.dropped == {
        "smaller than 6 px": 1, "boxes without a frame": 2, "frames without a box": 1, "images that cannot be read": 1
    }  # fmt: skip
    return Store(folder)


def tiny(network="swift", **optim):
    cfg = load_yaml(TrainConfig, ROOT / "configs" / f"{network}.yaml")
    pairs = replace(cfg.pairs, mix={"video": 1.0, "shapes": 1.0})
    return replace(cfg, pairs=pairs, optim=replace(cfg.optim, batch=4, micro_batch=2, steps=4, **optim))


# --- store


def test_the_store_gives_back_what_was_filmed(store):
    track = next(t for t in store.tracks if t.source == "video")
    assert len(track.images) == 29 and track.label == "walk/0"
    frame, box = store.image(int(track.images[3])), track.boxes[3]
    assert frame.shape == (160, 240, 3) and box.tolist() == [35, 60, 36, 36]
    assert store.mean_colour(int(track.images[3])) == pytest.approx(frame.mean((0, 1)), abs=0.01)
    cutout = store.cutout(int(track.cutouts[track.cutouts >= 0][0]))
    assert cutout.shape == (36, 36, 4) and (cutout[..., 3] == 255).all()
    with pytest.raises(ValueError, match="read-only"):
        frame[0, 0] = 1


def test_a_half_written_store_is_refused(store, tmp_path):
    (tmp_path / "pixels.bin").write_bytes(b"123")
    with pytest.raises(StoreError, match="not a finished store"):
        Store(tmp_path)
    index = (store.folder / "index.npz").read_bytes()
    (tmp_path / "index.npz").write_bytes(index)
    with pytest.raises(StoreError, match=r"pixels\.bin does not hold the \d+ bytes"):
        Store(tmp_path)
    (tmp_path / "index.npz").write_bytes(index[:-100])
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)


def test_folders_without_footage_are_refused_and_nothing_is_written(footage, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="in no known layout"):
        prepare([footage / "clips", tmp_path / "empty"], tmp_path / "store")
    write_boxes(tmp_path / "empty" / "boxes.csv", ("frame", "x", "y", "w", "h"), [(0, 1, 1, 30, 30)])
    with pytest.raises(DataError, match=r"no usable box.*(\n.*)*without a video"):
        prepare([tmp_path / "empty"], tmp_path / "store")
    assert not list((tmp_path / "store").iterdir())


def test_a_full_disk_leaves_the_old_store(footage, tmp_path):
    """The limit on the size of a file fails a write as a full disk does."""
    prepare([footage / "stills"], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"File too large after \d\.\d GB; no store was written"):
            prepare([footage / "clips"], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert Store(tmp_path).num_images == 2


def test_a_killed_prepare_leaves_no_store(tmp_path):
    """The second image is a pipe that nobody writes to, so that the process is killed in the middle of its work."""
    clip, folder = tmp_path / "clip", tmp_path / "store"
    clip.mkdir()
    cv2.imwrite(str(clip / "0.png"), np.full((700, 900, 3), 90, np.uint8))
    os.mkfifo(clip / "1.png")
    write_boxes(clip / "boxes.csv", ("frame", "x", "y", "w", "h"), [(0, 1, 1, 30, 30), (1, 1, 1, 30, 30)])
    code = "import pathlib, sys, train.store as s; s.prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(clip), str(folder)], cwd=ROOT)
    partial = folder / "pixels.partial.bin"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert partial.stat().st_size
    with pytest.raises(StoreError, match="not a finished store"):
        Store(folder)


# --- pairs


def sampler(store, model=SWIFT, **pairs):
    cfg = tiny("swift" if model is SWIFT else "siamfc")
    size = model.search_size if model is SWIFT else cfg.search_size
    return PairSampler(store, replace(cfg.pairs, **pairs), model, size, seed=3)


def test_a_pair_is_always_the_same_pair(store):
    a, b = sampler(store), sampler(store)
    b[0]
    for left, right in zip(a[5], b[5], strict=True):
        assert np.array_equal(left, right)
    assert not np.array_equal(a[5].search, a[6].search)


def test_pairs_have_the_promised_shapes_and_ranges(store):
    pairs = sampler(store)
    for i in range(30):
        pair = pairs[i]
        assert pair.exemplar.shape == (97, 97, 3) and pair.search.shape == (209, 209, 3)
        assert pair.exemplar.dtype == pair.search.dtype == np.uint8
        assert (pair.extent > 0.2).all() and (pair.extent < 1).all()
        x, y, w, h = pair.box_search
        assert w > 8 and h > 8 and 0 <= x + w / 2 <= 209 and 0 <= y + h / 2 <= 209


PLAIN = {"cutout": 0.0, "distractor": 0.0, "colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0}


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_box_holds_the_target(store, flip):
    """Template matching of the known patch in the search crop finds it where the label says."""
    pairs = sampler(store, mix={"video": 1.0}, flip=flip, scale_jitter=0.0, exemplar_jitter=0.0, **PLAIN)
    for i in range(10):
        pair = pairs[i]
        half = pair.extent * 97 / 2
        x0, x1 = round(48.5 - half[0]), round(48.5 + half[0])
        patch = pair.exemplar[x0:x1, x0:x1]
        response = cv2.matchTemplate(pair.search, patch, cv2.TM_SQDIFF)
        v, u = np.unravel_index(np.argmin(response), response.shape)
        x, y, w, h = pair.box_search
        inside = x >= 0 and y >= 0 and x + w <= 209 and y + h <= 209
        assert not inside or iou((u, v, x1 - x0, x1 - x0), (x, y, w, h)) > 0.85


def test_a_pasted_cutout_is_where_its_box_says(store):
    pairs = sampler(store, mix={"shapes": 1.0}, **PLAIN | {"cutout": 1.0})
    for i in range(10):
        pair = pairs[i]
        x, y, w, h = np.round(pair.box_search).astype(int)
        cx, cy = x + w // 2, y + h // 2
        if 0 <= cx < 209 and 0 <= cy < 209:
            assert pair.search[cy, cx, 2] > 150 and pair.search[cy, cx, 0] < 90  # the disc's colour


def test_unknown_sources_are_named(store):
    with pytest.raises(StoreError, match="'moon'; the store has shapes, video"):
        sampler(store, mix={"moon": 1.0})


def test_augmentations_keep_shape_and_input(photo):
    for seed in range(6):
        for change in (lambda i, r: augment.colour(i, r, 1.0), augment.blur, augment.noise):
            before = photo.copy()
            out = change(photo, np.random.default_rng(seed))
            assert out.shape == photo.shape and out.dtype == np.uint8
            assert np.array_equal(before, photo)
            assert np.array_equal(out, change(photo, np.random.default_rng(seed)))


# --- labels and losses


@pytest.mark.parametrize("seed", range(8))
def test_reading_the_labels_gives_the_box_back(seed):
    rng = np.random.default_rng(seed)
    grid = Grid(14, 16, 209)
    box = Box.from_centre(*rng.uniform(50, 160, 2), *rng.uniform(20, 90, 2))
    labels = ellipse_labels(torch.tensor([box], dtype=torch.float64), grid)
    logits = np.where(labels.score[0] == 1, 8.0, -8.0).astype(np.float32)
    box_map = labels.box_map[0].numpy()
    args = np.ones((14, 14)), grid.first, 16.0, box.w, box.h, 0.1, 0.2, 1
    cx, cy, w, h, logit, *_ = decode_peaks(logits, box_map, *args)[0]
    assert Box.from_centre(cx, cy, w, h) == pytest.approx(box)
    assert logit == 8


def test_ellipse_labels_by_hand():
    labels = ellipse_labels(torch.tensor([[40.5, 56.5, 80.0, 48.0]]), Grid(14, 16, 209))  # centre (80.5, 80.5) = cell 5
    score = labels.score[0]
    assert score[5].tolist() == [0, 0, 0, -1, 1, 1, 1, -1, 0, 0, 0, 0, 0, 0]  # |dx| <= 20 target, <= 40 ring
    assert score[:, 5].tolist() == [0, 0, 0, 0, -1, 1, -1, 0, 0, 0, 0, 0, 0, 0]  # |dy| <= 12 target, <= 24 ring
    assert labels.box_map[0, :, 5, 6].tolist() == [56, 24, 24, 24]
    assert labels.box_weight[0, 5, 5] == 1 and labels.box_weight[0, 5, 3] == 0.5 and labels.box_weight[0, 0, 0] == 0


def test_a_tiny_target_still_has_a_cell():
    assert ellipse_labels(torch.tensor([[90.0, 90.0, 2.0, 2.0]]), Grid(14, 16, 209)).score.eq(1).sum() >= 1


def test_radius_labels_of_a_centred_target_are_the_papers():
    labels = radius_labels(torch.tensor([[107.5, 107.5, 40.0, 40.0]]), Grid(17, 8, 255), 16.0)[0]
    assert (
        labels.sum() == 13 and labels[8, 8] == labels[6, 8] == labels[8, 10] == labels[7, 7] == 1 and labels[6, 7] == 0
    )
    assert torch.equal(labels, labels.flip(0)) and torch.equal(labels, labels.T)


def test_balanced_logistic_equals_its_definition(rng):
    logits, labels = rng.normal(size=(2, 5, 5)), (rng.random((2, 5, 5)) < 0.3).astype(float)
    expected = 0.0
    for logit, y in zip(logits, labels, strict=True):
        losses = np.log(1 + np.exp(-(2 * y - 1) * logit))
        expected += 0.5 * losses[y == 1].mean() + 0.5 * losses[y == 0].mean()
    assert float(balanced_logistic(torch.tensor(logits), torch.tensor(labels))) == pytest.approx(expected / 2)


def test_masked_bce_equals_its_definition(rng):
    logits = rng.normal(size=(2, 6, 6))
    labels = rng.choice([-1.0, 0.0, 1.0], (2, 6, 6))
    labels[1] = np.minimum(labels[1], 0)  # a map without a target
    expected = 0.0
    for logit, y in zip(logits, labels, strict=True):
        losses = np.log(1 + np.exp(-(2 * y - 1) * logit))
        on_target = losses[y == 1].mean() if (y == 1).any() else 0
        expected += 0.5 * on_target + 0.5 * losses[y == 0].mean() + 0.7 * np.sort(losses[y == 0])[-4:].mean()
    got = masked_bce(torch.tensor(logits), torch.tensor(labels), 0.7, hardest=4)
    assert float(got) == pytest.approx(expected / 2)


def test_giou_loss_equals_the_twin(rng):
    p, t = rng.uniform(1, 30, (2, 1, 4, 3, 3))
    weight = (rng.random((1, 3, 3)) < 0.6) * rng.choice([0.5, 1.0], (1, 3, 3))
    total = 0.0
    for r, c in zip(*np.nonzero(weight[0]), strict=True):
        boxes = [(-d[0], -d[1], d[0] + d[2], d[1] + d[3]) for d in (p[0, :, r, c], t[0, :, r, c])]
        total += weight[0, r, c] * (1 - reference.giou(*boxes))
    got = giou_loss(torch.tensor(p), torch.tensor(t), torch.tensor(weight))
    assert float(got) == pytest.approx(total / weight.sum())
    assert float(giou_loss(torch.tensor(t), torch.tensor(t), torch.tensor(weight))) == pytest.approx(0)
    assert float(giou_loss(torch.tensor(p), torch.tensor(t), torch.zeros(1, 3, 3))) == 0


def test_losses_pass_gradcheck(rng):
    logits = torch.tensor(rng.normal(size=(1, 4, 4)), requires_grad=True)
    labels = torch.tensor(rng.choice([0.0, 1.0], (1, 4, 4)))
    assert torch.autograd.gradcheck(lambda x: balanced_logistic(x, labels), (logits,))
    boxes = torch.tensor(rng.uniform(5, 30, (1, 4, 2, 2)), requires_grad=True)
    truth = torch.tensor(rng.uniform(5, 30, (1, 4, 2, 2)))
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, truth, torch.ones(1, 2, 2)), (boxes,))


# --- the loop


def test_learning_rates():
    geometric = replace(tiny("siamfc").optim, lr=1e-2, lr_end=1e-5, warmup=0.0)
    assert learning_rate(geometric, 0.0) == pytest.approx(1e-2)
    assert learning_rate(geometric, 1 / 3) == pytest.approx(1e-3)
    assert learning_rate(geometric, 1.0) == pytest.approx(1e-5)
    cosine = replace(tiny("swift").optim, lr=1e-3, lr_end=1e-5, warmup=0.1)
    assert learning_rate(cosine, 0.0) == pytest.approx(2e-5)
    assert learning_rate(cosine, 0.1) == pytest.approx(1e-3)
    assert learning_rate(cosine, 0.55) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(cosine, 1.0) == pytest.approx(1e-5)


@pytest.mark.parametrize("network", ["siamfc", "swift"])
def test_a_resumed_run_equals_an_uninterrupted_one(store, tmp_path, network):
    cfg = tiny(network)
    whole = Run(cfg, store, tmp_path / "whole")
    whole.train()
    first = Run(cfg, store, tmp_path / "parts")
    first.train(stop_at=2)
    assert first.step == 2
    second = Run(cfg, store, tmp_path / "parts")
    assert second.step == 2
    second.train()
    assert whole.step == second.step == 4
    for key, value in whole.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[key]), key
    for key, value in whole.ema.items():
        assert torch.equal(value, second.ema[key]), key
    assert load_network(tmp_path / "parts" / "last.safetensors").config == cfg.model


def test_training_learns(store, tmp_path):
    """A few steps on one small batch must lower its loss: all parts are wired."""
    from train.loop import swift_loss

    cfg = tiny("swift", lr=1e-3, warmup=0.0)
    run = Run(cfg, store, tmp_path)
    batch = make_batch(run.sampler, 0, 4)
    losses = []
    for _ in range(12):
        loss, _ = swift_loss(run.net, batch, cfg.loss)
        loss.backward()
        run.optimiser.step()
        run.optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_frozen_stages_keep_their_weights(store, tmp_path):
    run = Run(tiny("swift"), store, tmp_path)
    before = {k: v.clone() for k, v in run.net.backbone.features.state_dict().items()}
    run.train(stop_at=1)
    after = run.net.backbone.features.state_dict()
    moved = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    frozen = {str(i) for i in range(run.cfg.optim.frozen_stages)}
    assert not moved & frozen and moved == {str(i) for i in range(14)} - frozen


def test_the_best_weights_are_kept_by_validation(store, tmp_path):
    scores = iter([0.5, 0.3])
    run = Run(tiny("swift"), store, tmp_path)
    assert run.train(validate=lambda net: next(scores), validate_minutes=1e9) == 0.5
    best = (tmp_path / "best.safetensors").read_bytes()
    run = Run(replace(run.cfg, optim=replace(run.cfg.optim, steps=5)), store, tmp_path)
    assert run.train(validate=lambda net: next(scores), validate_minutes=1e9) == 0.5
    assert (tmp_path / "best.safetensors").read_bytes() == best
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [r["validation"] for r in rows if r["validation"]] == ["0.5", "0.3"]


def test_command_line_prepares_trains_and_saves_on_interrupt(footage, tmp_path):
    assert main(["prepare", str(footage), "--store", str(tmp_path / "store")]) == 0
    cfg = tiny("swift")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(to_dict(replace(cfg, optim=replace(cfg.optim, steps=100000)))))
    command = [sys.executable, "-m", "train", "fit", "--config", str(tmp_path / "tiny.yaml"), "--store",
               str(tmp_path / "store"), "--out", str(tmp_path / "run")]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    for line in iter(lambda: process.stderr.read(1), b""):
        if line == b"%":  # the progress bar is up
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "run" / "last.pt").is_file()
    assert load_network(tmp_path / "run" / "last.safetensors").config == cfg.model


def test_command_line_validates_by_real_tracking(footage, tmp_path):
    """Two steps, then one-pass tracking on a sequence in OTB's layout; the score lands in the log."""
    sequence = tmp_path / "sequences" / "walk"
    (sequence / "img").mkdir(parents=True)
    capture = cv2.VideoCapture(str(footage / "clips" / "walk" / "clip.mp4"))
    for t in range(6):
        cv2.imwrite(str(sequence / "img" / f"{t + 1:04d}.jpg"), capture.read()[1])
    rows = [f"{21 + 5 * t},61,36,36" for t in range(6)]  # one-based
    (sequence / "groundtruth_rect.txt").write_text("\n".join(rows))
    assert main(["prepare", str(footage), "--store", str(tmp_path / "store")]) == 0
    cfg = tiny("swift")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(to_dict(replace(cfg, optim=replace(cfg.optim, steps=2)))))
    fit = ["fit", "--config", str(tmp_path / "tiny.yaml"), "--store", str(tmp_path / "store"), "--out"]
    assert main([*fit, str(tmp_path / "run"), "--val", str(tmp_path / "sequences")]) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    scores = [float(r["validation"]) for r in rows if r["validation"]]
    assert len(scores) == 1 and 1 / 6 <= scores[0] <= 1  # the first frame counts and is given
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_command_line_errors_are_one_line(tmp_path, capsys):
    config = str(ROOT / "configs" / "swift.yaml")
    assert main(["fit", "--config", config, "--store", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "not a finished store" in capsys.readouterr().err
    assert main(["fit", "--config", "nothing.yaml", "--store", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert main(["prepare", str(tmp_path), "--store", str(tmp_path / "s")]) == 2
    assert "in no known layout" in capsys.readouterr().err


def test_siamfc_sampler_crops_at_the_papers_scale(store):
    pair = sampler(store, SIAMFC, mix={"video": 1.0}, scale_jitter=0.0, **PLAIN)[0]
    assert pair.exemplar.shape == (127, 127, 3) and pair.search.shape == (191, 191, 3)
    assert pair.box_search[2] == pytest.approx(127 / 2)
