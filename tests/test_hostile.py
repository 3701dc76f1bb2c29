"""What frames, boxes, weight files and programs around it do to a tracker: a documented error, or a box that holds."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tracker import SiamtrackError, Tracker, frames
from tracker.config import SIAMFC, LongTerm, ModelConfig, load_yaml, to_dict
from tracker.crop import MOST_SIDE
from tracker.errors import CheckpointError
from tracker.geometry import iou
from tracker.network import build_network
from tracker.scene import Scene
from tracker.similarity import load_similarity

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def swift():
    return Tracker.load("swift", device="cpu")


@pytest.fixture(scope="module")
def film():
    """Frames of a rendered scene (640 x 360) and the truth."""
    scene = Scene((640, 360), 30, seed=3, occlusion=False)
    return [scene.render(t) for t in range(30)], [scene.box(t) for t in range(30)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_frame_too_wide_for_opencv_is_refused_and_others_are_followed(swift, photo, turned):
    wide = np.zeros((120, 2**15 + 300, 3), np.uint8)
    wide[:, -200:] = photo[:120, :200]
    frame, box = (wide.swapaxes(0, 1), (40, 2**15 + 160, 40, 40)) if turned else (wide, (2**15 + 160, 40, 40, 40))
    if max(frame.shape) > MOST_SIDE:
        with pytest.raises(ValueError, match="a side of more than 32766 px, which wants OpenCV 5"):
            swift.init(frame, box)
        frame, box = (frame[302:], (40, 2**15 - 142, 40, 40)) if turned else (frame[:, 302:], (2**15 - 142, 40, 40, 40))
        assert max(frame.shape) <= MOST_SIDE
    target = swift.init(frame, box)
    assert iou(swift.update(frame, target).box, box) > 0.6


# --- frames of another size


GLITCHES = {
    "one pixel": lambda image: image[:1, :1],
    "eight pixels": lambda image: image[:8, :8],
    "a corner": lambda image: image[:36, :64],
    "a strip": lambda image: image[:4],
    "half": lambda image: image[::2, ::2],
    "black": np.zeros_like,
}


@pytest.mark.parametrize("glitch", GLITCHES.values(), ids=GLITCHES)
def test_one_bad_frame_costs_no_target(swift, film, glitch):
    frames, truth = film
    swift.init(frames[0], truth[0])
    for t in range(1, 10):
        swift.update(frames[t])
    bad = np.ascontiguousarray(glitch(frames[10]))
    box = swift.update(bad).box
    high, wide = bad.shape[:2]
    assert 0 <= box.centre[0] <= wide and 0 <= box.centre[1] <= high and box.w <= wide and box.h <= high
    overlaps = [float(iou(swift.update(frames[t]).box, truth[t])) for t in range(11, 30)]
    assert min(overlaps[3:]) > 0.5, overlaps


def test_a_frame_too_small_for_the_target_teaches_nothing(swift, film):
    frames, truth = film
    target = swift.init(frames[0], truth[0])
    swift.update(frames[1])
    before = dict(vars(target))
    result = swift.update(np.ascontiguousarray(frames[2][:4, :4]))
    assert result.state == "uncertain" and result.score == 0 and vars(target) == before


def test_a_leap_in_size_is_believed_when_it_comes_twice(swift, film):
    """A frame of a tenth of the sides is more likely one bad frame; a corner is what cameras send then."""
    frames, truth = film
    target = swift.init(frames[0], truth[0])
    swift.update(frames[1], target)
    before = target.box
    corner = np.ascontiguousarray(frames[2][:36, :64])
    assert swift.update(corner, target).state == "uncertain" and target.box == before
    swift.update(frames[3], target)
    before = target.box
    assert swift.update(corner, target).state == "uncertain" and target.box == before  # one more, but not in a row
    swift.update(corner, target)
    assert target.frame_size == (64, 36) and target.box.w < before.w / 4


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_the_same_picture_at_another_size_scales_the_target_along(swift, film, factor):
    frames, truth = film
    known = swift.init(frames[0], truth[0])
    wanted = [swift.update(frame, known).box for frame in frames[1:20]]
    target = swift.init(frames[0], truth[0])
    for frame in frames[1:10]:
        swift.update(frame)
    for frame, box in zip(frames[10:20], wanted[9:], strict=True):
        result = swift.update(cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
        assert result.state == "tracking" and iou(result.box, box.scaled(factor, factor)) > 0.75
    assert target.kept.frame.shape[:2] == (360 * factor, 640 * factor)


# --- boxes


@pytest.mark.parametrize(
    "box",
    [((40, 50), (80, 80)), "1234", ["1", "2", "30", "40"], [[40], [50], [80], [80]], {40, 50, 60, 70}, None, True,
     [1, 2, None, 3], [1 + 2j, 2, 3, 4], [[1, 2], [3]], [1, 2, 3, float("nan")], [1, 2, 3, float("inf")],
     [1, 2, 3, 10**400], [True, True, True, True]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_box_is_refused(swift, film, box):
    with pytest.raises(ValueError, match="four finite numbers"):
        swift.init(film[0][0], box)


@pytest.mark.parametrize("box", [(10, 10, 1e-9, 50), (10, 10, 50, 1e-300), (10, 10, 1e-6, 1e-6), (0, 0, 6400, 1e-3)])
def test_a_thin_box_ends_neither_itself_nor_others(swift, film, box):
    frames, truth = film
    good, thin = swift.init(frames[0], truth[0]), swift.init(frames[0], box)
    for t in range(1, 6):
        results = swift.update_all(frames[t], [thin, good])
        assert all(np.isfinite(r.box).all() and min(r.box.w, r.box.h) >= 2 for r in results)
    assert iou(results[1].box, truth[5]) > 0.6


# --- programs around it


def test_the_default_dtype_of_a_program_is_its_own_affair(film):
    frames, truth = film
    torch.set_default_dtype(torch.float64)
    try:
        for engine in ("auto", "torch"):
            tracker = Tracker.load("swift", engine=engine)
            tracker.init(frames[0], truth[0])
            assert iou(tracker.update(frames[1]).box, truth[1]) > 0.6
    finally:
        torch.set_default_dtype(torch.float32)


def test_threads_may_load_at_once(swift, film):
    frames, truth = film
    swift.init(frames[0], truth[0])
    wanted = swift.update(frames[1]).box
    found = []

    def work():
        tracker = Tracker.load("swift", device="cpu")
        tracker.init(frames[0], truth[0])
        found.append(tracker.update(frames[1]).box)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="there is no machine code")
def test_machine_code_is_kept_where_it_can_be_and_is_made_again_where_not():
    """Code without a file has no place for it, as a package without a writable folder and a home has none."""
    code = "import numba\nfrom tracker.kernels import compiled\nadd = lambda x: x + 1\nprint(compiled(add)(1))\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.stdout == "2\n", run.stderr
    code += "numba.njit(cache=True)(add)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "cannot cache function" in run.stderr  # else this would show nothing


# --- weight files


def lie(path, name="swift", **changes):
    """Write shipped weights with other values in their config; "a__b" is b in a."""
    shipped = ROOT / "tracker" / "weights" / f"{name}.safetensors"
    with safe_open(shipped, "pt") as file:
        config = json.loads(file.metadata()["config"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    for key, value in changes.items():
        *places, last = key.split("__")
        place = config
        for one in places:
            place = place[one]
        place[last] = value
    path.write_bytes(save(state, metadata={"config": json.dumps(config)}))
    return path


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("siamfc", {"tracking__num_scales": 10**6}, "tracking.num_scales: 1000000 is not from 1 to 15"),
        ("siamfc", {"tracking__upsample": 0}, "tracking.upsample: 0 is not from 1 to 64"),
        ("siamfc", {"tracking__scale_step": 1e300}, "tracking.scale_step"),
        ("siamfc", {"tracking__scale_penalty": 0.0}, "tracking.scale_penalty: 0.0 is not from 0.01 to 1"),
        ("siamfc", {"tracking__scale_penalty": NAN}, "tracking.scale_penalty: nan is not a finite number"),
        ("siamfc", {"search_size": 10**9}, "search_size: 1000000000 is not from 16 to 2000"),
        ("siamfc", {"search_size": 10**400}, "search_size: .* is not a finite number"),
        ("siamfc", {"exemplar_size": 40}, "exemplar_size: siamfc needs 87 px"),
        ("swift", {"confidence__following__weights": [1.0]}, "confidence.following: 1 weights for 8 kinds"),
        ("swift", {"confidence__following__bias": NAN}, "confidence.following.bias: nan"),
        ("swift", {"confidence__rules": to_dict(LongTerm()) | {"windows": 10**7}}, "confidence.rules.windows"),
        ("swift", {"crops__search": 1e9}, "crops.search"),
    ],
)
def test_a_config_in_weights_that_lies_is_refused_by_name(tmp_path, name, changes, message):
    with pytest.raises(CheckpointError, match=message):
        Tracker.load(lie(tmp_path / "a.safetensors", name, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 10**6}, "size: 1000000"),
        ({"embedding": 10**9}, "embedding"),
        ({"widths": [10**5] * 4}, "entries differ"),  # which would be 360 GB
        ({"widths": [10**9]}, "widths"),
        ({"threshold": NAN}, "threshold: nan"),
        ({"context_amount": 1e300}, "context_amount"),
    ],
)
def test_a_similarity_network_that_lies_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_similarity(lie(tmp_path / "a.safetensors", "similarity/verifier", **changes))


def test_weights_that_are_no_numbers_and_configs_that_are_no_configs(tmp_path):
    path = tmp_path / "a.safetensors"
    state = build_network(SIAMFC).state_dict()
    first = next(key for key in state if not key.endswith("num_batches_tracked"))
    for value, config, message in [
        (NAN, json.dumps(to_dict(SIAMFC)), "no numbers"),
        (0.0, "[" * 10**5, "not JSON: nested too deep"),
        (0.0, '{"network": ' + "1" * 5000 + "}", "not JSON"),
        (0.0, "[]", "expected a mapping"),
    ]:
        changed = {key: value_.contiguous() for key, value_ in state.items() if not key.endswith("num_batches_tracked")}
        changed[first] = torch.full_like(changed[first], value)
        path.write_bytes(save(changed, metadata={"config": config}))
        with pytest.raises(CheckpointError, match=message):
            Tracker.load(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_weight_file_is_refused(tmp_path, share):
    data = (ROOT / "tracker" / "weights" / "similarity" / "verifier.safetensors").read_bytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="truncated or foreign"):
        load_similarity(path)


# --- one root for what goes wrong


def test_every_kind_of_bad_input_has_one_root_and_is_what_python_calls_it(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "a.yaml").write_text("a: 1")
    for usual, act in [
        (ValueError, lambda: load_similarity(tmp_path / "a.safetensors")),
        (OSError, lambda: frames(tmp_path / "a.mp4")),
        (ValueError, lambda: load_yaml(ModelConfig, tmp_path / "a.yaml")),
    ]:
        with pytest.raises(SiamtrackError) as caught:
            act()
        assert isinstance(caught.value, usual) and str(tmp_path) in str(caught.value)
