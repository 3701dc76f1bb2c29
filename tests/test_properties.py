"""What may come from anywhere ends in the documented error or in a sound answer: no crash, no hang, no changed input.

A few dozen examples of each in the suite, the same every time (conftest.py); `make fuzz` draws thousands of new ones.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import Tracker, frames
from tracker.benchmark.peers.trax import decode, read_region
from tracker.checkpoints import load_network
from tracker.config import SIAMFC, SWIFT, ModelConfig, from_dict, parse_json, parse_yaml, to_dict
from tracker.errors import CheckpointError, ConfigError, DataError, SourceError
from tracker.footage.containers import counted_share
from tracker.footage.files import read_boxes
from tracker.geometry import Box, check_box
from tracker.similarity import load_similarity
from train.store import Store, StoreError

WEIGHTS = Path(__file__).parents[1] / "tracker" / "weights"
numbers = st.floats(-1e4, 1e4) | st.floats() | st.integers() | st.sampled_from([0, 1e-300, 1e300, 10**400])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def sound(box, width, height):
    """Finite, its centre in the frame, not larger than it."""
    (x, y), inside = box.centre, 1e-6
    within = -inside <= x <= width + inside and -inside <= y <= height + inside
    return bool(np.isfinite(box).all()) and within and 0 < box.w <= width + inside and 0 < box.h <= height + inside


# --- boxes and frames


@given(st.lists(numbers, max_size=6) | anything)
def test_a_box_is_a_box_or_refused(values):
    try:
        box = check_box(values, 320, 240)
    except ValueError:
        return
    assert isinstance(box, Box) and np.isfinite(box).all() and box.w > 0 and box.h > 0


@pytest.fixture(scope="module", params=["swift", "siamfc"])
def tracker(request):
    return Tracker.load(request.param, device="cpu")


sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@settings(max_examples=settings.default.max_examples // 2)  # each is up to ten updates
@given(
    first=sizes, then=st.lists(sizes, max_size=3), seed=st.integers(0, 9), flat=st.booleans(),
    box=st.tuples(*[st.floats(-120, 120)] * 2, *[st.floats(1e-9, 300)] * 2),
)  # fmt: skip
def test_any_frame_of_any_size_gives_a_sound_box_and_is_not_changed(tracker, first, box, then, seed, flat):
    rng = np.random.default_rng(seed)

    def frame(size):
        values = np.full(3, 7) if flat else rng.integers(0, 256, (size[1], size[0], 3))
        return np.broadcast_to(values, (size[1], size[0], 3)).astype(np.uint8)

    image = frame(first)
    try:
        targets = [tracker.init(image, box), tracker.init(image, (0, 0, *first))]
    except ValueError:
        return
    for size in (first, *then, first):
        image = frame(size)
        before = image.copy()
        for result in tracker.update_all(image, targets):
            assert sound(result.box, *size), (size, result)
            assert 0 <= result.score <= 1 and bool(result) == (result.state != "lost")
        assert (image == before).all()


@given(
    st.sampled_from(["uint8", "float32", "int16", "bool"]), st.lists(st.integers(0, 5), min_size=0, max_size=4)
)  # fmt: skip
def test_what_is_no_frame_is_refused(tracker, dtype, shape):
    try:
        tracker.init(np.zeros(shape, dtype), (0, 0, 2, 2))
    except (TypeError, ValueError) as error:
        assert "frame" in str(error) or "box" in str(error)


# --- configs and weights


@given(anything)
def test_a_config_is_a_config_or_refused(values):
    with pytest.raises(ConfigError):
        from_dict(ModelConfig, values)


@given(st.sampled_from([SIAMFC, SWIFT]), st.data())
def test_a_config_with_one_other_value_is_a_config_or_refused(config, data):
    values = to_dict(config)
    places = [(values, key) for key in values]
    places += [(part, key) for part in (values["crops"], values["tracking"]) for key in part]
    place, key = data.draw(st.sampled_from(places))
    place[key] = data.draw(numbers | anything)
    try:
        made = from_dict(ModelConfig, values)
    except ConfigError as error:
        assert len(str(error)) < 1000
        return
    assert made.search_size <= 2000 and from_dict(ModelConfig, json.loads(json.dumps(to_dict(made)))) == made


@given(st.text(max_size=60) | st.integers(1, 6).map(lambda n: "[" * 10**n) | st.integers(1, 9).map(lambda n: "a: " * n))
def test_text_is_json_or_yaml_or_refused(text):
    for parse in (parse_json, parse_yaml):
        try:
            parse(text)
        except ConfigError as error:
            assert len(str(error)) < 1000


@given(st.data())
def test_weights_with_flipped_bits_load_or_are_refused(tmp_path, data):
    name, load = data.draw(st.sampled_from([("similarity/verifier", load_similarity), ("swift-nano", load_network)]))
    content = bytearray((WEIGHTS / f"{name}.safetensors").read_bytes())
    head = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, head - 1) | st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "a.safetensors"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        load(path)
    except CheckpointError as error:
        assert str(path) in str(error) and len(str(error)) < 2000


@given(st.data())
def test_a_store_with_other_bytes_is_read_or_refused(tmp_path, store, data):
    for name in ("index.npz", "pixels.bin"):
        content = bytearray((store.folder / name).read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / name).write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        found = Store(tmp_path)
    except StoreError as error:
        assert str(tmp_path) in str(error) and len(str(error)) < 2000
        return
    for track in found.tracks:
        assert all(found.image(i).shape[2] == 3 for i in track.images)
        assert all(found.cutout(i).shape[2] == 4 for i in track.cutouts if i >= 0)


# --- labels, messages, videos


@given(st.text("0123456789.,;- \tenaif\n", max_size=60) | st.text(max_size=40))
def test_labels_are_boxes_or_refused_by_file(tmp_path, text):
    path = tmp_path / "groundtruth.txt"
    path.write_text(text, encoding="utf-8")
    try:
        boxes = read_boxes(path, one_based=True)
    except DataError as error:
        assert str(path) in str(error)
        return
    there = boxes[np.isfinite(boxes).all(axis=1)]
    assert boxes.shape[1] == 4 and (there[:, 2:] > 0).all()


mask = st.lists(st.integers() | st.sampled_from([0, 1, 10**9, 10**400]), max_size=9)


@given(
    st.text(max_size=40) | mask.map(lambda runs: "mask:" + ",".join(map(str, runs)))
    | st.lists(numbers, max_size=9).map(lambda values: ",".join(map(str, values)))
)  # fmt: skip
def test_a_trax_region_is_a_box_or_refused(text):
    decode(f"@@TRAX:state {text}\n".encode())
    try:
        box = read_region(text)
    except ValueError:
        return
    assert len(box) == 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for i in range(8):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path.read_bytes()


@given(st.data())
def test_a_video_with_other_bytes_is_read_or_refused(tmp_path, clip, data):
    content = bytearray(clip)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.mp4"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    share = counted_share(path)
    assert share is None or 0 <= share <= 1
    try:
        with frames(path) as source:
            for frame in source:
                assert frame.image.dtype == np.uint8 and frame.image.ndim == 3
    except SourceError as error:
        assert str(path) in str(error)
