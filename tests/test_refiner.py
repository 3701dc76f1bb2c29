"""The refiner: what it samples is where it says, boxes move as it says, and it learns from boxes that miss."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from footage import tiny

from tracker import Tracker
from tracker.config import SWIFT
from tracker.errors import ConfigError
from tracker.geometry import Box, iou
from tracker.heads import Maps, Refiner, bilinear
from tracker.network import build_network
from tracker.scene import Scene
from train.config import RefinerLoss
from train.losses import generalised_iou
from train.run import Run
from train.tasks.refiner import MISSES, draw_misses, first_boxes, refine_loss
from train.tasks.tracker import TrackerTask, make_batch

SIZE = 209


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    refiner = Refiner((3, 2, 1)).double().eval()
    torch.nn.init.normal_(refiner.out[-1].weight, std=0.05)
    return refiner


def levels_of(n, channels=(3, 2, 1)):
    torch.manual_seed(1)
    return [torch.rand(n, c, -(-SIZE // s), -(-SIZE // s)).double() for c, s in zip(channels, (4, 8, 16), strict=True)]


def raw(refiner, levels, boxes):
    """What is sampled, before any layer."""
    refiner.narrow = torch.nn.Identity()
    return refiner.patches(levels, boxes)


# --- sampling


def test_samples_equal_the_twin(refiner):
    levels = levels_of(2)
    boxes = torch.tensor(
        [[[100, 90, 50, 30], [20, 200, 60, 80.0]], [[104.5, 104.5, 10, 10], [60, 70, 33, 44]]]
    ).double()
    seen = raw(refiner, levels, boxes).view(2, 2, 6, 16, 16)
    for n in range(2):
        for k in range(2):
            cx, cy, w, h = boxes[n, k].tolist()
            low = 0
            for level, stride in zip(levels, (4, 8, 16), strict=True):
                twin = reference.sample_region(level[n].numpy(), (cx, cy, w, h), 1.6, 16, stride, SIZE)
                assert np.allclose(seen[n, k, low : low + len(twin)], twin)
                low += len(twin)


def test_a_linear_map_is_read_exactly_where_the_grid_lies(refiner):
    """Sampling px from maps that hold their own px: the grid is REGION times the box, about its centre."""
    levels = []
    for stride in Refiner.STRIDES:
        cells = -(-SIZE // stride)
        at = (SIZE - (cells - 1) * stride) / 2 + stride * torch.arange(cells).double()
        levels.append(torch.stack([at[None, :].expand(cells, -1), at[:, None].expand(-1, cells)])[None])
    seen = raw(refiner, levels, torch.tensor([[[100.0, 90.0, 48.0, 32.0]]]).double())[0].view(3, 2, 16, 16)
    for x, y in seen:
        assert torch.allclose(x.mean(), torch.tensor(100.0).double()) and torch.allclose(
            x[:, -1] - x[:, 0], x.new_full((16,), 72)
        )
        assert torch.allclose(y.mean(), torch.tensor(90.0).double()) and torch.allclose(
            y[-1] - y[0], y.new_full((16,), 48)
        )


def test_beyond_the_crop_there_is_nothing():
    weights = bilinear(torch.tensor([-100.0, 0.5, 104.5, 208.5, 400.0]), 53, 4)
    assert weights.sum(-1).tolist() == [0, 1, 1, 1, 0]


def test_the_template_sees_the_exemplars_box():
    """A box that lies in the search crop as the first one in the exemplar sees the same, if the footage is the same."""
    torch.manual_seed(0)
    net = build_network(replace(SWIFT, exemplar_size=SIZE, search_size=SIZE + 16)).eval()  # one crop serves as both
    image = 255 * torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        template = net.embed(image, torch.tensor([[0.3, 0.2]]))
        box = torch.tensor([[[SIZE / 2, SIZE / 2, 0.3 * SIZE, 0.2 * SIZE]]])
        assert torch.allclose(template.patch, net.refiner.patches(net.features(image), box), atol=1e-5)


# --- moving


def test_before_training_boxes_stay_as_they_are():
    net = build_network(SWIFT).eval()
    boxes = torch.rand(3, 4) * 50 + 50
    with torch.no_grad():
        seen = net.patches([level.float() for level in levels_of(3, (24, 32, 256))], boxes)
        found = net.refine(torch.rand(3, 64, 16, 16), seen, boxes)
    assert torch.equal(found[:, :4], boxes) and (found[:, 4] == 0).all()


def test_moves_are_in_sizes_of_the_box_and_bounded(refiner):
    template, patch = torch.rand(2, 64, 16, 16).double(), torch.rand(2, 64, 16, 16).double()
    boxes = torch.tensor([[100, 90, 50, 30.0], [10, 20, 5, 3.0]]).double()
    small = refiner(template[:1].expand(2, -1, -1, -1), patch[:1].expand(2, -1, -1, -1), boxes)
    moved = (small[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    assert (
        torch.allclose(moved[0], moved[1]) and torch.allclose(*(small[:, 2:4] / boxes[:, 2:])) and moved.abs().max() > 0
    )
    torch.nn.init.constant_(refiner.out[-1].bias, 100.0)
    most = refiner(template, patch, boxes)
    assert torch.allclose(most[:, :2], boxes[:, :2] + boxes[:, 2:])
    assert torch.allclose(most[:, 2:4], boxes[:, 2:] * np.e)


def test_the_engine_goes_the_configured_way_to_the_refined_box():
    """Along the line from the box of the peak to what the refiner makes of it."""
    scene, boxes = Scene((320, 240), 100, seed=3), []
    for share in (0.0, 0.5, 1.0):
        tracker = Tracker.load("swift", device="cpu", tracking=replace(SWIFT.tracking, refine=share))
        target = tracker.init(scene.render(0), scene.box(0))
        view = tracker.engine.look_once(scene.render(1), target.appearance, tracker.config.search_window(target.box))
        x, y, w, h = view.window.to_crop(scene.box(1))
        peak = np.array([x + 0.6 * w, y + h / 2, 1.2 * w, h, 3.0, 1.0, 0.9])
        boxes += tracker.engine.refine(target.appearance, [(view, peak)])
    assert boxes[0].box == pytest.approx(view.box(peak)) and boxes[0].quality == boxes[1].quality
    assert np.array(boxes[1].box) == pytest.approx((np.array(boxes[0].box) + np.array(boxes[2].box)) / 2)
    assert boxes[2].box != pytest.approx(boxes[0].box, abs=1)


# --- learning


def test_overlaps_equal_the_twins(rng):
    a, b = rng.uniform(10, 60, (2, 50, 4))
    common, general, _ = generalised_iou(torch.from_numpy(a), torch.from_numpy(b))
    corners = [[Box.from_centre(*box) for box in boxes.tolist()] for boxes in (a, b)]
    for k, (one, other) in enumerate(zip(*corners, strict=True)):
        assert float(common[k]) == pytest.approx(float(iou(one, other)))
        assert float(general[k]) == pytest.approx(reference.giou(one, other))


def test_first_boxes_are_the_peak_and_lie_around_the_target_or_the_peak():
    net = build_network(SWIFT)
    logits, box_map = torch.zeros(2, 14, 14), torch.full((2, 4, 14, 14), 20.0)
    logits[0, 3, 5] = logits[1, 9, 2] = 5.0
    centres = net.grid.centres
    target = torch.tensor([[120.0, 80.0, 40.0, 60.0], [104.5, 104.5, 0.0, 0.0]])
    present = torch.tensor([True, False])
    none = torch.zeros(2, len(MISSES), 4)
    boxes = first_boxes(net, Maps(logits, box_map), target, present, none)
    peaks = torch.tensor(
        [[centres[5], centres[3], 40.0, 40.0], [centres[2], centres[9], 40.0, 40.0]], dtype=torch.float32
    )
    assert torch.allclose(boxes[:, 0], peaks)
    for k, (around, *_) in enumerate(MISSES, 1):
        assert torch.allclose(boxes[0, k], peaks[0] if around else target[0])
        assert torch.allclose(boxes[1, k], peaks[1])
    misses = torch.tensor([0.5, -0.25, float(np.log(2.0)), 0.0]).expand(2, len(MISSES), 4)
    moved = first_boxes(net, Maps(logits, box_map), target, present, misses)
    assert torch.allclose(moved[0, 1], torch.tensor([140.0, 65.0, 80.0, 60.0]))


def test_misses_are_as_wide_as_declared():
    drawn = np.stack([draw_misses(np.random.default_rng(i)) for i in range(4000)])
    for k, (_, place, size) in enumerate(MISSES):
        assert drawn[:, k, :2].std() == pytest.approx(place, rel=0.05)
        assert drawn[:, k, 2:].std() == pytest.approx(size * np.hypot(1, 0.6), rel=0.05)
        assert np.corrcoef(drawn[:, k, 2:].T)[0, 1] == pytest.approx(1 / 1.36, abs=0.05)


def test_perfect_boxes_cost_less_and_absent_targets_teach_no_move(store):
    run = Run(TrackerTask(refining(), store), store.folder.parent / "perfect")
    batch = make_batch(run.task.sampler, 0, 4)
    net = run.net.eval()
    with torch.no_grad():
        template = net.embed(batch["exemplar"], batch["extent"])
        maps = net(template, batch["search"])
        still = torch.zeros_like(batch["misses"])
        exact, said = refine_loss(net, template, maps, batch["box"], still)
        missed, _ = refine_loss(net, template, maps, batch["box"], batch["misses"])
        gone, said_gone = refine_loss(net, template, maps, torch.zeros_like(batch["box"]), batch["misses"])
    assert exact < missed and said["peak_iou"] == said["refined_iou"]
    assert gone == pytest.approx(1.3 * np.log(2), rel=1e-4) and said_gone["peak_iou"] == 0


def refining(**optim):
    cfg = tiny("swift", **optim)
    alone = replace(cfg.optim, train="refiner")
    return replace(cfg, loss=RefinerLoss(1.0), pairs=replace(cfg.pairs, absent=0.0), optim=alone)


def test_the_refiner_learns_and_nothing_else_does(store, tmp_path):
    cfg = refining(lr=2e-3, warmup=0.0)
    run = Run(TrackerTask(cfg, store), tmp_path)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    batches = run.draw_step(0)
    losses = [run.train_step(batches, 0.0)["loss"] for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    changed = {k for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith("refiner.") for k in changed)


def test_the_features_learn_nothing_from_the_refiner(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    net, batch = run.net.requires_grad_(True), run.draw_step(0)[0]
    torch.nn.init.normal_(net.refiner.out[-1].weight, std=0.1)  # zeros would let no gradient through
    template = net.embed(batch["exemplar"], batch["extent"])
    loss, _ = refine_loss(net, template, net(template, batch["search"]), batch["box"], batch["misses"])
    loss.backward()
    learnt = {name for name, weight in net.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learnt and all(name.startswith("refiner.") for name in learnt)


def test_without_a_loss_the_refiner_stays_as_it_came(store, tmp_path):
    run = Run(TrackerTask(tiny("swift"), store), tmp_path)
    assert run.task.cfg.loss.refine == 0
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.train_step(run.draw_step(0), 0.0)
    changed = {k for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not any(k.startswith("refiner.") for k in changed)


def test_a_refiner_cannot_be_trained_where_there_is_none():
    with pytest.raises(ConfigError, match="of siamfc train all; got 'refiner'"):
        tiny("siamfc", train="refiner")
    with pytest.raises(ConfigError, match="of swift-nano train all or head; got 'refiner'"):
        tiny("swift-nano", train="refiner")
    with pytest.raises(ConfigError, match=r"swift with optim\.train refiner takes the keys refine"):
        tiny("swift", train="refiner")
    with pytest.raises(ConfigError, match=r"loss\.refine above 0"):
        replace(refining(), loss=RefinerLoss(0.0))


def test_the_shipped_refiner_mends_a_box():
    scene = Scene((320, 240), 100, seed=3)
    tracker = Tracker.load("swift", device="cpu", tracking=replace(SWIFT.tracking, refine=1.0))
    target = tracker.init(scene.render(0), scene.box(0))
    window, truth = tracker.config.search_window(target.box), Box(*scene.box(1))
    view = tracker.engine.look_once(scene.render(1), target.appearance, window)
    first = Box.from_centre(truth.centre[0] + 0.15 * truth.w, truth.centre[1], 1.25 * truth.w, 1.25 * truth.h)
    crop = window.to_crop(first)
    wrong = np.array([*crop.centre, crop.w, crop.h, 0, 1, 1])
    box = tracker.engine.refine(target.appearance, [(view, wrong)])[0].box
    assert iou(box, truth) > iou(first, truth) + 0.1
