"""Detections of other packages as ours, and a crowd that is followed from them: ids last, nonsense does no harm."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from yolo_graph import write_yolo

from tracker import Tracker
from tracker.detections import (
    Crowd,
    Detection,
    YoloDetector,
    from_boxmot,
    from_corners,
    from_norfair,
    from_supervision,
    from_torchvision,
    from_ultralytics,
    from_yolo,
    inside,
)
from tracker.geometry import Box, iou
from tracker.loading import weight_file

DOUBLE = torch.float64
CORNERS = [[10.0, 20, 40, 60], [100, 80, 150, 120]]
WANTED = [Detection(Box(10, 20, 30, 40), 0.9, "dog"), Detection(Box(100, 80, 50, 40), 0.75, "cat")]
NAMES = {0: "cat", 1: "dog"}


def test_as_ultralytics_says_it():
    """A double of its Results: the package wants a torchvision that PyPI's torch does not go with."""
    boxes = SimpleNamespace(
        xyxy=torch.tensor(CORNERS, dtype=DOUBLE),
        conf=torch.tensor([0.9, 0.75], dtype=DOUBLE),
        cls=torch.tensor([1.0, 0.0]),
    )
    assert from_ultralytics(SimpleNamespace(boxes=boxes, names=NAMES)) == WANTED
    assert from_ultralytics(SimpleNamespace(boxes=boxes, names=NAMES), least=0.8) == WANTED[:1]


def test_as_norfair_says_it():
    norfair = pytest.importorskip("norfair", reason="pip install --no-deps norfair filterpy rich")
    given = [
        norfair.Detection(np.array([[10, 60], [40, 20]]), scores=np.array([0.8, 1.0]), label="dog"),  # other corners
        norfair.Detection(np.array([[100, 80], [150, 120]]), scores=np.array([0.75, 0.75]), label="cat"),
    ]
    assert from_norfair(given) == WANTED
    assert from_norfair([norfair.Detection(given[0].points)]) == [Detection(WANTED[0].box)]
    with pytest.raises(ValueError, match=r"wanted \(2, 2\)"):
        from_norfair([norfair.Detection(np.array([[1, 2]]))])


def test_as_boxmot_takes_it():
    rows = np.column_stack([CORNERS, [0.9, 0.75], [1, 0]])
    assert from_boxmot(rows, ["cat", "dog"]) == WANTED
    assert [one.label for one in from_boxmot(rows)] == ["1", "0"] and from_boxmot(np.empty((0, 6))) == []
    with pytest.raises(ValueError, match=r"wanted \(N, 6\)"):
        from_boxmot(rows[:, :5])


def test_as_torchvision_says_it():
    output = {
        "boxes": torch.tensor(CORNERS, dtype=DOUBLE),
        "scores": torch.tensor([0.9, 0.75], dtype=DOUBLE),
        "labels": torch.tensor([1, 0]),
    }
    assert from_torchvision(output, ["cat", "dog"]) == WANTED
    assert [one.label for one in from_torchvision(output)] == ["1", "0"]


def test_as_supervision_says_it():
    sv = pytest.importorskip("supervision", reason="pip install supervision")
    detections = sv.Detections(
        xyxy=np.array(CORNERS),
        confidence=np.array([0.9, 0.75]),
        class_id=np.array([1, 0]),
        data={"class_name": np.array(["dog", "cat"])},
    )
    assert from_supervision(detections) == WANTED
    assert from_supervision(sv.Detections.empty()) == []


def test_a_yolo_graph_is_a_detector(tmp_path):
    """An image that is wider than the input lies between two bars; its boxes come out in its own px."""
    detect = YoloDetector(write_yolo(tmp_path / "yolo.onnx"))
    image = np.full((240, 320, 3), 90, np.uint8)
    assert detect(image) == []
    image[40:120, 80:160] = (20, 20, 250)  # the second cell of the second row
    (found,) = detect(image)
    assert found.label == "red" and found.box == pytest.approx((80, 40, 80, 80)) and 0.8 < found.score < 1
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(ValueError, match=r"text\.onnx: not a graph"):
        YoloDetector(tmp_path / "text.onnx")
    shipped = weight_file("swift").parent / "swift" / "search.onnx"
    with pytest.raises(ValueError, match="wanted an image"):
        YoloDetector(shipped)
    with pytest.raises(FileNotFoundError):
        YoloDetector(tmp_path / "none.onnx")


def test_of_nonsense_only_what_lies_in_the_frame_is_kept():
    frame = np.zeros((100, 100, 3), np.uint8)
    good = Detection(Box(90, 90, 30, 30), 0.4)
    bad = [Box(math.nan, 1, 5, 5), Box(200, 1, 5, 5), Box(1, 1, -4, 5), Box(1, 1, 0, 5), Box(-9, 1, 9.5, 9)]
    assert inside([Detection(box) for box in bad] + [good, good._replace(score=math.inf)], frame) == [good]
    assert [one.score for one in inside([good._replace(score=s / 10) for s in range(9)], frame, 2)] == [0.8, 0.7]


def test_as_a_yolo_graph_says_it():
    """A frame of 320 x 240 in an input of 640 x 640: twice as large, with bars of 80 px above and below."""
    raw = np.zeros((1, 6, 40), np.float32)
    heads = [
        ((10, 20, 30, 40), 1, 0.9),
        ((11, 21, 30, 40), 1, 0.8),
        ((10, 20, 30, 40), 0, 0.7),
        ((200, 100, 50, 60), 0, 0.1),
    ]
    for k, (box, kind, score) in enumerate(heads):
        x, y, w, h = box
        raw[0, :4, k] = (2 * (x + w / 2), 2 * (y + h / 2) + 80, 2 * w, 2 * h)
        raw[0, 4 + kind, k] = score
    found = from_yolo(raw, (320, 240), names=["cat", "dog"])
    assert [(one.label, round(one.score, 3)) for one in found] == [("dog", 0.9), ("cat", 0.7)]
    assert found[0].box == pytest.approx((10, 20, 30, 40), abs=1e-4)
    with pytest.raises(ValueError, match=r"shape \(1, 40, 6\)"):
        from_yolo(raw.transpose(0, 2, 1), (320, 240))


def test_nonsense_is_left_out_or_named():
    corners = [[math.nan, 0, 5, 5], [5, 5, 5, 9], [9, 9, 1, 1], [0, 0, math.inf, 4], [1, 2, 3, 4]]
    assert from_corners(corners) == [Detection(Box(1, 2, 2, 2))]
    assert from_corners([]) == []
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        from_corners([[1, 2, 3]])
    with pytest.raises(ValueError, match="1 boxes, 2 scores"):
        from_corners([[1, 2, 3, 4]], [0.5, 0.6])


# --- a crowd

SIZE, COUNT, SIDE = (320, 240), 50, 44


@pytest.fixture(scope="module")
def film():
    """Two patches that move over a ground; the second hides behind a wall from frame 16 to 27."""
    rng = np.random.default_rng(3)
    ground = cv2.resize(rng.integers(60, 130, (12, 16, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    patches = [
        cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        for _ in range(2)
    ]
    images, truth = [], []
    for t in range(COUNT):
        image = ground.copy()
        boxes = [Box(20 + 3 * t, 30, SIDE, SIDE), Box(230 - 4 * t, 150, SIDE, SIDE)]
        for box, patch in zip(boxes, patches, strict=True):
            image[int(box.y) : int(box.y) + SIDE, int(box.x) : int(box.x) + SIDE] = patch
        hidden = 16 <= t < 28
        if hidden:
            image[140:205] = ground[140:205]
        images.append(image)
        truth.append(boxes[:1] if hidden else boxes)
    return images, truth


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu")


def test_ids_last_through_hiding_and_between_calls_of_the_detector(film, tracker):
    crowd, paths = Crowd(tracker, confirm=2), {0: {}, 1: {}}
    for t, (image, boxes) in enumerate(zip(*film, strict=True)):
        found = [Detection(box, 0.9, "patch") for box in boxes] if t % 4 == 0 else None
        if t == 8:  # a ghost, once; and nonsense
            found += [Detection(Box(250, 20, 30, 30), 0.9, "patch"), Detection(Box(900, 900, 5, 5), 0.9, "patch")]
        for one in crowd.update(image, found):
            assert one.label == "patch"
            if one.result:
                paths[one.id][t] = one.result.box
    assert crowd.count == 2
    for place in (0, 1):
        own = {t: boxes[place] for t, boxes in enumerate(film[1]) if len(boxes) > place}
        number = 0 if iou(paths[0][6], own[6]) > 0.5 else 1
        assert all(iou(box, own[t]) > 0.5 for t, box in paths[number].items() if t in own)
        assert set(range(5, 15)) <= set(paths[number]) and set(range(36, COUNT)) <= set(paths[number])
    assert not any(20 <= t < 28 for t in paths[1]) or not any(20 <= t < 28 for t in paths[0])  # lost is not shown


def test_of_two_on_one_thing_one_goes(film, tracker):
    image, box = film[0][0], film[1][0][0]
    crowd = Crowd(tracker, confirm=1)
    twins = [Detection(box), Detection(Box(box.x + 2, box.y, box.w, box.h))]
    assert len(crowd.update(image, twins)) == 1
    assert len(crowd.update(film[0][1], None)) == 1


def test_several_detections_of_one_target_are_one(film, tracker):
    """As detectors say it: a person, and once more without the legs."""
    crowd, (images, boxes) = Crowd(tracker, confirm=1), film
    for t in range(4):
        x, y, w, h = boxes[t][0]
        parts = [Detection(Box(x, y, w, s * h), s - 0.1, "patch") for s in (1.0, 0.8, 0.7)]
        (one,) = crowd.update(images[t], parts if t else parts[:1])
        assert one.id == 0 and iou(one.result.box, boxes[t][0]) > 0.5


def test_no_targets_no_results(film, tracker):
    crowd = Crowd(tracker)
    assert crowd.update(film[0][0]) == [] and crowd.update(film[0][0], []) == [] and crowd.count == 0
    with pytest.raises(ValueError, match="at least 1"):
        Crowd(tracker, patience=0)
