"""Each reader on a tiny tree in the exact layout of its data set, with real files; what is dropped is counted."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest

from tracker.errors import DataError
from tracker.footage.clip import Tally, seen_frames
from tracker.footage.layouts import LAYOUTS, detect, load, read
from train import sheet
from train.__main__ import main
from train.harvest import find_videos

W, H = 80, 60


def image_at(x, y=10, w=20, h=16, colour=(40, 200, 90)):
    image = np.full((H, W, 3), 60, np.uint8)
    image[y : y + h, x : x + w] = colour
    return image


def write_images(folder, names, step=2):
    """Frame i shows a rectangle of 20 x 16 px at (10 + step i, 10)."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        path = folder / name
        path.write_bytes(cv2.imencode(path.suffix, image_at(10 + step * i))[1].tobytes())


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_video(path, count):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (W, H))
    for i in range(count):
        writer.write(image_at(10 + 2 * i))
    writer.release()


def write_palette(path, numbers):
    """Write an indexed PNG as DAVIS does: (H, W) object numbers and the palette of PASCAL VOC."""
    palette = bytearray()
    for number in range(256):
        red = green = blue = 0
        for k in range(8):
            bit = (number >> k) & 1
            red |= bit << (7 - k // 3) if k % 3 == 0 else 0
            green |= bit << (7 - k // 3) if k % 3 == 1 else 0
            blue |= bit << (7 - k // 3) if k % 3 == 2 else 0
        palette += bytes((red, green, blue))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in numbers.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = chunk(b"IHDR", head) + chunk(b"PLTE", bytes(palette)) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b""))


def collect(path, layout=None):
    """{clip: {target: {frame: box}}} of what is usable, the tally, and the masks {(clip, target, frame): mask}."""
    tally, boxes, masks = Tally(), {}, {}
    for clip in read(path, layout, tally):
        for number, image, seen in seen_frames(clip, tally):
            assert image.shape == (H, W, 3) and image.dtype == np.uint8
            for one in seen:
                if not one.fault:
                    boxes.setdefault(clip.name, {}).setdefault(one.target.name, {})[number] = tuple(one.box)
                    if one.mask:
                        try:
                            masks[clip.name, one.target.name, number] = one.mask(W, H)
                        except DataError as error:
                            tally.drop("masks", str(error))
    return boxes, tally, masks


def extent(mask):
    assert mask.shape == (H, W) and mask.dtype == np.uint8
    return cv2.boundingRect((mask > 127).astype(np.uint8))


FRAMES = {i: (10 + 2 * i, 10, 20, 16) for i in range(4)}  # what write_images draws, 0-based
ONE_BASED = "\n".join(f"{x + 1},{y + 1},{w},{h}" for x, y, w, h in FRAMES.values())
ZERO_BASED = "\n".join(f"{x},{y},{w},{h}" for x, y, w, h in FRAMES.values())
NAMES = [f"{i:08d}.jpg" for i in range(1, 5)]


# --- single-object data sets


def otb(root):
    write_images(root / "Walk" / "img", NAMES)
    write_text(root / "Walk" / "groundtruth_rect.txt", ONE_BASED)


def got10k(root):
    write_text(root / "list.txt", "Walk\n")
    write_images(root / "Walk", NAMES)
    write_text(root / "Walk" / "groundtruth.txt", ONE_BASED)
    write_text(root / "Walk" / "meta_info.ini", "[METAINFO]\nanno_fps: 10Hz\nresolution: (80, 60)\n")


def lasot(root):
    write_images(root / "walk" / "Walk" / "img", NAMES)
    write_text(root / "walk" / "Walk" / "groundtruth.txt", ONE_BASED)
    write_text(root / "walk" / "Walk" / "full_occlusion.txt", "0,0,0,0")
    write_text(root / "walk" / "Walk" / "out_of_view.txt", "0,0,0,0")


def trackingnet(root):
    write_images(root / "frames" / "Walk", [f"{i}.jpg" for i in range(4)])
    write_text(root / "anno" / "Walk.txt", ZERO_BASED)


def uav123(root):
    write_images(root / "data_seq" / "UAV123" / "Walk", [f"{i:06d}.jpg" for i in range(1, 5)])
    write_text(root / "anno" / "UAV123" / "Walk.txt", ONE_BASED)


def uav20l(root):
    write_images(root / "data_seq" / "UAV123" / "Walk", [f"{i:06d}.jpg" for i in range(1, 5)])
    write_text(root / "anno" / "UAV20L" / "Walk.txt", ONE_BASED)


def vot(root):
    write_text(root / "list.txt", "Walk\n")
    write_images(root / "Walk" / "color", NAMES)
    write_text(root / "Walk" / "sequence", "channels.color=color/%08d.jpg\nfps=25\n")
    write_text(root / "Walk" / "groundtruth.txt", ZERO_BASED)


@pytest.mark.parametrize("make", [otb, got10k, lasot, trackingnet, uav123, uav20l, vot], ids=lambda f: f.__name__)
def test_single_object_data_sets(tmp_path, make):
    make(tmp_path)
    assert detect(tmp_path) == make.__name__
    boxes, tally, _ = collect(tmp_path)
    assert boxes == {"Walk": {"0": FRAMES}}
    assert tally.kept == {"sequences": 1, "frames": 4, "tracks": 1, "boxes": 4}
    assert tally.sources == {make.__name__: 1} and not tally.dropped


def test_otb_takes_its_official_frames_and_two_targets(tmp_path):
    otb(tmp_path)
    write_images(tmp_path / "Jogging" / "img", NAMES)
    write_text(tmp_path / "Jogging" / "groundtruth_rect.1.txt", ONE_BASED)
    write_text(tmp_path / "Jogging" / "groundtruth_rect.2.txt", ONE_BASED)
    write_images(tmp_path / "Tiger1" / "img", [f"{i:04d}.jpg" for i in range(1, 9)])  # the benchmark starts at frame 6
    write_text(tmp_path / "Tiger1" / "groundtruth_rect.txt", "\n".join(f"{i},5,20,16" for i in range(1, 9)))
    boxes, tally, _ = collect(tmp_path)
    assert set(boxes) == {"Walk", "Jogging-1", "Jogging-2", "Tiger1"}
    assert boxes["Tiger1"]["0"] == {i: (5 + i, 4, 20, 16) for i in range(3)}
    alone, _, _ = collect(tmp_path / "Tiger1")
    assert alone["Tiger1"] == boxes["Tiger1"] and tally.kept["sequences"] == 4


def test_a_sequence_that_does_not_fit_is_named_and_the_others_are_read(tmp_path):
    otb(tmp_path)
    write_images(tmp_path / "Short" / "img", NAMES)
    write_text(tmp_path / "Short" / "groundtruth_rect.txt", "1,1,9,9\n")
    boxes, tally, _ = collect(tmp_path)
    assert list(boxes) == ["Walk"]
    assert tally.names["sequences that cannot be used"] == ["Short: 4 frames but 1 boxes"]


def test_lasot_leaves_out_absent_frames_and_what_is_kept_for_testing(tmp_path):
    lasot(tmp_path)
    write_text(tmp_path / "walk" / "Walk" / "out_of_view.txt", "0,1,0,0")
    (tmp_path / "walk" / "Held").symlink_to(tmp_path / "walk" / "Walk")
    write_text(tmp_path / "testing_set.txt", "Held\n")
    for root in (tmp_path, tmp_path / "walk"):  # of a single class there is no list
        boxes, tally, _ = collect(root)
        assert boxes["Walk"]["0"] == {i: FRAMES[i] for i in (0, 2, 3)}
        assert tally.names["target absent (NaN or no size)"][-1:] == ["Walk/0 frame 1"]
        assert ("Held" in boxes) == (root != tmp_path)


def test_uav123_nan_is_absent(tmp_path):
    uav123(tmp_path)
    lines = ONE_BASED.splitlines()
    write_text(tmp_path / "anno" / "UAV123" / "Walk.txt", "\n".join([*lines[:2], "NaN,NaN,NaN,NaN", lines[3]]))
    write_text(tmp_path / "anno" / "UAV20L" / "Walk.txt", ONE_BASED)  # one archive: the cut version is taken
    boxes, tally, _ = collect(tmp_path)
    assert boxes == {"Walk": {"0": {i: FRAMES[i] for i in (0, 1, 3)}}}
    assert tally.dropped == {"target absent (NaN or no size)": 1}


def test_vot_polygons_masks_and_start_frames(tmp_path):
    write_images(tmp_path / "Poly", NAMES)
    write_text(tmp_path / "Poly" / "groundtruth.txt", "\n".join(["20,10,30,18,20,26,10,18"] * 4))
    assert detect(tmp_path) == "vot"  # by its polygons alone
    write_images(tmp_path / "Mask" / "color", NAMES)
    # an 80 px wide mask from row 0: 10 empty rows, then 16 rows of 20 px from column 10
    runs = [10 * W + 10, *[20, W - 20] * 15, 20]
    mask = f"m0,0,{W},26,{','.join(map(str, runs))}"
    write_text(tmp_path / "Mask" / "groundtruth.txt", "\n".join([mask] * 3 + ["0"]))
    write_text(tmp_path / "Mask" / "anchor.value", "1\n0\n-1\n0\n")
    boxes, tally, _ = collect(tmp_path)
    assert boxes["Poly"]["0"] == dict.fromkeys(range(4), (10, 10, 20, 16))
    assert boxes["Mask"]["0"] == dict.fromkeys(range(3), (10, 10, 20, 16))
    assert tally.dropped == {"target absent (NaN or no size)": 1}
    assert {clip.name: clip.starts for clip in read(tmp_path, None, Tally())} == {"Poly": (), "Mask": (0, 2)}


# --- masks


def numbers_at(x, second=False):
    numbers = np.zeros((H, W), np.uint8)
    numbers[10:26, x : x + 20] = 1
    if second:
        numbers[40:55, 3:23] = 38  # all three colours of the palette take part
    return numbers


def davis(root):
    for name in ("Walk", "Held"):
        write_images(root / "JPEGImages" / "480p" / name, [f"{i:05d}.jpg" for i in range(4)])
        for i in range(4):
            write_palette(root / "Annotations" / "480p" / name / f"{i:05d}.png", numbers_at(10 + 2 * i, second=i > 1))


def test_davis_makes_boxes_of_masks(tmp_path):
    davis(tmp_path)
    write_text(tmp_path / "ImageSets" / "2017" / "val.txt", "Held\n")
    assert detect(tmp_path) == "davis"
    boxes, tally, masks = collect(tmp_path)
    assert boxes == {"Walk": {"1": FRAMES, "38": {2: (3, 40, 20, 15), 3: (3, 40, 20, 15)}}}
    assert extent(masks["Walk", "1", 3]) == (16, 10, 20, 16) and extent(masks["Walk", "38", 3]) == (3, 40, 20, 15)
    assert tally.names["sequences kept for testing (ImageSets/2017/val.txt)"] == ["Held"]


def test_davis_2016_is_black_and_white(tmp_path):
    write_images(tmp_path / "JPEGImages" / "480p" / "Walk", ["00000.jpg"])
    (tmp_path / "Annotations" / "480p" / "Walk").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "Annotations" / "480p" / "Walk" / "00000.png"), numbers_at(10) * 255)
    boxes, _, masks = collect(tmp_path)
    assert boxes == {"Walk": {"255": {0: (10, 10, 20, 16)}}}
    assert extent(masks["Walk", "255", 0]) == (10, 10, 20, 16)


def test_youtube_vos_has_masks_of_some_frames_and_kinds(tmp_path):
    write_images(tmp_path / "JPEGImages" / "0a4c", [f"{i:05d}.jpg" for i in range(0, 20, 5)])
    for i in (5, 15):
        write_palette(tmp_path / "Annotations" / "0a4c" / f"{i:05d}.png", numbers_at(10 + 2 * (i // 5)))
    write_palette(tmp_path / "Annotations" / "0a4c" / "00099.png", numbers_at(10))
    (tmp_path / "Annotations" / "0a4c" / "00010.png").write_bytes(b"broken")
    meta = {"videos": {"0a4c": {"objects": {"1": {"category": "dog", "frames": ["00005", "00015"]}}}}}
    write_text(tmp_path / "meta.json", json.dumps(meta))
    assert detect(tmp_path) == "youtubevos"
    boxes, tally, _ = collect(tmp_path)
    assert boxes == {"0a4c": {"1": {1: FRAMES[1], 3: FRAMES[3]}}}
    assert set(tally.dropped.items()) == {
        ("masks that cannot be read", 1), ("masks without a frame", 1), ("frames without a box", 2)
    }  # fmt: skip
    (clip,) = read(tmp_path, None, Tally())
    assert clip.targets[0].label == "youtubevos/dog"


# --- several targets


def test_mot_makes_a_track_of_an_identity(tmp_path):
    for name in ("MOT17-02-DPM", "MOT17-02-SDP"):
        write_images(tmp_path / name / "img1", [f"{i:06d}.jpg" for i in range(1, 5)])
        write_text(tmp_path / name / "seqinfo.ini", f"[Sequence]\nname={name}\nimDir=img1\nseqLength=4\n")
        rows = [f"{i + 1},7,{x + 1},{y + 1},{w},{h},1,1,1.0" for i, (x, y, w, h) in FRAMES.items()]
        rows += ["2,9,31,31,20,20,1,1,0.5", "3,9,31,31,20,20,1,1,0.05", "2,11,5,5,20,20,0,12,1", "2,9,1,1,20,20,1,1,1"]
        write_text(tmp_path / name / "gt" / "gt.txt", "\n".join(rows))
    assert detect(tmp_path) == detect(tmp_path / "MOT17-02-DPM") == "mot"
    boxes, tally, _ = collect(tmp_path)
    assert boxes == {"MOT17-02-DPM": {"7": FRAMES, "9": {1: (30, 30, 20, 20)}}}
    assert tally.dropped == {
        "copies of a sequence for another detector": 1, "less than 20% visible": 1,
        "boxes that the data set says to ignore": 1, "second box of a target in a frame": 1,
    }  # fmt: skip


@pytest.mark.parametrize("line", ["inf,1,5,5,20,20,1", "nan,1,5,5,20,20,1", "1,inf,5,5,20,20,1", "1,nan,5,5,20,20,1"])
def test_a_mot_line_of_no_frame_or_no_identity_leaves_out_its_sequence(tmp_path, line):
    write_images(tmp_path / "a" / "img1", ["1.jpg"])
    write_text(tmp_path / "a" / "gt" / "gt.txt", line + "\n")
    tally = Tally()
    assert list(read(tmp_path, "mot", tally)) == []
    assert "frames and ids must be finite numbers" in tally.names["sequences that cannot be used"][0]


def test_mot15_has_other_columns(tmp_path):
    write_images(tmp_path / "A" / "img1", ["000001.jpg"])
    write_text(tmp_path / "A" / "gt" / "gt.txt", "1,3,11,11,20,16,1,-1,-1,-1\n")
    assert collect(tmp_path)[0] == {"A": {"3": {0: FRAMES[0]}}}


# --- photos


def test_coco(tmp_path):
    root = tmp_path / "pets"
    write_images(root / "val2017", ["1.jpg", "2.jpg", "3.jpg"])
    runs = [10 * H + 10, *[16, H - 16] * 19, 16, 50 * H + 34]  # column by column, what is drawn in the first photo
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": W, "height": H} for i in (1, 2, 3, 4)],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 18, "bbox": [10, 10, 20, 16],
             "segmentation": [[10, 10, 30, 10, 30, 26, 10, 26]]},
            {"id": 2, "image_id": 1, "category_id": 18, "bbox": [10, 10, 20, 16],
             "segmentation": {"counts": runs, "size": [H, W]}},
            {"id": 3, "image_id": 2, "category_id": 18, "bbox": [12, 10, 20, 16], "iscrowd": 1},
            {"id": 4, "image_id": 2, "category_id": 18, "bbox": [12, 10, 20, 16]},
            {"id": 5, "image_id": 2, "category_id": 18},
            {"id": 6, "image_id": 4, "category_id": 18, "bbox": [12, 10, 20, 16]},
            {"id": 8, "image_id": 3, "category_id": 18, "bbox": [14, 10, 20, 16],
             "segmentation": {"counts": [3, 4], "size": [H, W]}},
            {"id": 7, "image_id": 5, "category_id": 18, "bbox": [12, 10, 20, 16]},
        ],
    }  # fmt: skip
    write_text(root / "annotations" / "instances_val2017.json", json.dumps(data))
    write_text(root / "annotations" / "captions_val2017.json", '{"images": [], "annotations": []}')
    assert detect(root) == detect(root / "annotations" / "instances_val2017.json") == "coco"
    boxes, tally, masks = collect(root)
    assert boxes == {"pets/1.jpg": {"0": {0: FRAMES[0]}, "1": {0: FRAMES[0]}}, "pets/2.jpg": {"0": {0: FRAMES[1]}},
                     "pets/3.jpg": {"0": {0: FRAMES[2]}}}  # fmt: skip
    assert collect(root / "annotations" / "instances_val2017.json")[0] == boxes
    for target in "01":
        assert np.abs(np.subtract(extent(masks["pets/1.jpg", target, 0]), FRAMES[0])).max() <= 1
    assert extent(masks["pets/1.jpg", "1", 0]) == FRAMES[0]
    assert tally.kept == {"photos": 3, "frames": 3, "tracks": 4, "boxes": 4} and tally.sources == {"pets": 4}
    assert tally.dropped == {
        "crowds": 1, "annotations without a box": 1, "boxes without a frame": 2, "masks": 1
    }  # fmt: skip
    assert tally.names["masks"] == ["run lengths that do not make up a mask of 80 x 60"]
    assert next(read(root, "coco", Tally())).targets[0].label == "pets/dog"


def test_coco_that_is_not(tmp_path):
    write_text(tmp_path / "a.json", '{"images": [{"name": 3}], "annotations": []}')
    with pytest.raises(DataError, match=r"a\.json: not in COCO's form: KeyError 'id'"):
        collect(tmp_path)
    write_text(tmp_path / "a.json", '{"images": [')
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        collect(tmp_path)
    write_text(tmp_path / "a.json", "{}")
    with pytest.raises(DataError, match="in no known layout"):
        collect(tmp_path)


XML = """<annotation><folder>x</folder><filename>{name}</filename><size><width>80</width><height>60</height></size>
<object><name>dog</name>
<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>26</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(("labels", "photos"), [("Annotations", "JPEGImages"), (".", ".")])
def test_voc_counts_from_one_and_includes_both_ends(tmp_path, labels, photos):
    root = tmp_path / "VOC"
    write_images(root / photos, ["a.jpg", "b.png"], step=0)
    write_text(root / labels / "a.xml", XML.format(name="a.jpg"))
    write_text(root / labels / "b.xml", XML.format(name="C:/b.jpg"))  # a path that the labeller left behind
    write_text(root / labels / "c.xml", "<annotation><object>")
    write_text(root / labels / "d.xml", XML.format(name="gone.jpg"))
    assert detect(root) == "voc"
    boxes, tally, _ = collect(root)
    assert boxes == {"VOC/a.jpg": {"0": {0: FRAMES[0]}}, "VOC/b.png": {"0": {0: FRAMES[0]}}}
    assert tally.dropped == {"labels that cannot be read": 1, "boxes without a frame": 1}


def test_yolo_shares_become_pixels(tmp_path):
    root = tmp_path / "pets"
    write_images(root / "images" / "train", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], step=0)
    write_text(root / "labels" / "train" / "a.txt", "1 0.25 0.3 0.25 0.26666667\n")
    corners = "0.125 0.16666667 0.375 0.16666667 0.375 0.43333333 0.125 0.43333333"
    write_text(root / "labels" / "train" / "b.txt", f"0 {corners}\n")
    write_text(root / "labels" / "train" / "c.txt", "0 0.5 half 0.1 0.1\n")
    write_text(root / "labels" / "train" / "z.txt", "0 0.5 0.5 0.1 0.1\n")
    write_text(root / "data.yaml", "names: [cat, dog]\n")
    assert detect(root) == "yolo"
    boxes, tally, masks = collect(root)
    for name in ("a", "b"):
        assert boxes[f"pets/{name}.jpg"]["0"][0] == pytest.approx(FRAMES[0], abs=1e-4)
    assert np.abs(np.subtract(extent(masks["pets/b.jpg", "0", 0]), FRAMES[0])).max() <= 1
    assert tally.dropped == {
        "labels that cannot be read": 1, "labels without a frame": 1, "frames without a box": 1
    }  # fmt: skip
    assert "c.txt, line 1" in tally.names["labels that cannot be read"][0]
    assert next(read(root, None, Tally())).targets[0].label == "pets/dog"


def test_yolo_labels_beside_the_photos(tmp_path):
    write_images(tmp_path, ["a.jpg"])
    write_text(tmp_path / "a.txt", "0 0.25 0.3 0.25 0.26666667\n")
    write_text(tmp_path / "classes.txt", "dog\n")
    boxes, tally, _ = collect(tmp_path)
    assert len(boxes) == 1 and not tally.dropped


# --- a video or images beside a boxes.csv


def plain_rows(one_more=""):
    return (
        "frame,x,y,w,h\n" + "\n".join(f"{i},{','.join(map(str, box))}" for i, box in FRAMES.items()) + "\n" + one_more
    )


def test_a_video_beside_a_boxes_csv(tmp_path):
    clip = tmp_path / "walk"
    clip.mkdir()
    write_video(clip / "any name.mp4", 6)
    write_text(clip / "boxes.csv", plain_rows("9,1,1,20,20\n"))
    for path in (tmp_path, clip, clip / "any name.mp4", clip / "boxes.csv"):
        assert detect(path) == "boxes"
        boxes, tally, _ = collect(path)
        assert boxes == {"walk": {"0": FRAMES}}
        assert tally.dropped == {"boxes without a frame": 1, "frames without a box": 2}
        assert tally.sources == {tmp_path.name if path == tmp_path else "video": 1}


@pytest.mark.parametrize("place", ["frames", "."])
def test_images_beside_a_boxes_csv(tmp_path, place):
    """Every kind of box that cannot be used, and an image among the others that is broken."""
    write_images(tmp_path / place, [f"{i}.png" for i in range(12)], step=2)  # 10.png comes after 9.png
    (tmp_path / place / "3.png").write_bytes(b"broken")
    extra = "4,nan,nan,nan,nan\n5,1,1,3,20\n6,75,10,20,16\n7,,,,\n8,0,0,0,0\n10,30,10,20,16\n0,1,1,9,9\n"
    write_text(tmp_path / "boxes.csv", plain_rows(extra))
    boxes, tally, _ = collect(tmp_path)
    assert boxes == {tmp_path.name: {"0": {i: FRAMES[i] for i in range(3)} | {10: (30, 10, 20, 16)}}}
    assert tally.dropped == {
        "images that cannot be read": 1, "target absent (NaN or no size)": 3, "smaller than 6 px": 1,
        "centre outside the frame": 1, "second box of a target in a frame": 1, "frames without a box": 2,
    }  # fmt: skip
    assert "3.png: not a readable image" in tally.names["images that cannot be read"][0]
    text = "\n".join(tally.lines())
    assert "4 boxes, sqrt(w h) from 18 to 18 px" in text and "1 centre outside the frame: " in text


def test_ids_and_masks(tmp_path):
    write_images(tmp_path / "walk" / "frames", [f"{i}.jpg" for i in range(4)])
    rows = "0,dog,10,10,20,16\n1,dog,12,10,20,16\n1,cat,40,30,20,20\n"
    write_text(tmp_path / "walk" / "boxes.csv", f"frame,id,x,y,w,h\n{rows}")
    (tmp_path / "walk" / "masks" / "dog").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "walk" / "masks" / "dog" / "00001.png"), numbers_at(12) * 255)
    boxes, _, masks = collect(tmp_path)
    assert boxes["walk"] == {"dog": {0: FRAMES[0], 1: FRAMES[1]}, "cat": {1: (40, 30, 20, 20)}}
    assert list(masks) == [("walk", "dog", 1)] and extent(masks["walk", "dog", 1]) == FRAMES[1]


def test_a_thousand_faults_are_counted_and_a_few_are_named(tmp_path):
    write_images(tmp_path, ["0.jpg"])
    write_text(tmp_path / "boxes.csv", plain_rows("".join(f"{i},1,1,9,9\n" for i in range(100, 1100))))
    _, tally, _ = collect(tmp_path)
    assert tally.dropped == {"boxes without a frame": 1003}
    assert len(tally.names["boxes without a frame"]) == 5
    assert list(tally.lines())[-1].endswith("frame 101, ..")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,1,20,20\n", "columns are 0,1,1,20,20; expected frame,x,y,w,h"),
        ("frame,x,y,w\n", "expected frame,x,y,w,h"),
        ("frame,x,y,w,h\n0,1,1,20,wide\n", "line 2: not a box"),
        ("frame,x,y,w,h\n0.5,1,1,20,20\n", "line 2: not a box"),
        ("frame,x,y,w,h\n0,1,1\n", "line 2: not a box"),
        ("", "columns are ; expected"),
    ],
)
def test_a_bad_boxes_csv_is_named(tmp_path, text, message):
    write_images(tmp_path, ["0.jpg"])
    write_text(tmp_path / "boxes.csv", text)
    boxes, tally, _ = collect(tmp_path)
    assert not boxes and message in tally.names["sequences that cannot be used"][0]


def test_footage_that_cannot_be_told_is_named(tmp_path):
    write_text(tmp_path / "none" / "boxes.csv", plain_rows())
    for name in ("two/a.mp4", "two/b.mp4", "broken/a.mp4"):
        write_text(tmp_path / name, "no video")
        write_text((tmp_path / name).parent / "boxes.csv", plain_rows())
    _, tally, _ = collect(tmp_path)
    assert tally.kept["frames"] == 0
    first, second = tally.names["sequences that cannot be used"]
    assert "without a video" in first and "2 videos beside one boxes.csv (a.mp4, b.mp4" in second
    assert "not a video" in tally.names["videos that cannot be read"][0]


# --- which layout


def test_an_unknown_layout_tells_what_was_looked_for(tmp_path):
    write_images(tmp_path / "holiday", ["a.jpg"])
    otb(tmp_path / "data" / "OTB100")
    with pytest.raises(DataError) as caught:
        detect(tmp_path / "data" / "OTB100" / "Walk" / "img")
    assert all(sign in str(caught.value) for layout in LAYOUTS.values() for sign in layout.signs)
    with pytest.raises(DataError, match=r"folders in it that fit: OTB100 \(otb\)"):
        detect(tmp_path / "data")
    with pytest.raises(DataError, match="no such file or folder"):
        detect(tmp_path / "gone")
    with pytest.raises(DataError, match="neither a video"):
        detect(tmp_path / "holiday" / "a.jpg")
    write_video(tmp_path / "holiday" / "clip.mp4", 2)
    with pytest.raises(DataError, match=r"no boxes\.csv beside it \(columns frame,x,y,w,h"):
        detect(tmp_path / "holiday" / "clip.mp4")


def test_two_layouts_in_one_tree_must_be_declared(tmp_path):
    otb(tmp_path)
    write_text(tmp_path / "a.xml", XML.format(name="a.jpg"))
    write_images(tmp_path, ["a.jpg"])
    with pytest.raises(DataError, match="fits otb and voc; say which with --format"):
        detect(tmp_path)
    assert list(collect(tmp_path, "otb")[0]) == ["Walk"]
    with pytest.raises(ValueError, match="layout must be one of boxes, folder, otb"):
        read(tmp_path, "kitti", Tally())
    for layout in LAYOUTS:
        if layout not in ("folder", "otb", "voc"):
            with pytest.raises(DataError):
                collect(tmp_path, layout)


# --- sheets and commands


def test_inspect_tells_and_draws(tmp_path, capsys):
    otb(tmp_path / "data")
    lines = ONE_BASED.splitlines()
    write_text(tmp_path / "data" / "Walk" / "groundtruth_rect.txt", "\n".join([*lines[:3], "17,11,4,16"]))
    out = tmp_path / "sheet.png"
    assert main(["inspect", str(tmp_path / "data"), "--sheet", str(out), "--tiles", "4"]) == 0
    text = capsys.readouterr().out
    assert "layout otb" in text and "1 tracks (1 otb)" in text and "1 smaller than 6 px: Walk/0 frame 3" in text
    picture = cv2.imread(str(out))
    assert picture.shape == (240 + 18 + 2 * 6, 4 * (320 + 6) + 6, 3)
    for tile, (x, colour) in enumerate([(10, sheet.KEPT), (12, sheet.KEPT), (14, sheet.KEPT), (16, sheet.DROPPED)]):
        edge = picture[6 + 4 * 18, 6 + 326 * tile + 4 * x + np.arange(-2, 3)]  # left edge of the box, 4 times as large
        assert (np.abs(edge.astype(int) - colour).max(1) < 40).any()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_sheet_shows_as_many_clips_as_there_are(tmp_path):
    for i in range(5):
        write_images(tmp_path / f"c{i}", [f"{n}.jpg" for n in range(4)])
        write_text(tmp_path / f"c{i}" / "boxes.csv", plain_rows())
    tally, tiles = sheet.inspect(tmp_path, None, 5)
    assert tally.kept["sequences"] == 5
    captions = [tile[240:, :24].tobytes() for tile in tiles]  # the names of the clips
    assert len(set(captions)) == 5
    assert len(sheet.inspect(tmp_path, None, 100)[1]) == 20


def test_ctrl_c_shows_what_was_seen(tmp_path, monkeypatch):
    otb(tmp_path)

    def interrupted(*args):
        yield from read(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(sheet, "read", interrupted)
    tally, tiles = sheet.inspect(tmp_path, None, 4)
    assert tally.kept["boxes"] == len(tiles) == 4 and tally.names["the rest: interrupted"] == ["after 1 clips"]


def test_commands_say_what_is_wrong_in_one_line(tmp_path, capsys):
    write_images(tmp_path / "none", ["0.jpg"])
    write_text(tmp_path / "none" / "boxes.csv", "frame,x,y,w,h\n")
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert "nothing in it can be used" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "none"), "--sheet", str(tmp_path / "sheet.gif")])
    assert "sheet.gif: the name of a picture ends in .png or .jpg" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "none"), "--sheet", str(tmp_path / "gone" / "sheet.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path / "none"), "--store", str(tmp_path / "store")]) == 2
    assert "no usable box" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path), "--tiles", "0"])


@pytest.mark.parametrize("network", ["swift", "siamfc"])
def test_preview_draws_pairs_with_their_labels(tmp_path, network):
    from dataclasses import replace
    from pathlib import Path

    import yaml

    from tracker.config import load_yaml, to_dict
    from train.config import TrainConfig
    from train.store import Store

    write_images(tmp_path / "walk", [f"{i}.jpg" for i in range(4)])
    write_text(tmp_path / "walk" / "boxes.csv", plain_rows())
    assert main(["prepare", str(tmp_path / "walk"), "--store", str(tmp_path / "store")]) == 0
    cfg = load_yaml(TrainConfig, Path(__file__).parents[1] / "configs" / f"{network}.yaml")
    cfg = replace(cfg, pairs=replace(cfg.pairs, mix={"video": 1.0}, grey=0.0, colour=0.0, blur=0.0, noise=0.0))
    write_text(tmp_path / "c.yaml", yaml.safe_dump(to_dict(cfg)))
    command = ["preview", "--config", str(tmp_path / "c.yaml"), "--store", str(tmp_path / "store"), "--out"]
    assert main([*command, str(tmp_path / "pairs.png"), "--pairs", "2"]) == 0
    (one, two) = sheet.preview(cfg, Store(tmp_path / "store"), 2)
    assert cv2.imread(str(tmp_path / "pairs.png")).shape[1] == 2 * one.shape[1] + 3 * 6
    assert one.shape == two.shape and not np.array_equal(one, two)
    # the cell in the middle of the target is tinted as a target, a corner of the crop is not
    pair = sheet.PairSampler(Store(tmp_path / "store"), cfg.pairs, cfg.model, cfg.search_size, cfg.seed)[0]
    left = round(1.5 * cfg.model.exemplar_size) + 3
    x, y, w, h = pair.box_search
    cx, cy = int(x + w / 2), int(y + h / 2)
    before = pair.search[cy - 1 : cy + 2, cx - 1 : cx + 2].mean((0, 1))
    after = one[int(1.5 * cy) - 1 : int(1.5 * cy) + 2, left + int(1.5 * cx) - 1 : left + int(1.5 * cx) + 2].mean((0, 1))
    assert after == pytest.approx(0.7 * before + 0.3 * np.array(sheet.TARGET), abs=12)


# --- what people's files are like


def test_yolo_labels_of_a_tracker_are_boxes(tmp_path):
    """`save_txt save_conf` of a tracker writes a confidence and an identity behind the box."""
    write_images(tmp_path / "images", [f"{c}.jpg" for c in "abcdef"], step=0)
    box = "0.25 0.3 0.25 0.26666667"
    more = ["0.911 1", "0.911", "7", "0.9 0.9", "40 1", ""]
    for name, words in zip("abcdef", more, strict=True):
        write_text(tmp_path / "labels" / f"{name}.txt", f"0 {box} {words}\n" if name != "f" else "0 20 18 20 16\n")
    boxes, tally, _ = collect(tmp_path)
    for name in "abce":
        assert boxes[f"{tmp_path.name}/{name}.jpg"]["0"][0] == pytest.approx(FRAMES[0], abs=1e-4)
    assert boxes[f"{tmp_path.name}/d.jpg"]["0"][0][2] == pytest.approx(0.65 * W)  # a triangle: its third corner at .9
    assert tally.dropped == {"labels that cannot be read": 1}
    assert "f.txt, line 1: neither class x y w h nor a polygon in shares" in next(iter(tally.names.values()))[0]


def test_yolo_key_points_are_no_polygon(tmp_path):
    write_images(tmp_path / "images", ["a.jpg"])
    write_text(tmp_path / "labels" / "a.txt", "0 0.25 0.3 0.25 0.26666667 0.1 0.1 0.9 0.9\n")
    write_text(tmp_path / "data.yaml", "names: [dog]\nkpt_shape: [2, 2]\n")
    boxes, _, _ = collect(tmp_path)
    assert boxes[f"{tmp_path.name}/a.jpg"]["0"][0] == pytest.approx(FRAMES[0], abs=1e-4)


@pytest.mark.parametrize(
    ("images", "numbers", "kept"),
    [
        ((1, 2, 4), (1, 2, 3, 4), {0: 1, 1: 2, 2: 4}),  # an image is missing
        ((0, 1, 2), (0, 1, 2), {0: 0, 1: 1, 2: 2}),  # both count from 0
        ((0, 1, 2), (1, 2, 3), {0: 1, 1: 2, 2: 3}),  # the images from 0, the boxes from 1
        ((101, 102, 103), (1, 2, 3), {0: 1, 1: 2, 2: 3}),  # cut out of a longer video
    ],
)
def test_mot_boxes_belong_to_the_image_of_their_number(tmp_path, images, numbers, kept):
    write_images(tmp_path / "img1", [f"{n:06d}.jpg" for n in images])
    write_text(tmp_path / "gt" / "gt.txt", "".join(f"{n},5,{11 + n},11,20,16,1,1,1\n" for n in numbers))
    boxes, tally, _ = collect(tmp_path)
    assert boxes[tmp_path.name]["5"] == {place: (10 + n, 10, 20, 16) for place, n in kept.items()}
    assert tally.dropped == ({"boxes without a frame": 1} if len(kept) < len(numbers) else {})


@pytest.mark.parametrize(("size", "fits"), [((2 * W, 2 * H), True), ((H, W), False), ((W, H), True), ((0, 0), True)])
def test_boxes_drawn_on_photos_of_another_size(tmp_path, size, fits):
    """Photos were made smaller after they were annotated, or are turned by their EXIF data."""
    scale = size[0] / W if size[0] else 1
    x, y, w, h = (v * scale for v in FRAMES[0])
    write_images(tmp_path / "coco" / "images", ["a.jpg"])
    shape = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    data = {"images": [{"id": 1, "file_name": "sub\\a.jpg", "width": size[0], "height": size[1]}],
            "annotations": [{"id": 1, "image_id": 1, "bbox": [x, y, w, h], "segmentation": shape}]}  # fmt: skip
    (tmp_path / "coco" / "images" / "sub").mkdir()
    (tmp_path / "coco" / "images" / "a.jpg").rename(tmp_path / "coco" / "images" / "sub" / "a.jpg")
    write_text(tmp_path / "coco" / "a.json", json.dumps(data))
    write_images(tmp_path / "voc", ["a.jpg"])
    corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
    named = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    xml = f"<annotation>{named}<object><bndbox>{corners}</bndbox></object></annotation>"
    write_text(tmp_path / "voc" / "a.xml", xml)
    for layout in ("coco", "voc"):
        boxes, tally, masks = collect(tmp_path / layout)
        if fits:
            (found,) = boxes.values()
            assert found["0"][0] == pytest.approx(FRAMES[0], abs=0.5 if scale > 1 else 1e-6)
            for mask in masks.values():
                assert np.abs(np.subtract(extent(mask), FRAMES[0])).max() <= 1
        else:
            assert not boxes and tally.dropped == {f"drawn on frames of another shape ({H} x {W})": 1}


def test_hidden_files_are_no_footage(tmp_path):
    """macOS lays ._name beside every file on foreign disks."""
    clip = tmp_path / "clip"
    clip.mkdir()
    write_video(clip / "a.mp4", 4)
    write_text(clip / "boxes.csv", plain_rows())
    trackingnet(tmp_path / "tn")
    lasot(tmp_path / "lasot")
    write_images(tmp_path / "voc", ["a.jpg"])
    write_text(tmp_path / "voc" / "a.xml", XML.format(name="a.jpg"))
    write_images(tmp_path / "yolo" / "images", ["a.jpg"])
    write_text(tmp_path / "yolo" / "labels" / "a.txt", "0 0.25 0.3 0.25 0.26666667\n")
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    for name in ("clip", "tn", "lasot", "voc", "yolo"):
        boxes, tally, _ = collect(tmp_path / name)
        assert len(boxes) == 1 and not tally.dropped, name
    assert len(load(tmp_path / "tn", "trackingnet")) == len(load(tmp_path / "lasot", "lasot")) == 1


def test_boxes_as_pandas_and_our_own_tracker_write_them(tmp_path):
    write_images(tmp_path, [f"{i}.jpg" for i in range(4)])
    rows = [
        f"{i}.0,0.04,0,{x},{y},{w},{h},0.9,{'lost' if i == 2 else 'tracking'}" for i, (x, y, w, h) in FRAMES.items()
    ]
    write_text(tmp_path / "boxes.csv", "\n".join(["frame,time,id,x,y,w,h,score,state", *rows]))
    boxes, tally, _ = collect(tmp_path)
    assert boxes[tmp_path.name]["0"] == {i: FRAMES[i] for i in (0, 1, 3)}
    assert tally.dropped["rows without a target (state lost)"] == 1


def test_paths_as_windows_writes_them(tmp_path):
    write_images(tmp_path / "images" / "a", ["0.jpg"])
    write_text(tmp_path / "boxes.csv", "image,x,y,w,h\na\\0.jpg,10,10,20,16\n")
    assert collect(tmp_path)[0] == {f"{tmp_path.name}/a/0.jpg": {"0": {0: FRAMES[0]}}}


@pytest.mark.parametrize("encoding", ["gbk", "utf-8", "utf-16"])
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path, encoding):
    write_images(tmp_path, ["a.jpg"])
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + XML.format(name="a.jpg").replace("dog", "狗")
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    (clip,) = read(tmp_path, "voc", Tally())
    assert clip.targets[0].label == f"{tmp_path.name}/狗"


def test_an_export_of_cvat_is_named(tmp_path):
    write_text(tmp_path / "annotations.xml", "<annotations><image id='0'><box xtl='4'/></image></annotations>")
    _, tally, _ = collect(tmp_path)
    assert "an export of CVAT" in tally.names["labels that cannot be read"][0]


@pytest.mark.parametrize("line", ["41,2;51,7;40,1;30,9", "41,2\t51,7\t40,1\t30,9", "41,2 51,7 40,1 30,9"])
def test_decimal_commas_are_refused(tmp_path, line):
    otb(tmp_path)
    write_text(tmp_path / "Walk" / "groundtruth_rect.txt", "\n".join([line] * 4))
    _, tally, _ = collect(tmp_path)
    assert "line 1: two kinds of separators" in tally.names["sequences that cannot be used"][0]


def test_lasot_leaves_out_a_surplus_image(tmp_path):
    lasot(tmp_path)
    write_images(tmp_path / "walk" / "Walk" / "img", ["00000005.jpg"])
    assert collect(tmp_path)[0] == {"Walk": {"0": FRAMES}}
    write_images(tmp_path / "walk" / "Walk" / "img", ["00000006.jpg"])
    assert "6 frames but 4 boxes" in collect(tmp_path)[1].names["sequences that cannot be used"][0]


def test_a_field_without_end_and_a_name_without_end(tmp_path):
    for name, text in {"a": "x" * 200_000, "b": "i" * 5000, "c": "../../other", "d": "fine"}.items():
        write_images(tmp_path / name, ["0.jpg"])
        write_text(tmp_path / name / "boxes.csv", f"frame,x,y,w,h,id\n0,10,10,20,16,{text}\n")
        (tmp_path / name / "masks" / "fine").mkdir(parents=True)
    write_images(tmp_path / "other", ["0.png"])  # no masks of anything in c
    tally = Tally()
    clips = list(read(tmp_path, "boxes", tally))
    assert [clip.name for clip in clips] == ["b", "c", "d"] and not any(t.masks for clip in clips for t in clip.targets)
    assert "a/boxes.csv: not a table: field larger" in tally.names["sequences that cannot be used"][0]


def test_a_link_to_itself_does_not_hide_the_layout(tmp_path):
    write_images(tmp_path / "walk" / "img", ["0001.jpg"])
    write_text(tmp_path / "walk" / "groundtruth_rect.txt", "11,11,20,16\n")
    for folder in (tmp_path, tmp_path / "walk"):
        (folder / "self").symlink_to(folder / "self")
    assert detect(tmp_path) == "otb" and collect(tmp_path)[0] == {"walk": {"0": {0: FRAMES[0]}}}


def test_clips_behind_links_are_read_once(tmp_path):
    """A split that is made of links to the clips, and a link back to where it began."""
    clip = tmp_path / "disk" / "walk"
    clip.mkdir(parents=True)
    write_video(clip / "a.mp4", 6)
    write_text(clip / "boxes.csv", plain_rows())
    split = tmp_path / "split"
    split.mkdir()
    for name, place in (("walk", clip), ("again", clip), ("round", split)):
        (split / name).symlink_to(place)
    assert collect(split)[0] == {"walk": {"0": FRAMES}}
    assert list(find_videos([split]).values()) == [split / "again" / "a.mp4"]


def test_numbers_without_end_in_coco(tmp_path):
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    boxes = [[10**400, 1, 2, 3], [10, 10, 20, 16]]
    annotations = [{"image_id": k, "bbox": box} for k, box in enumerate(boxes)]
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 10**400, "height": 1e999} for k in range(2)]
    write_text(tmp_path / "a.json", json.dumps({"images": images, "annotations": annotations}))
    boxes, tally, _ = collect(tmp_path)
    assert [list(found.values()) for found in boxes.values()] == [[{0: FRAMES[0]}]]
    assert tally.dropped["annotations without a box"] == 1
