"""The tracker with an oracle instead of a network, so that only its own arithmetic is judged, and with real ones."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker import Result, Target, Tracker
from tracker.backends import pick_device
from tracker.checkpoints import load_network, save_network
from tracker.config import NANO, SIAMFC, SWIFT, PyramidTracking
from tracker.engine import Refined, View
from tracker.geometry import Box, CropWindow, iou
from tracker.kernels import stretched
from tracker.loading import weight_names
from tracker.network import build_network
from tracker.scene import Scene
from tracker.tracker import check_frame
from train.labels import ellipse_labels


@pytest.fixture(scope="module", params=[SIAMFC, SWIFT, NANO], ids=["siamfc", "swift", "swift-nano"])
def built(request):
    torch.manual_seed(0)
    return Tracker(build_network(request.param), device="cpu")


@pytest.fixture
def tracker(built):
    built.target = None
    return built


def oracle(tracker, monkeypatch, truth):
    """Put in place of the network one that knows `truth()` (frame px) and says it with labels."""
    grid = tracker.engine.grid

    def see(frame, window):
        box = window.to_crop(truth())
        if tracker.config.network != "siamfc":
            labels = ellipse_labels(torch.tensor([box], dtype=torch.float64), grid)
            # box distances from the label of every cell, also outside the box, where an oracle may be exact
            cx, cy = box.centre
            d = np.stack(np.broadcast_arrays(
                grid.centres[None, :] - cx + box.w / 2, grid.centres[:, None] - cy + box.h / 2,
                cx + box.w / 2 - grid.centres[None, :], cy + box.h / 2 - grid.centres[:, None]))  # fmt: skip
            inside = labels.box_weight[0].numpy() > 0
            assert np.allclose(labels.box_map[0].numpy()[:, inside], d[:, inside])
            if not (0 <= cx < window.size and 0 <= cy < window.size):  # nobody sees a target that is not there
                d = np.full_like(d, 24.0)
            return np.where(labels.score[0].numpy() == 1, 9.0, -9.0), d
        # a smooth bump, highest at the scale at which the target has the exemplar's size
        cx, cy = box.centre
        dx, dy = grid.centres - cx, grid.centres - cy
        bump = np.exp(-(dx[None, :] ** 2 + dy[:, None] ** 2) / (2 * 20.0**2))
        return ((1 - abs(np.log(np.sqrt(box.w * box.h) / (tracker.config.exemplar_size / 2)))) * bump,)

    def look(frame, asked):
        seen = []
        for sought, windows in asked:
            maps = [[np.float32(m) for m in see(frame, window)] for window in windows]
            if tracker.config.network != "siamfc":
                maps = [(logits, stretched(d[None], sought.stretch[None])[0]) for logits, d in maps]
            seen.append([View(frame, window, *m) for window, m in zip(windows, maps, strict=True)])
        return seen

    monkeypatch.setattr(tracker.engine, "look", look)

    def refine(sought, places):
        return [Refined(view.box(peak), 0.0, None) for view, peak in places]

    monkeypatch.setattr(tracker.engine, "refine", refine)


FRAME = np.zeros((240, 320, 3), np.uint8)


def test_a_still_target_returns_the_same_box_for_100_frames(tracker, monkeypatch):
    truth = Box(100.3, 80.7, 40.0, 40.0)
    oracle(tracker, monkeypatch, lambda: truth)
    target = tracker.init(FRAME, truth)
    for _ in range(100):
        result = tracker.update(FRAME, target)
    assert result.box == pytest.approx(truth, abs=1e-3)  # float32 maps


def test_a_moving_growing_target_is_followed(tracker, monkeypatch):
    truth = Box(60, 60, 40, 40)
    oracle(tracker, monkeypatch, lambda: truth)
    tracker.init(FRAME, truth)
    for i in range(40):
        size = 40 * 1.01**i
        truth = Box.from_centre(80 + 3 * i, 80 + i, size, size)
        result = tracker.update(FRAME)
    assert iou(result.box, truth) > 0.8


@pytest.mark.parametrize("built", [SWIFT, NANO], indirect=True)
def test_a_target_that_gets_faster_is_searched_where_it_will_be(tracker, monkeypatch):
    """In the end it moves by more than two of its sizes a frame, out of a window around its last place."""
    frame, truth = np.zeros((240, 1600, 3), np.uint8), Box(40, 100, 40, 40)
    oracle(tracker, monkeypatch, lambda: truth)
    tracker.init(frame, truth)
    for i in range(1, 13):
        truth = truth._replace(x=truth.x + 8 * i)
        assert iou(tracker.update(frame).box, truth) > 0.8


def test_the_last_place_of_a_fast_target_stays_in_view():
    box = Box(100, 100, 40, 20)
    still = SWIFT.search_window(box)
    fast = SWIFT.search_window(box, velocity=(10, -1000))
    assert (fast.w, fast.h, fast.x) == (still.w, still.h, pytest.approx(still.x + 10))
    assert fast.y + fast.h == pytest.approx(box.y + box.h)  # it touches the edge


@pytest.mark.parametrize("built", [SWIFT], indirect=True)
@pytest.mark.parametrize(("drawn", "factor"), [(1.21, 1.1), (1.0, 1.0), (9.0, 1.4**0.5)])
def test_half_of_how_the_first_box_was_drawn_is_kept(tracker, monkeypatch, drawn, factor):
    """The oracle sees 40 x 40; who drew the first box made it wider (beyond a factor of 1.4 it is something else)."""
    seen = Box.from_centre(160, 120, 40, 40)
    oracle(tracker, monkeypatch, lambda: seen)
    target = tracker.init(FRAME, Box.from_centre(160, 120, 40 * drawn, 40))
    assert target.appearance.stretch == pytest.approx([factor, 1], rel=1e-4)
    for _ in range(60):
        tracker.update(FRAME, target)
    assert target.box == pytest.approx(Box.from_centre(160, 120, 40 * factor, 40), abs=0.05)
    assert tracker.init(FRAME, seen).appearance.stretch == pytest.approx(1, rel=1e-4)
    assert target.appearance.stretch[0] > 1 - 1e-4


@pytest.mark.parametrize("move", ["translate", "mirror", "zoom"])
def test_moving_mirroring_and_zooming_the_world_does_the_same_to_the_boxes(tracker, monkeypatch, move):
    def path(i):
        return Box.from_centre(100 + 4 * i, 90 + 2 * i, 40 + i, 40 + i)

    change = {
        "translate": lambda b: Box(b.x + 31, b.y - 17, b.w, b.h),
        "mirror": lambda b: Box(320 - b.x - b.w, b.y, b.w, b.h),
        "zoom": lambda b: Box(2 * b.x, 2 * b.y, 2 * b.w, 2 * b.h),
    }[move]
    frames = {"zoom": np.zeros((480, 640, 3), np.uint8)}
    runs = []
    for look in (lambda b: b, change):
        frame = FRAME if len(runs) == 0 else frames.get(move, FRAME)
        truth = look(path(0))
        with monkeypatch.context() as patch:
            oracle(tracker, patch, lambda: truth)  # noqa: B023 (read at once)
            tracker.init(frame, truth)
            boxes = []
            for i in range(1, 12):
                truth = look(path(i))
                boxes.append(tracker.update(frame).box)
        runs.append(boxes)
    for a, b in zip(*runs, strict=True):
        assert b == pytest.approx(change(a), abs=0.02)


def test_no_input_is_mutated_and_runs_repeat(tracker, photo):
    before = photo.copy()
    runs = []
    for _ in range(2):
        tracker.init(photo, (100, 80, 50, 40))
        runs.append([tracker.update(photo).box for _ in range(3)])
    assert np.array_equal(photo, before)
    assert runs[0] == runs[1]


def test_many_targets_in_one_pass_equal_one_by_one(tracker, photo):
    boxes = [(60, 60, 40, 40), (150, 90, 30, 60), (220, 150, 50, 30)]
    alone = []
    for box in boxes:
        target = tracker.init(photo, box)
        alone.append([tracker.update(photo, target) for _ in range(2)][-1])
    targets = [tracker.init(photo, box) for box in boxes]
    for _ in range(2):
        together = tracker.update_all(photo, targets)
    for a, b, target in zip(alone, together, targets, strict=True):
        assert b.box == pytest.approx(a.box, abs=0.05) and b.score == pytest.approx(a.score, abs=1e-3)
        assert target.box == b.box
    assert tracker.update_all(photo, []) == []
    assert len(tracker.update_all(photo, (target for target in targets))) == 3  # any iterable


def test_a_target_that_is_none_or_of_another_network_is_refused(photo):
    swift, siamfc = Tracker.load("swift"), Tracker.load("siamfc")
    net = load_network("tracker/weights/swift.safetensors")
    net.config = replace(net.config, confidence=None)
    target = swift.init(photo, (60, 60, 40, 40))
    with pytest.raises(ValueError, match="made by a tracker with another network or engine; init it with this one"):
        siamfc.update(photo, target)
    with pytest.raises(ValueError, match="made by a tracker that was not calibrated; init it with this one"):
        swift.update(photo, Tracker(net).init(photo, (60, 60, 40, 40)))
    with pytest.raises(TypeError, match="a target is what init returns; got tuple"):
        swift.update(photo, (60, 60, 40, 40))
    with pytest.raises(TypeError, match=r"frame must be a numpy array .* got Target"):
        swift.update(target, photo)
    assert target.box == swift.target.box


def test_targets_do_not_share_state(tracker, photo):
    a, b = tracker.init(photo, (60, 60, 40, 40)), tracker.init(photo, (150, 90, 30, 60))
    assert tracker.target is b
    before = b.box
    tracker.update(photo, a)
    assert b.box == before


def test_grey_and_bgra_frames_are_converted(tracker, photo):
    grey = photo[:, :, 0]
    results = []
    for frame in (grey, grey[:, :, None], np.repeat(grey[:, :, None], 3, 2), np.dstack([grey] * 3 + [grey * 0])):
        tracker.init(frame, (100, 80, 50, 40))
        results.append(tracker.update(frame).box)
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (None, TypeError, "numpy array"),
        (FRAME.astype(np.float32), TypeError, "float32"),
        (FRAME.astype(np.uint16), TypeError, "uint16"),
        (FRAME[:0], ValueError, "empty"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"\(4, 4, 2\)"),
        (np.zeros(9, np.uint8), ValueError, "shape"),
    ],
)
def test_bad_frames_are_refused_by_name(tracker, frame, error, message):
    with pytest.raises(error, match=message):
        check_frame(frame)
    with pytest.raises(error, match=message):
        tracker.init(frame, (1, 1, 5, 5))
    tracker.init(FRAME, (10, 10, 20, 20))
    with pytest.raises(error, match=message):
        tracker.update(frame)


def test_bad_boxes_are_refused(tracker):
    for box in [(0, 0, 0, 5), (400, 0, 5, 5), (np.nan, 0, 5, 5)]:
        with pytest.raises(ValueError, match="box"):
            tracker.init(FRAME, box)


def test_update_before_init(tracker):
    with pytest.raises(RuntimeError, match="update before init"):
        tracker.update(FRAME)


def test_the_frame_size_may_change(tracker, photo):
    tracker.init(photo, (100, 80, 50, 40))
    box = tracker.update(np.ascontiguousarray(photo[:100, :120])).box
    assert 0 <= box.x + box.w / 2 <= 120 and 0 <= box.y + box.h / 2 <= 100


@pytest.mark.parametrize("built", [SWIFT], indirect=True)
@pytest.mark.parametrize(
    ("box", "height", "width", "seen"),
    [
        ((100, 20, 30, 200), 150, 320, None),  # another shape, too low for the target
        ((20, 100, 200, 30), 240, 150, None),  # or too narrow
        ((100, 100, 40, 3), 120, 160, None),  # the same picture, but the target is less than 2 px high
        ((100, 100, 40, 5), 120, 160, (50, 50, 20, 2.5)),
        ((100, 100, 40, 30), 160, 320, (100, 100, 40, 30)),  # another shape: the target stays where it is
    ],
)
def test_a_frame_of_another_size_is_looked_at_if_the_target_has_room(tracker, monkeypatch, box, height, width, seen):
    oracle(tracker, monkeypatch, lambda: Box(*(seen or box)))
    target = tracker.init(FRAME, box)
    result = tracker.update(np.zeros((height, width, 3), np.uint8), target)
    if seen:
        assert result.state == "tracking" and result.box == pytest.approx(seen, abs=0.5)
    else:
        assert (result.state, result.score, target.box) == ("uncertain", 0.0, box)


def test_a_target_in_frames_of_another_size_keeps_its_speed_and_the_place_in_the_kept_frame():
    tracker = Tracker.load("swift", device="cpu")
    target = tracker.init(FRAME, (100, 80, 50, 40))
    target.followed = replace(target.followed, velocity=(8.0, 4.0))
    target.frame_size = 300, 200  # frames have had another shape since the kept one, which is 320 x 240
    assert target.fit(150, 100)
    assert target.followed.velocity == (4.0, 2.0) and target.kept.box == (50, 40, 25, 20)
    assert target.kept.frame.shape == (120, 160, 3)


def test_a_frame_without_room_is_answered_with_the_last_box(tracker, photo):
    target = tracker.init(photo, (100, 80, 50, 40))
    for shift in (4, 8, 12):
        last = tracker.update(np.roll(photo, shift, axis=1), target)
    assert tracker.update(np.zeros((8, 8, 3), np.uint8), target).box.centre[0] <= 8  # brought into the frame
    assert target.box == last.box and target.followed.box == last.box


@pytest.mark.parametrize("built", [SWIFT], indirect=True)
def test_the_stages_are_parts_of_the_time_that_an_update_takes(tracker, photo):
    target, shares = tracker.init(photo, (100, 80, 50, 40)), []
    for _ in range(5):
        begin = time.perf_counter()
        result = tracker.update(photo, target)
        took = 1e3 * (time.perf_counter() - begin)
        stages = result.crop_ms, result.network_ms, result.post_ms
        assert min(stages) > 0 and sum(stages) <= took
        shares.append(sum(stages) / took)
    assert max(shares) > 0.5


def test_results_are_finite_at_the_borders_and_for_tiny_targets(tracker, photo):
    for box in [(-20, -20, 30, 30), (310, 230, 30, 30), (100, 100, 0.5, 0.5), (0, 0, 320, 240)]:
        tracker.init(photo, box)
        for _ in range(3):
            result = tracker.update(photo)
        assert np.isfinite(result.box).all() and min(result.box.w, result.box.h) >= 2 and 0 <= result.score <= 1
        assert result.crop_ms >= 0 and result.network_ms > 0 and result.post_ms >= 0


def test_load_by_name_and_by_file(tmp_path):
    assert {"swift", "siamfc"} <= set(weight_names())
    net = build_network(SWIFT)
    save_network(net, tmp_path / "mine.safetensors")
    assert Tracker.load(tmp_path / "mine.safetensors").config == SWIFT
    with pytest.raises(ValueError, match=r"neither a file nor one of .*swift"):
        Tracker.load("swit")
    assert all(isinstance(x, type) for x in (Result, Target))


def test_five_scales(photo):
    five = PyramidTracking(num_scales=5, scale_step=1.025)
    tracker = Tracker(build_network(SIAMFC), tracking=five)
    sides = np.array([w.w for w in tracker.policy.windows(FRAME, tracker.init(FRAME, (100, 80, 40, 40)))])
    assert sides / sides[2] == pytest.approx(1.025 ** np.arange(-2.0, 3.0))
    tracker.init(photo, (100, 80, 50, 40))
    assert 0 <= tracker.update(photo).score <= 1
    with pytest.raises(ValueError, match="network swift takes BoxTracking"):
        Tracker(build_network(SWIFT), tracking=five)


def test_devices_and_threads_are_checked(tracker):
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cuda", "mps", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device 'cuda' here"):
            pick_device("cuda")
    with pytest.raises(ValueError, match="no device 'gpu'"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="threads"):
        Tracker(build_network(SWIFT), threads=0)


def test_the_threads_of_the_process_are_left_alone_unless_a_number_is_given(monkeypatch):
    """Only what PyTorch is told is looked at: two threads on a busy machine wait for each other for minutes."""
    net, told = build_network(SWIFT), []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    Tracker(net, device="cpu", engine="torch")
    Tracker(net, device="cpu", engine="onnxruntime", threads=1)  # has threads of its own
    assert told == []
    Tracker(net, device="cpu", engine="torch", threads=1)
    assert told == [1]


def test_the_searched_window_is_centred_and_scaled(tracker):
    windows = tracker.policy.windows(FRAME, tracker.init(FRAME, (100, 80, 40, 40)))
    sides = [w.w for w in windows]
    assert len(windows) == (3 if tracker.config.network == "siamfc" else 1)
    assert sides[len(sides) // 2] == pytest.approx(tracker.config.search_window(Box(100, 80, 40, 40)).w)
    for window in windows:
        assert isinstance(window, CropWindow)
        assert (window.x + window.w / 2, window.y + window.h / 2) == pytest.approx((120, 100))
        assert window.w == window.h


def test_a_hopeless_response_is_a_score_of_zero_and_not_an_overflow(monkeypatch):
    tracker = Tracker(build_network(SIAMFC))
    tracker.init(FRAME, (10, 10, 20, 20))
    cells = tracker.engine.grid.cells
    nothing = np.full((cells, cells), -1e4, np.float32)
    monkeypatch.setattr(tracker.engine, "look", lambda frame, asked: [[View(frame, w, nothing) for w in asked[0][1]]])
    assert tracker.update(FRAME).score == 0


def test_a_target_is_equal_to_itself_only_and_short_to_print(tracker, photo):
    target, other = (tracker.init(photo, (60, 50, 90, 80)) for _ in range(2))
    assert target == target and target != other
    assert {target: "one", other: "two"}[target] == "one"
    assert len(repr(target)) < 300


def test_swift_nano_is_small_and_follows_a_scene():
    """A rendered target that moves, turns and grows."""
    assert Path("tracker/weights/swift-nano.safetensors").stat().st_size < 2e6
    scene = Scene((320, 240), 60, seed=5)
    tracker = Tracker.load("swift-nano", device="cpu")
    tracker.init(scene.render(0), scene.box(0))
    overlaps = [float(iou(tracker.update(scene.render(t)).box, scene.box(t))) for t in range(1, 40)]
    assert np.mean(overlaps) > 0.8 and min(overlaps) > 0.5


def test_a_budget_is_shared_by_the_targets_that_are_lost():
    tracker = Tracker.load("swift", device="cpu", engine="torch", budget_ms=1e5)
    assert tracker.passes > 100
    targets = [tracker.init(FRAME, (20 * k, 20, 30, 30)) for k in range(4)]
    for passes, shares in (
        (100, [[1, 1, 1, 1]]),
        (None, [[1, 1, 1, 1]]),
    ):
        tracker.passes = passes
        assert [tracker._shares(targets) for _ in shares] == shares
    targets[1].state = targets[3].state = "lost"
    for passes, shares in (
        (None, [[1, 4, 1, 4]]),  # nobody set one
        (20, [[1, 9, 1, 9]]),  # all of it is used
        (10, [[1, 4, 1, 4]]),
        (7, [[1, 4, 1, 1], [1, 1, 1, 4], [1, 4, 1, 1]]),  # in turn
        (1, [[1, 4, 1, 1], [1, 1, 1, 4]]),  # too little for any: one of them
    ):
        tracker.passes = passes
        for target in targets:
            target.served = 0
        assert [tracker._shares(targets) for _ in shares] == shares
    targets[0].state = "lost"
    tracker.passes = 10
    for target in targets:
        target.served = 0
    assert [tracker._shares(targets) for _ in range(3)] == [[4, 4, 1, 1], [4, 1, 1, 4], [1, 4, 1, 4]]  # two of three


def test_no_lost_target_is_left_out_where_groups_of_targets_take_turns():
    tracker = Tracker.load("swift", device="cpu", engine="onnxruntime", budget_ms=1)
    scene = Scene((320, 240), 20, seed=3)
    groups = [[tracker.init(scene.render(0), scene.box(0)) for _ in range(2)] for _ in range(2)]
    for group in groups:
        for target in group:
            target.state, target.kept = "lost", None
    for _ in range(4):
        for group in groups:
            tracker.update_all(np.full((240, 320, 3), 90, np.uint8), group)
    assert all(target.scan > 0 for group in groups for target in group)  # each was searched elsewhere, too


def test_a_target_is_followed_once_a_frame():
    tracker = Tracker(build_network(NANO), device="cpu")
    target = tracker.init(FRAME, (20, 20, 30, 30))
    with pytest.raises(ValueError, match="a target was given twice"):
        tracker.update_all(FRAME, [target, target])


@pytest.mark.parametrize("budget", [0, -1.0, float("nan")])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(ValueError, match="budget_ms must be above 0"):
        Tracker(build_network(SIAMFC), budget_ms=budget)


def test_half_a_millisecond_is_a_budget():
    assert Tracker(build_network(NANO), device="cpu", budget_ms=0.5).passes == 0  # each target gets one pass


COMPILED = """
from tracker import Tracker, kernels, pyramid
from tracker.scene import Scene

def versions(room):
    return {name: len(one.signatures) for name, one in vars(room).items() if hasattr(one, "signatures")}

tracker, scene = Tracker.load("swift", "cpu"), Scene((320, 240), 20, seed=3)
assert not sum(versions(pyramid).values()), "what another network runs costs no time"
ready = versions(kernels)
tracker.init(scene.render(0), scene.box(0))
shown = [scene.render(1), *6 * [0 * scene.render(2)], *(scene.render(k)[::-1] for k in range(8, 20))]
states = [tracker.update(frame).state for frame in shown]
assert "lost" in states and versions(kernels) == ready, versions(kernels)
"""


def test_no_frame_waits_for_a_compiler():
    """In a process in which no other test has compiled anything."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)
