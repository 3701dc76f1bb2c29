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
from footage import ROOT, tiny, write_boxes
from interrupt import interrupted

from tracker.backbones import FBNet
from tracker.checkpoints import load_network
from tracker.config import SIAMFC, SWIFT, to_dict
from tracker.errors import DataError
from tracker.geometry import Box, CropWindow, Grid, iou
from tracker.kernels import decode_peaks
from tracker.loading import weight_file
from train import augment
from train.__main__ import main
from train.labels import ellipse_labels, radius_labels
from train.losses import balanced_logistic, box_loss, masked_bce
from train.pairs import PairSampler, Place, _part
from train.run import Run, Validation
from train.store import Store, StoreError, prepare
from train.tasks.tracker import TrackerTask, learning_rate

# --- store


def test_the_store_gives_back_what_was_filmed(store):
    track = next(t for t in store.tracks if t.source == "clips")
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


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("images", lambda rows: np.add(rows, [10**9, 0, 0]), "not end to end"),
        ("images", lambda rows: rows * [1, -1, -1], "sides that cannot be"),
        ("images", lambda rows: rows.astype(float), "Cannot cast"),
        ("images", lambda rows: rows.ravel(), "images: of shape"),
        ("observed", lambda rows: rows + 99, "observed: not rows of images"),
        ("observed", lambda rows: rows - 1, "observed: not rows of images"),
        ("cut", lambda rows: rows + 99, "cut: not rows of cutouts"),
        ("start", lambda rows: rows[::-1], "not rising"),
        ("boxes", lambda rows: rows * np.nan, "boxes: not finite"),
        ("boxes", lambda rows: rows[1:], "not a row for each"),
        ("means", lambda rows: rows[1:], "means: not one an image"),
        ("names", lambda text: '["a", "b", "c"]', "names: not pairs"),
        ("names", lambda text: "[]", "0 names of 3 tracks"),
    ],
)
def test_an_index_that_lies_is_refused(store, tmp_path, name, change, said):
    with np.load(store.folder / "index.npz") as index:
        parts = dict(index)
    parts[name] = change(parts[name])
    np.savez(tmp_path / "index.npz", **parts)
    (tmp_path / "pixels.bin").symlink_to(store.folder / "pixels.bin")
    with pytest.raises(StoreError, match=rf"index\.npz is damaged \(.*{said}"):
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


def test_a_killed_prepare_leaves_no_store_and_can_be_run_again(tmp_path):
    """The reading of the second image never ends, so that the process is killed in the middle of its work."""
    clip, folder = tmp_path / "clip", tmp_path / "store"
    clip.mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(clip / name), np.full((700, 900, 3), 90, np.uint8))
    write_boxes(clip / "boxes.csv", ("frame", "x", "y", "w", "h"), [(0, 1, 1, 30, 30), (1, 1, 1, 30, 30)])
    code = """import pathlib, sys, time, tracker.footage.clip as r, train.store as s
read = r.read_image
r.read_image = lambda path, *flags: time.sleep(600) if path.name == "1.png" else read(path, *flags)
s.prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))"""
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
    for other in (folder, tmp_path / "never killed"):
        prepare([clip], other)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


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
        assert pair.exemplar.shape == (128, 128, 3) and pair.search.shape == (SIDE, SIDE, 3)
        assert pair.exemplar.dtype == pair.search.dtype == np.uint8
        assert (pair.extent > 0.2).all() and (pair.extent < 1).all()
        x, y, w, h = pair.box_search
        assert w > 8 and h > 8 and 0 <= x + w / 2 <= SIDE and 0 <= y + h / 2 <= SIDE


PLAIN = {"cutout": 0.0, "distractor": 0.0, "colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0}


SIDE = SWIFT.search_size  # px, of a search crop


@pytest.mark.parametrize(("flip", "part"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
def test_the_box_holds_the_target(store, flip, part):
    """Template matching of the known patch in the search crop finds it where the label says."""
    pairs = sampler(store, mix={"clips": 1.0}, flip=flip, part=part, scale_jitter=0.0, exemplar_jitter=0.0, **PLAIN)
    for i in range(10):
        pair = pairs[i]
        half = pair.extent * 128 / 2
        (x0, y0), (x1, y1) = np.round(64 - half).astype(int), np.round(64 + half).astype(int)
        size = tuple(np.round(pair.box_search[2:]).astype(int).tolist())  # the crops show it at two scales
        patch = cv2.resize(pair.exemplar[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
        response = cv2.matchTemplate(pair.search, patch, cv2.TM_SQDIFF)
        v, u = np.unravel_index(np.argmin(response), response.shape)
        x, y, w, h = pair.box_search
        inside = x >= 0 and y >= 0 and x + w <= SIDE and y + h <= SIDE
        assert not inside or iou((u, v, *size), (x, y, w, h)) > 0.85


def test_a_part_is_the_same_share_of_the_box_in_every_image(store):
    whole = next(track for track in store.tracks if track.source == "clips")
    parts = [_part(whole, np.random.default_rng(i)) for i in range(50)]
    for part in parts:
        share = (part.boxes[:, :2] - whole.boxes[:, :2]) / whole.boxes[:, 2:], part.boxes[:, 2:] / whole.boxes[:, 2:]
        assert np.allclose(share, [s[:1] for s in share], atol=1e-3)
        assert (part.cutouts == -1).all() or part is whole  # a box of the footage that would be too small
        mates = sampler(store)._others(part)
        assert all(store.tracks[t].images is not whole.images for t in mates)  # the whole is no mate of its part
    sizes = np.array([part.boxes[0, 2:] / whole.boxes[0, 2:] for part in parts])
    assert sizes.min() < 0.7 and sizes.max() > 1.1 and np.ptp(sizes[:, 0] / sizes[:, 1]) > 0.5


def test_a_pasted_cutout_is_where_its_box_says(store):
    pairs = sampler(store, mix={"shapes": 1.0}, **PLAIN | {"cutout": 1.0})
    for i in range(10):
        pair = pairs[i]
        x, y, w, h = np.round(pair.box_search).astype(int)
        cx, cy = x + w // 2, y + h // 2
        if 0 <= cx < SIDE and 0 <= cy < SIDE:
            assert pair.search[cy, cx, 2] > 150 and pair.search[cy, cx, 0] < 90  # the disc's colour


def test_unknown_sources_are_named(store):
    with pytest.raises(StoreError, match="'moon'; the store has clips, shapes"):
        sampler(store, mix={"moon": 1.0})


@pytest.mark.parametrize("key", ["deform", "motion_blur", "look_alike", "occluder"])
def test_pairs_with_every_change_keep_their_promises(store, key):
    """The change is seen in some pair, at 0 in none; the label still fits the disc that was pasted."""
    plain = sampler(store, mix={"shapes": 1.0}, **PLAIN | {"cutout": 1.0})
    changed = sampler(store, mix={"shapes": 1.0}, **PLAIN | {"cutout": 1.0, key: 1.0})
    assert any(not np.array_equal(plain[i].search, changed[i].search) for i in range(6))
    for i in range(12):
        x, y, w, h = changed[i].box_search
        red = changed[i].search.astype(int)
        disc = (red[..., 2] > 150) & (red[..., 0] < 90)  # the disc's colour
        inside = x >= 0 and y >= 0 and x + w <= SIDE and y + h <= SIDE
        if inside and key in ("deform", "motion_blur"):  # the others hide parts or paint more of it
            u, v, du, dv = cv2.boundingRect(disc[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1].astype(np.uint8))
            assert du > 0.6 * w and dv > 0.6 * h and u < 0.3 * w and v < 0.3 * h


def test_an_impostor_has_other_colours_and_is_no_target(store):
    """Red discs: the impostor is a disc that is not red, and the label says that the target is not there."""
    absent = {"mix": {"shapes": 1.0}, **PLAIN, "absent": 1.0, "flip": 0.0}
    plain, changed = sampler(store, **absent), sampler(store, imposter=1.0, **absent)
    seen = 0
    for i in range(12):
        pair = changed[i]
        assert (pair.box_search == 0).all()
        new = (pair.search.astype(int) - plain[i].search != 0).any(2)
        disc = pair.search[new].astype(int)
        seen += bool(len(disc) > 300 and not ((disc[:, 2] > 150) & (disc[:, 0] < 90)).mean() > 0.3)
    assert seen > 6


def test_bending_moves_the_outline_by_its_strength():
    cutout = np.zeros((96, 60, 4), np.uint8)
    cv2.ellipse(cutout, (30, 48), (29, 47), 0, 0, 360, (10, 20, 200, 255), -1)
    cutout[..., :3] = (10, 20, 200)
    shapes = [augment.bend(cutout, np.random.default_rng(i), 1.0) for i in range(8)]
    assert len({s.shape for s in shapes}) > 4
    for shape in shapes:
        height, width = shape.shape[:2]
        assert 96 * 5 / 6 <= height <= 96 * 7 / 6 and 60 * 5 / 6 <= width <= 60 * 7 / 6
        assert (shape[..., 3] > 127).mean() == pytest.approx(np.pi / 4, abs=0.12)
        assert (shape[..., :3] == (10, 20, 200)).all()


def test_smear_runs_along_the_motion():
    """A square that moves to the right has soft left and right edges, and sharp upper and lower ones."""
    cover = np.zeros((40, 40, 1), np.float32)
    cover[15:25, 15:25] = 1
    colours, spread = augment.smear_along(np.full((40, 40, 3), 90, np.uint8), cover, 8.0, 0.0)
    row, column = spread[20, :, 0], spread[:, 20, 0]
    assert ((row > 0.01) & (row < 0.99)).sum() >= 12 and ((column > 0.01) & (column < 0.99)).sum() == 0
    assert spread.sum() == pytest.approx(100, rel=1e-4) and np.abs(row - row[::-1][np.r_[0:40]]).max() < 1e-5
    assert (colours[spread[..., 0] > 0.02] >= 88).all()


def test_occluders_hide_a_part_of_the_target():
    shares = []
    for seed in range(40):
        cover = augment.occluder((60.0, 80.0, 70.0, 40.0), SIDE, np.random.default_rng(seed))
        assert cover.shape == (SIDE, SIDE, 1) and cover.dtype == np.float32 and cover.min() >= 0 and cover.max() <= 1
        shares.append(cover[80:120, 60:130].mean())
    assert max(shares) <= 0.52 and sum(share > 0.08 for share in shares) > 36


def test_look_alikes_differ_in_hue(rng):
    cutout = np.dstack([np.full((20, 30, 3), (20, 60, 200), np.uint8), np.full((20, 30), 255, np.uint8)])
    twin = augment.recolour(cutout, rng)
    assert twin.shape == cutout.shape and np.array_equal(twin[..., 3], cutout[..., 3])
    hues = [int(cv2.cvtColor(c[..., :3], cv2.COLOR_BGR2HSV)[0, 0, 0]) for c in (cutout, twin)]
    assert 10 <= min((hues[1] - hues[0]) % 180, (hues[0] - hues[1]) % 180) <= 62


def test_two_stores_are_read_as_one(store, footage, tmp_path):
    prepare([footage / "stills"], tmp_path)
    both = store.joined(Store(tmp_path), "kept:")
    assert set(both.by_source) == {"clips", "shapes", "kept:shapes"}
    assert (both.num_images, both.num_cutouts) == (store.num_images + 2, store.num_cutouts + 2)
    own = Store(tmp_path).tracks[1]
    track = next(both.tracks[t] for t in both.by_source["kept:shapes"] if both.tracks[t].boxes[0][0] == own.boxes[0][0])
    image, cut = int(own.images[0]), int(own.cutouts[0])
    assert np.array_equal(both.image(int(track.images[0])), Store(tmp_path).image(image))
    assert np.array_equal(both.cutout(int(track.cutouts[0])), Store(tmp_path).cutout(cut))
    assert both.mean_colour(int(track.images[0])) == Store(tmp_path).mean_colour(image)
    assert set(store.by_source) == {"clips", "shapes"}  # the store itself is as it was


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
    grid = Grid(14, 16, 0.5)
    box = Box.from_centre(*rng.uniform(50, 160, 2), *rng.uniform(20, 90, 2))
    labels = ellipse_labels(torch.tensor([box], dtype=torch.float64), grid)
    logits = np.where(labels.score[0] == 1, 8.0, -8.0).astype(np.float32)
    box_map = labels.box_map[0].numpy()
    args = np.ones((14, 14)), grid.first, 16.0, box.w, box.h, 0.1, 0.2, 1
    cx, cy, w, h, logit, *_ = decode_peaks(logits, box_map, *args)[0]
    assert Box.from_centre(cx, cy, w, h) == pytest.approx(box)
    assert logit == 8


def test_ellipse_labels_by_hand():
    labels = ellipse_labels(torch.tensor([[40.5, 56.5, 80.0, 48.0]]), Grid(14, 16, 0.5))  # centre (80.5, 80.5) = cell 5
    score = labels.score[0]
    assert score[5].tolist() == [0, 0, 0, -1, 1, 1, 1, -1, 0, 0, 0, 0, 0, 0]  # |dx| <= 20 target, <= 40 ring
    assert score[:, 5].tolist() == [0, 0, 0, 0, -1, 1, -1, 0, 0, 0, 0, 0, 0, 0]  # |dy| <= 12 target, <= 24 ring
    assert labels.box_map[0, :, 5, 6].tolist() == [56, 24, 24, 24]
    assert labels.box_weight[0, 5, 5] == 1 and labels.box_weight[0, 5, 3] == 0.5 and labels.box_weight[0, 0, 0] == 0


def test_a_tiny_target_still_has_a_cell():
    assert ellipse_labels(torch.tensor([[90.0, 90.0, 2.0, 2.0]]), Grid(14, 16, 0.5)).score.eq(1).sum() >= 1


def test_radius_labels_of_a_centred_target_are_the_papers():
    labels = radius_labels(torch.tensor([[107.5, 107.5, 40.0, 40.0]]), Grid(17, 8, 63.5), 16.0)[0]
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


@pytest.mark.parametrize("focal", [False, True])
def test_masked_bce_equals_its_definition(rng, focal):
    logits = rng.normal(size=(2, 6, 6))
    labels = rng.choice([-1.0, 0.0, 1.0], (2, 6, 6))
    labels[1] = np.minimum(labels[1], 0)  # a map without a target
    expected = 0.0
    for logit, y in zip(logits, labels, strict=True):
        losses = np.log(1 + np.exp(-(2 * y - 1) * logit))
        if focal:
            losses *= 4 * (1 - 1 / (1 + np.exp(-(2 * y - 1) * logit))) ** 2
        on_target = losses[y == 1].mean() if (y == 1).any() else 0
        expected += 0.5 * on_target + 0.5 * losses[y == 0].mean() + 0.7 * np.sort(losses[y == 0])[-4:].mean()
    got = masked_bce(torch.tensor(logits), torch.tensor(labels), 0.7, hardest=4, focal=focal)
    assert float(got) == pytest.approx(expected / 2)


@pytest.mark.parametrize("overlap", ["giou", "diou"])
def test_box_loss_equals_the_twin(rng, overlap):
    p, t = rng.uniform(1, 30, (2, 1, 4, 3, 3))
    weight = (rng.random((1, 3, 3)) < 0.6) * rng.choice([0.5, 1.0], (1, 3, 3))
    total = 0.0
    for r, c in zip(*np.nonzero(weight[0]), strict=True):
        boxes = [(-d[0], -d[1], d[0] + d[2], d[1] + d[3]) for d in (p[0, :, r, c], t[0, :, r, c])]
        total += weight[0, r, c] * (1 - getattr(reference, overlap)(*boxes))
    got = box_loss(torch.tensor(p), torch.tensor(t), torch.tensor(weight), overlap)
    assert float(got) == pytest.approx(total / weight.sum())
    assert float(box_loss(torch.tensor(t), torch.tensor(t), torch.tensor(weight), overlap)) == pytest.approx(0)
    assert float(box_loss(torch.tensor(p), torch.tensor(t), torch.zeros(1, 3, 3), overlap)) == 0


def test_losses_pass_gradcheck(rng):
    logits = torch.tensor(rng.normal(size=(1, 4, 4)), requires_grad=True)
    labels = torch.tensor(rng.choice([0.0, 1.0], (1, 4, 4)))
    assert torch.autograd.gradcheck(lambda x: balanced_logistic(x, labels), (logits,))
    assert torch.autograd.gradcheck(lambda x: masked_bce(x, labels, 0.5, focal=True), (logits,))
    boxes = torch.tensor(rng.uniform(5, 30, (1, 4, 2, 2)), requires_grad=True)
    truth = torch.tensor(rng.uniform(5, 30, (1, 4, 2, 2)))
    for overlap in ("giou", "diou"):
        assert torch.autograd.gradcheck(lambda x, o=overlap: box_loss(x, truth, torch.ones(1, 2, 2), o), (boxes,))


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
def test_a_resumed_run_equals_an_uninterrupted_one(store, tmp_path, monkeypatch, network):
    """To the last bit: the losses of every step, the weights, their averages, the optimiser and the log."""
    cfg, losses = tiny(network), []
    if network == "swift":
        cfg = replace(cfg, loss=replace(cfg.loss, refine=1.0))
    one_step = Run.train_step

    def noted(run, *args):
        losses.append(one_step(run, *args))
        return losses[-1]

    monkeypatch.setattr(Run, "train_step", noted)
    whole = Run(TrackerTask(cfg, store), tmp_path / "whole")
    whole.train()
    expected, losses[:] = losses[:], []
    first = Run(TrackerTask(cfg, store), tmp_path / "parts")
    first.train(stop_at=2)
    assert first.step == 2
    second = Run(TrackerTask(cfg, store), tmp_path / "parts")
    assert second.step == 2
    second.train()
    assert whole.step == second.step == 4
    assert losses == expected and len({loss["loss"] for loss in losses}) == 4
    for key, value in whole.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[key]), key
    for key, value in whole.ema.items():
        assert torch.equal(value, second.ema[key]), key
    for one, two in zip(*(r.optimiser.state_dict()["state"].values() for r in (whole, second)), strict=True):
        assert all(torch.equal(v, two[k]) for k, v in one.items() if torch.is_tensor(v))
    assert whole.average == second.average
    assert load_network(tmp_path / "parts" / "last.safetensors").config == cfg.model


def test_bf16_trains_close_to_fp32(store, tmp_path):
    """The first loss differs by rounding only, the weights stay fp32, and the loss of one batch falls."""
    cfg = tiny("swift", lr=1e-3, warmup=0.0)
    start = weight_file("swift")
    full, half = (Run(TrackerTask(replace(cfg, precision=p), store, start), tmp_path / p) for p in ("fp32", "bf16"))
    batches = full.draw_step(0)
    first = [run.train_step(batches, 0.0)["loss"] for run in (full, half)]
    assert first[0] != first[1] == pytest.approx(first[0], rel=0.03)
    later = [half.train_step(batches, 0.0)["loss"] for _ in range(4)]  # slow where the CPU knows no bf16
    assert later[-1] < 0.9 * first[1]
    assert {p.dtype for p in half.net.parameters()} == {torch.float32}


@pytest.mark.parametrize(("score", "overlap"), [("bce", "giou"), ("focal", "diou")])
def test_every_loss_falls_on_one_batch(store, tmp_path, score, overlap):
    cfg = tiny("swift", lr=3e-4, warmup=0.0)
    cfg = replace(cfg, loss=replace(cfg.loss, score=score, overlap=overlap))
    run = Run(TrackerTask(cfg, store, weight_file("swift")), tmp_path)
    batches = run.draw_step(0)
    losses = [run.train_step(batches, 0.0) for _ in range(9)]
    assert losses[-1]["score"] < 0.8 * losses[0]["score"] and losses[-1]["box"] < 0.9 * losses[0]["box"]


def test_frozen_batch_norm_keeps_its_statistics(store, tmp_path):
    run = Run(TrackerTask(tiny("swift", frozen_norm=True), store), tmp_path)
    before = {k: v.clone() for k, v in run.net.state_dict().items() if "running" in k}
    run.train(stop_at=1)
    assert before and all(torch.equal(v, run.net.state_dict()[k]) for k, v in before.items())


def test_frozen_stages_keep_their_weights(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    before = {k: v.clone() for k, v in run.net.backbone.features.state_dict().items()}
    run.train(stop_at=1)
    after = run.net.backbone.features.state_dict()
    moved = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    frozen = {str(i) for i in range(run.task.cfg.optim.frozen_stages)}
    assert not moved & frozen and moved == {str(i) for i in range(FBNet.COUNT)} - frozen


@pytest.mark.parametrize("network", ["swift", "swift-nano"])
def test_the_head_learns_and_the_trunk_does_not(store, tmp_path, network):
    run = Run(TrackerTask(tiny(network, train="head"), store), tmp_path)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.train(stop_at=2)
    moved = {k.split(".")[0] for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"head"}


def test_the_best_weights_are_kept_by_validation(store, tmp_path):
    scores = iter([0.5, 0.3])
    validation = Validation(lambda net: next(scores))
    assert Run(TrackerTask(tiny("swift"), store, validation=validation), tmp_path).train() == 0.5
    best = (tmp_path / "best.safetensors").read_bytes()
    assert Run(TrackerTask(tiny("swift"), store, validation=validation), tmp_path).train() == 0.5  # done
    assert Run(TrackerTask(tiny("swift", steps=5), store, validation=validation), tmp_path).train() == 0.5
    assert (tmp_path / "best.safetensors").read_bytes() == best
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [r["validation"] for r in rows if r["validation"]] == ["0.5", "0.3"]


def test_command_line_prepares_trains_and_saves_on_interrupt(footage, tmp_path):
    assert main(["prepare", str(footage), "--store", str(tmp_path / "store")]) == 0
    cfg = tiny("swift")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(to_dict(replace(cfg, optim=replace(cfg.optim, steps=100000)))))
    command = [sys.executable, "-m", "train", "fit", "--config", str(tmp_path / "tiny.yaml"), "--store",
               str(tmp_path / "store"), "--out", str(tmp_path / "run")]  # fmt: skip
    assert interrupted(command) == 0
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


def test_the_script_of_the_shipped_weights_goes_from_footage_to_weights(footage, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(to_dict(tiny("siamfc"))))
    told = {"RECIPE": str(tmp_path / "tiny.yaml"), "MINUTES": "0.01"}
    where = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def ship(*args: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "configs" / "ship.sh"), *args]
        return subprocess.run(command, env=os.environ | told | where, cwd=tmp_path, capture_output=True, text=True)

    done = ship("siamfc", str(footage), str(footage), "work")
    assert done.returncode == 0, done.stderr
    assert load_network(tmp_path / "work" / "siamfc.safetensors").config == tiny("siamfc").model
    assert (tmp_path / "work" / "run" / "curves.png").is_file()
    for wrong in (["swiftly", str(footage), "v", "new"], ["swift", str(footage), "v", "new"], []):
        refused = ship(*wrong)
        assert refused.returncode == 2 and "siamfc" in refused.stderr and not (tmp_path / "new").exists()


def test_command_line_errors_are_one_line(tmp_path, capsys):
    config = str(ROOT / "configs" / "swift.yaml")
    assert main(["fit", "--config", config, "--store", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "not a finished store" in capsys.readouterr().err
    assert main(["fit", "--config", "nothing.yaml", "--store", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert main(["prepare", str(tmp_path), "--store", str(tmp_path / "s")]) == 2
    assert "in no known layout" in capsys.readouterr().err


def test_siamfc_sampler_crops_at_the_papers_scale(store):
    pair = sampler(store, SIAMFC, mix={"clips": 1.0}, scale_jitter=0.0, **PLAIN)[0]
    assert pair.exemplar.shape == (127, 127, 3) and pair.search.shape == (191, 191, 3)
    assert pair.box_search[2] == pytest.approx(127 / 2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sides", [(SIDE, SIDE), (150, 260)])
def test_a_turned_crop_shows_the_target_where_its_box_says(store, seed, sides):
    cfg = replace(tiny().pairs, turn=0.5)
    sampler = PairSampler(store, cfg, SWIFT, SIDE, 1)
    frame = np.zeros((240, 320, 3), np.uint8)
    cv2.ellipse(frame, (160, 120), (24, 18), 0, 0, 360, (255, 255, 255), -1)
    window = CropWindow.around((150, 125), *sides, SIDE)
    place = Place(window.to_crop((136, 102, 49, 37)), *window.scale)
    image, turned = sampler._turned(frame, window, place, (0, 0, 0), np.random.default_rng(seed))
    assert cv2.boundingRect((image[..., 0] > 127).astype(np.uint8)) == pytest.approx(turned.box, abs=2)
