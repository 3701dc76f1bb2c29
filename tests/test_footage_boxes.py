"""Boxes that were written are read back by the readers of the same formats."""

import json

import cv2
import numpy as np
import pytest

from tracker.footage import layouts
from tracker.footage.boxes import Row, as_coco, as_mot, as_otb, by_target
from tracker.footage.clip import Tally, seen_frames
from tracker.footage.dataset import WRITTEN, Labels, write_dataset
from tracker.footage.video import VideoWriter

SIZE, LENGTH = (64, 48), 5
BOXES = {  # target -> frame -> box
    0: {0: (3.25, 4.5, 20.0, 10.0), 1: (4.25, 5.5, 21.0, 11.0), 2: (5.0, 6.0, 22.0, 12.0), 4: (7.0, 8.0, 22.0, 12.0)},
    1: dict.fromkeys(range(1, LENGTH), (30.0, 20.0, 9.5, 8.0)),
}
LOST = (0, 1)  # target, frame
ROWS = [
    Row(f, f / 30, n, *box, 0.9, "lost" if (n, f) == LOST else "tracking")
    for n, boxes in BOXES.items()
    for f, box in boxes.items()
]
WANTED = {(n, f): box for n, boxes in BOXES.items() for f, box in boxes.items() if (n, f) != LOST}


def picture(f):
    return np.full((SIZE[1], SIZE[0], 3), 40 * f, np.uint8)


@pytest.fixture(params=["images", "video"])
def labels(request, tmp_path):
    video = None
    if request.param == "video":
        video = tmp_path / "source.webm"
        with VideoWriter(video, 30, SIZE) as writer:
            for f in range(LENGTH):
                writer.write(picture(f))
    return Labels("walk", SIZE, LENGTH, ROWS, {0: "dog", 1: "cat"}, {0: {0, 4}, 1: {1}}, video)


@pytest.mark.parametrize("layout", WRITTEN)
def test_a_data_set_is_told_and_read_back(layout, labels, tmp_path):
    folder = write_dataset(tmp_path / "out", layout, labels, picture)
    assert write_dataset(tmp_path / "out", layout, labels, picture) == folder  # in its place
    assert layouts.detect(folder) == layout
    tally, found = Tally(), set()
    for clip in layouts.read(folder, layout, tally):
        for _, image, seen in seen_frames(clip, tally):
            for one in seen:
                assert not one.fault
                found.add((round(float(image.mean()) / 40), *np.round(one.box, 3)))  # the grey tells the frame
    assert found == {(f, *box) for (_, f), box in WANTED.items()}


def test_classes_are_kept(labels, tmp_path):
    for layout in ("coco", "yolo", "cvat"):
        folder = write_dataset(tmp_path / "out", layout, labels, picture)
        found = {t.label.split("/")[-1] for clip in layouts.read(folder, None, Tally()) for t in clip.targets}
        assert found == {"dog", "cat"}, layout


def test_two_boxes_of_cvat_that_lie_a_billion_frames_apart_take_no_memory(tmp_path):
    box = '<box frame="{}" xtl="1" ytl="1" xbr="9" ybr="9" outside="0"/>'
    track = f'<track id="0" label="ball">{box.format(0)}{box.format(10**9)}</track>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{track}</annotations>")
    tally = Tally()
    assert list(layouts.read(tmp_path, "cvat", tally)) == []
    assert "a track of more than 100000 boxes" in tally.names["sequences that cannot be used"][0]


def test_cvat_interpolates_between_keyframes_that_stand_alone(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    box = '<box frame="{}" outside="{}" xtl="{}" ytl="2" xbr="{}" ybr="9"/>'
    boxes = box.format(0, 0, 0, 10) + box.format(4, 0, 8, 14) + box.format(5, 1, 8, 14) + box.format(8, 0, 1, 7)
    (tmp_path / "annotations.xml").write_text(f'<annotations><track id="3" label="a">{boxes}</track></annotations>')
    ((target,),) = (clip.targets for clip in layouts.read(tmp_path, None, Tally()))
    assert target.boxes[1] == (2, 2, 9, 7) and sorted(target.boxes) == [0, 1, 2, 3, 4, 8]


def test_texts_as_others_write_them():
    assert as_mot(ROWS).splitlines()[0] == "1,1,4.25,5.5,20.0,10.0,0.9,-1,-1,-1"
    assert as_otb(by_target(ROWS)[0], LENGTH).splitlines()[:2] == ["4.25,5.5,20.0,10.0", "nan,nan,nan,nan"]
    assert {one["track_id"] for one in json.loads(as_coco(ROWS, SIZE))["annotations"]} == {0, 1}


def test_another_layout_and_nothing_to_write_are_refused(labels, tmp_path):
    with pytest.raises(ValueError, match="no layout 'zip'"):
        write_dataset(tmp_path, "zip", labels, picture)
    nothing = Labels("walk", SIZE, LENGTH, [ROWS[1]], {}, {}, None)
    with pytest.raises(ValueError, match="no boxes"):
        write_dataset(tmp_path, "otb", nothing, picture)
