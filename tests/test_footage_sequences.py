"""Each reader on a tiny tree in the exact layout of its data set, with real image files."""

import cv2
import numpy as np
import pytest

from tracker.errors import DataError
from tracker.footage import single
from tracker.footage.check import check, inspect
from tracker.footage.layouts import load, load_folder


def write_images(folder, names, size=(24, 16)):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        image = np.full((size[1], size[0], 3), 10 * index % 250, np.uint8)
        (folder / name).write_bytes(cv2.imencode((folder / name).suffix, image)[1].tobytes())


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def otb(root, name, count, lines=None, start=1, truth="groundtruth_rect.txt"):
    write_images(root / name / "img", [f"{n:04d}.jpg" for n in range(start, start + count)])
    lines = [f"{2 + n},3,5,6" for n in range(count)] if lines is None else lines
    write_text(root / name / truth, "\n".join(lines) + "\n")


def test_folder_reads_every_delimiter_and_takes_one_off_once(tmp_path):
    otb(tmp_path, "A", 3, ["2,3,5,6", "3\t3\t5\t6", "4 3  5 6"])
    (sequence,) = load_folder(tmp_path)
    np.testing.assert_array_equal(sequence.boxes, [[1, 2, 5, 6], [2, 2, 5, 6], [3, 2, 5, 6]])
    assert (sequence.name, len(sequence), sequence.image(2).shape) == ("A", 3, (16, 24, 3))
    assert sequence.image(2).mean() == pytest.approx(20, abs=1)
    (same,) = load_folder(tmp_path / "A", one_based=False)
    np.testing.assert_array_equal(same.boxes[0], [2, 3, 5, 6])


def test_folder_orders_frames_by_number_not_by_letter(tmp_path):
    write_images(tmp_path / "A" / "img", ["2.png", "10.png", "1.png"])
    write_text(tmp_path / "A" / "groundtruth_rect.txt", "1 1 4 4\n" * 3)
    assert [p.name for p in load(tmp_path)[0].frames] == ["1.png", "2.png", "10.png"]


def test_absent_targets_become_nan_rows(tmp_path):
    otb(tmp_path, "A", 4, ["2,3,5,6", "NaN,NaN,NaN,NaN", "0,0,0,0", "2,3,5,6"])
    np.testing.assert_array_equal(np.isnan(load(tmp_path)[0].boxes).any(axis=1), [False, True, True, False])


def test_frames_are_read_lazily(tmp_path):
    otb(tmp_path, "A", 2)
    (tmp_path / "A" / "img" / "0002.jpg").write_bytes(b"not a picture")
    (sequence,) = load(tmp_path)
    assert sequence.image(0).shape == (16, 24, 3)
    with pytest.raises(DataError, match=r"0002\.jpg: not a readable image"):
        sequence.image(1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,5,5"] * 3, "2 frames but 3 boxes"),
        (["1,1,5,5"], "2 frames but 1 boxes"),
        (["1,1,5,5", "1,1,5"], "line 2: 3 numbers"),
        (["1,1,5,5", "1,x,5,5"], "line 2: not numbers"),
        (["0,0,0,0", "1,1,5,5"], "first box"),
        (["1,1,5,5,9", "1,1,5,5,9"], "5 numbers a line"),
        ([], "empty"),
    ],
)
def test_inconsistent_truth_is_named(tmp_path, lines, message):
    otb(tmp_path, "A", 2, lines)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_otb_takes_the_official_frames(tmp_path):
    otb(tmp_path, "David", 771, start=1, lines=[f"{n},1,5,5" for n in range(300, 771)])
    otb(tmp_path, "tiger1", 8, start=1)  # boxes from frame 1, official start at 6; a lower-case mirror
    otb(tmp_path, "BlurCar1", 3, start=247)
    found = {}
    for name, build in single.otb(["David", "Tiger1", "BlurCar1"], tmp_path, True):
        found[name] = build()
    assert len(found["David"]) == 471
    assert (found["David"].frames[0].name, found["David"].frames[-1].name) == ("0300.jpg", "0770.jpg")
    assert found["David"].boxes[0, 0] == 299
    assert [p.name for p in found["Tiger1"].frames] == ["0006.jpg", "0007.jpg", "0008.jpg"]
    assert found["Tiger1"].boxes[0, 0] == 2 + 5 - 1
    assert len(found["BlurCar1"]) == 3


def test_otb_splits_two_targets_and_skips_the_empty_file_of_human4(tmp_path):
    otb(tmp_path, "Jogging", 2, truth="groundtruth_rect.1.txt")
    write_text(tmp_path / "Jogging" / "groundtruth_rect.2.txt", "9\t9\t4\t4\n8\t9\t4\t4\n")
    otb(tmp_path, "Human4", 2, truth="groundtruth_rect.2.txt")
    write_text(tmp_path / "Human4" / "groundtruth_rect.1.txt", "\n")
    write_text(tmp_path / "anno" / "att" / "human4.txt", "1,0,1,0,0,0,0,0,0,0,1\n")
    found = {name: build() for name, build in single.otb(["Jogging", "Human4"], tmp_path, True)}
    assert list(found) == ["Human4", "Jogging-1", "Jogging-2"]
    assert found["Jogging-2"].boxes[0, 0] == 8
    assert found["Human4"].attributes == ("IV", "SV", "LR")
    assert found["Human4"].omitted == frozenset()
    write_text(tmp_path / "initOmit" / "Human4.txt", "2 9\n")
    found = {name: build() for name, build in single.otb(["Human4"], tmp_path, True)}
    assert found["Human4"].omitted == {1}


def test_the_otb_lists_have_the_published_sizes():
    assert [len(text.split()) for text in (single.OTB2013, single.OTB50, single.OTB100)] == [50, 49, 98]
    assert len(set(single.OTB100.split())) == 98  # and Jogging, Skating2 count twice


def test_otb_names_a_missing_sequence(tmp_path):
    otb(tmp_path, "Basketball", 2)
    with pytest.raises(DataError, match="Biker: missing"):
        load(tmp_path, "otb50")
    assert len(check(tmp_path, "otb50")) == 48


def test_got10k_val_and_test(tmp_path):
    write_text(tmp_path / "list.txt", "V\nT\n")
    for name, lines in (("V", "3.0,3.0,5.0,6.0\n" * 3), ("T", "3.0,3.0,5.0,6.0\n")):
        write_images(tmp_path / name, [f"{n:08d}.jpg" for n in (1, 2, 3)])
        write_text(tmp_path / name / "groundtruth.txt", lines)
    write_text(tmp_path / "V" / "cover.label", "8\n0\n4\n")
    write_text(tmp_path / "V" / "meta_info.ini", "[METAINFO]\nanno_fps: 10Hz\nresolution: (1920, 1080)\n")
    val, test = load(tmp_path, "got10k")
    np.testing.assert_array_equal(np.isnan(val.boxes[:, 0]), [False, True, False])
    assert (val.fps, val.bound) == (10.0, (-1.0, -1.0, 1919.0, 1079.0))  # its toolkit clips one-based boxes
    np.testing.assert_array_equal(np.isnan(test.boxes[:, 0]), [False, True, True])


def test_lasot_leaves_out_absent_frames(tmp_path):
    folder = tmp_path / "airplane" / "airplane-1"
    write_images(folder / "img", [f"{n:08d}.jpg" for n in (1, 2, 3)])
    write_text(folder / "groundtruth.txt", "3,3,5,6\n" * 3)
    write_text(folder / "full_occlusion.txt", "0,1,0")
    write_text(folder / "out_of_view.txt", "0,0,1")
    (sequence,) = load(tmp_path, "lasot")
    assert sequence.name == "airplane-1"
    np.testing.assert_array_equal(np.isnan(sequence.boxes[:, 0]), [False, True, True])
    write_text(tmp_path / "testing_set.txt", "airplane-1\nzebra-2\n")
    assert any("zebra-2" in line for line in check(tmp_path, "lasot"))


def test_uav123_cuts_a_video_into_its_parts(tmp_path):
    video = tmp_path / "data_seq" / "UAV123" / "truck4"
    write_images(video, [f"{n:06d}.jpg" for n in range(575, 581)])
    write_text(tmp_path / "anno" / "UAV123" / "truck4_2.txt", "3,3,5,6\nNaN,NaN,NaN,NaN\n3,3,5,6\n")
    write_text(tmp_path / "anno" / "UAV123" / "att" / "truck4_2.txt", "1,0,0,0,0,0,0,0,0,0,0,1\n")
    (sequence,) = load(tmp_path, "uav123")
    assert [p.name for p in sequence.frames] == ["000577.jpg", "000578.jpg", "000579.jpg"]
    assert sequence.attributes == ("SV", "SOB")
    write_text(tmp_path / "anno" / "UAV123" / "truck4_2.txt", "3,3,5,6\n" * 9)
    with pytest.raises(DataError, match="frame 581 of truck4"):
        load(tmp_path, "uav123")


def test_uav20l_uses_whole_videos(tmp_path):
    write_images(tmp_path / "data_seq" / "UAV123" / "bike1", [f"{n:06d}.jpg" for n in (1, 2)])
    write_text(tmp_path / "anno" / "UAV20L" / "bike1.txt", "3,3,5,6\n3,3,5,6\n")
    assert len(load(tmp_path, "uav20l")[0]) == 2


def test_nfs_reads_corners_and_every_eighth_box(tmp_path):
    write_images(tmp_path / "ball" / "30" / "ball", [f"{n:05d}.jpg" for n in (1, 2)])
    lines = [f"0 {10 + n} 4 {15 + n} 12 {n} 0 0 0 'ball'" for n in range(16)]
    write_text(tmp_path / "ball" / "30" / "ball.txt", "\n".join(lines))
    (sequence,) = load(tmp_path, "nfs30")
    np.testing.assert_array_equal(sequence.boxes, [[10, 4, 5, 8], [18, 4, 5, 8]])


def test_trackingnet(tmp_path):
    write_images(tmp_path / "frames" / "x_1", [f"{n}.jpg" for n in range(12)])
    write_text(tmp_path / "anno" / "x_1.txt", "3.5,3,5,6\n")
    (sequence,) = load(tmp_path, "trackingnet")
    assert [p.name for p in sequence.frames][-2:] == ["10.jpg", "11.jpg"]
    assert sequence.boxes[0, 0] == 3.5
    assert np.isnan(sequence.boxes[1:]).all()


def test_vot_polygons_masks_and_the_sequence_file(tmp_path):
    write_text(tmp_path / "list.txt", "poly\nmask\n")
    write_images(tmp_path / "poly", ["00000001.jpg", "00000002.jpg"])
    write_text(tmp_path / "poly" / "groundtruth.txt", "2,2,8,4,6,9,1,7\n" * 2)
    write_text(tmp_path / "poly" / "occlusion.tag", "0\n1\n")
    write_images(tmp_path / "mask" / "color", ["00000001.jpg", "00000002.jpg"])
    write_text(tmp_path / "mask" / "sequence", "channels.color=color/%08d.jpg\nfps=25\nname=mask\n")
    # a 4 x 3 mask at (5, 6): row 0 empty, row 1 ".##.", row 2 ".#.."
    write_text(tmp_path / "mask" / "groundtruth.txt", "m5,6,4,3,5,2,2,1\n0\n")
    poly, mask = load(tmp_path, "vot")
    np.testing.assert_array_equal(poly.boxes[0], [1, 2, 7, 7])
    assert poly.attributes == ("occlusion",)
    assert poly.tags["occlusion"].tolist() == [False, True] and poly.part(1).tags["occlusion"].tolist() == [True]
    assert poly.backwards(1).tags["occlusion"].tolist() == [True, False]
    write_text(tmp_path / "poly" / "occlusion.tag", "1\n")  # the toolkit takes what is missing for untagged
    assert load(tmp_path, "vot")[0].tags["occlusion"].tolist() == [True, False]
    np.testing.assert_array_equal(mask.boxes[0], [6, 7, 2, 2])
    assert np.isnan(mask.boxes[1]).all()
    assert mask.fps == 25
    assert mask.anchors == ()
    write_text(tmp_path / "mask" / "anchor.value", "1\n-1\n")
    assert load(tmp_path, "vot")[1].anchors == (0, -2)  # the second backwards


def test_davis_makes_a_box_of_every_object(tmp_path):
    write_images(tmp_path / "JPEGImages" / "480p" / "dog", ["00000.jpg", "00001.jpg", "00002.jpg"])
    masks = tmp_path / "Annotations" / "480p" / "dog"
    masks.mkdir(parents=True)
    for index in range(3):
        mask = np.zeros((16, 24, 3), np.uint8)
        mask[2:5, 3 + index : 8 + index] = (0, 0, 128)  # object 1 of the palette, in BGR
        if index:
            mask[10:12, 0:4] = (0, 128, 128)  # object 3, from the second frame on
        (masks / f"{index:05d}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    first, second = load(tmp_path, "davis")
    assert (first.name, second.name, len(first), len(second)) == ("dog-1", "dog-3", 3, 2)
    np.testing.assert_array_equal(first.boxes[2], [5, 2, 5, 3])
    np.testing.assert_array_equal(second.boxes[0], [0, 10, 4, 2])


def test_check_lists_every_problem_and_is_silent_on_good_data(tmp_path):
    otb(tmp_path, "Good", 3)
    assert check(tmp_path) == []
    otb(tmp_path, "Count", 3, ["1,1,5,5"])
    otb(tmp_path, "Gap", 3)
    (tmp_path / "Gap" / "img" / "0002.jpg").rename(tmp_path / "Gap" / "img" / "0005.jpg")
    otb(tmp_path, "Broken", 3)
    (tmp_path / "Broken" / "img" / "0002.jpg").write_bytes(b"")
    otb(tmp_path, "Size", 2)
    write_images(tmp_path / "Size" / "img", ["0002.jpg"], size=(30, 16))
    otb(tmp_path, "Outside", 2, ["1,1,5,5", "99,1,5,5"])
    write_images(tmp_path / "NoTruth" / "img", ["0001.jpg"])
    text = "\n".join(check(tmp_path))
    assert "Count: 3 frames but 1 boxes" in text
    assert "Gap: frame numbers jump from 1 to 3" in text
    assert "0002.jpg: not a readable image" in text
    assert "0002.jpg is 30 x 16, the first frame 24 x 16" in text
    assert "Outside: 1 boxes lie wholly outside" in text
    assert "groundtruth_rect.txt: cannot be read" in text
    assert "Good" not in text
    good, no_truth = (next(f for f in inspect(tmp_path) if f.name == name) for name in ("Good", "NoTruth"))
    assert good.summary == "3 frames, 3 boxes, first box 1, 2, 5, 6"
    assert no_truth.summary == ""
    otb(tmp_path, "Zero", 1, ["0,3,5,5"])
    assert any("Zero: the first box starts at pixel 0" in line for line in check(tmp_path))
    assert not any("Zero" in line for line in check(tmp_path, one_based=False))


def test_bad_paths_and_layouts_are_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match="no sequence in it"):
        load(tmp_path)
    with pytest.raises(ValueError, match="layout must be one of folder"):
        load(tmp_path, "coco")
    for layout in ("otb100", "got10k", "lasot", "uav123", "nfs240", "trackingnet", "vot", "davis"):
        with pytest.raises(DataError):
            load(tmp_path, layout)


def test_the_fingerprint_follows_boxes_and_files(tmp_path):
    otb(tmp_path, "A", 2)
    before = load(tmp_path)[0].fingerprint()
    assert load(tmp_path)[0].fingerprint() == before
    assert load(tmp_path, one_based=False)[0].fingerprint() != before
    write_images(tmp_path / "A" / "img", ["0002.jpg"], size=(48, 32))
    assert load(tmp_path)[0].fingerprint() != before


def test_one_image_too_many_is_left_out_with_a_word_and_hidden_files_are_not_seen(tmp_path):
    otb(tmp_path, "A", 4, ["2,3,5,6"] * 3)
    (tmp_path / "A" / "img" / "._0001.jpg").write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves them
    (tmp_path / ".Trashes" / "img").mkdir(parents=True)
    (sequence,) = load(tmp_path)
    assert [path.name for path in sequence.frames] == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert check(tmp_path) == ["A: 4 images for 3 boxes, the last was left out"]
    otb(tmp_path, "B", 5, ["2,3,5,6"] * 3)
    with pytest.raises(DataError, match="B: 5 frames but 3 boxes"):
        load(tmp_path)


def test_tc128_takes_the_frames_that_it_names(tmp_path):
    folder = tmp_path / "Airport_ce"
    write_images(folder / "img", [f"{n:04d}.jpg" for n in range(1, 6)])
    write_text(folder / "Airport_ce_gt.txt", "3,3,5,6\n4,3,5,6\n5,3,5,6\n")
    write_text(folder / "Airport_ce_frames.txt", "2,4\n")
    write_text(folder / "Airport_ce_att.txt", "1,0,0,1,0,0,0,0,0,0,0\n")
    (sequence,) = load(tmp_path, "tc128")
    assert [path.name for path in sequence.frames] == ["0002.jpg", "0003.jpg", "0004.jpg"]
    assert (sequence.boxes[0, 0], sequence.attributes) == (2, ("IV", "OCC"))


@pytest.mark.parametrize("inner", ["", "UAV-benchmark-SOT_v1.0/"])
def test_uavdt_as_its_two_archives_lie(tmp_path, inner):
    write_images(tmp_path / "UAV-benchmark-S" / "S0101", ["img000001.jpg", "img000002.jpg"])
    write_text(tmp_path / f"{inner}anno" / "S0101_gt.txt", "3,3,5,6\n4,3,5,6\n")
    write_text(tmp_path / f"{inner}att" / "S0101_att.txt", "1,0,0,0,0,0,0,0,1\n")
    (sequence,) = load(tmp_path, "uavdt")
    assert (sequence.name, len(sequence), sequence.boxes[1, 0]) == ("S0101", 2, 3)
    assert sequence.attributes == ("BC", "LT")


def test_visdrone(tmp_path):
    write_images(tmp_path / "sequences" / "uav1", ["img0000001.jpg", "img0000002.jpg"])
    write_text(tmp_path / "annotations" / "uav1.txt", "3,3,5,6\n4,3,5,6\n")
    write_text(tmp_path / "attributes" / "uav1_attr.txt", "0,1,0,0,0,0,0,0,0,0,0,0\n")
    (sequence,) = load(tmp_path, "visdrone")
    assert (sequence.boxes[0, 0], sequence.attributes) == (3, ("BC",))


@pytest.mark.parametrize(("layout", "folder", "truth"), [
    ("tnl2k", "advSamp_cat", "groundtruth.txt"), ("vasttrack", "Zebra/Zebra-1", "Groundtruth.txt")])  # fmt: skip
def test_folders_of_imgs(tmp_path, layout, folder, truth):
    write_images(tmp_path / folder / "imgs", ["00001.png", "00002.png"])
    write_text(tmp_path / folder / truth, "3,3,5,6\n4,3,5,6\n")
    (sequence,) = load(tmp_path, layout)
    assert (sequence.name, len(sequence)) == (folder.split("/")[-1], 2)


def test_avist_and_lasot_say_where_the_target_is_not_seen(tmp_path):
    write_images(tmp_path / "a" / "sequences" / "fog", [f"img_{n:05d}.jpg" for n in (1, 2, 3)])
    write_text(tmp_path / "a" / "anno" / "fog.txt", "3,3,5,6\n" * 3)
    write_text(tmp_path / "a" / "full_occlusion" / "fog_full_occlusion.txt", "0\n1\n0\n")
    write_text(tmp_path / "a" / "out_of_view" / "fog_out_of_view.txt", "0\n0\n1\n")
    (sequence,) = load(tmp_path / "a", "avist")
    np.testing.assert_array_equal(np.isnan(sequence.boxes[:, 0]), [False, True, True])
    folder = tmp_path / "l" / "cat" / "cat-1"
    write_images(folder / "img", ["00000001.jpg"])
    write_text(folder / "groundtruth.txt", "3,3,5,6\n")
    write_text(tmp_path / "l" / "annos" / "att" / "cat-1.txt", "1,0,0,0,0,0,0,0,0,0,0,0,0,1\n")
    assert load(tmp_path / "l", "lasot")[0].attributes == ("IV", "ARC")


def test_oxuva_knows_present_absent_and_not_labelled(tmp_path):
    write_images(tmp_path / "images" / "dev" / "vid1", [f"{n:06d}.jpeg" for n in range(6)])
    box, none = "0.25,0.5,0.5,0.75", "-1,-1,-1,-1"
    labels = ((1, "present", box), (3, "absent", none), (4, "present", box))
    lines = [f"vid1,obj0,5,bear,false,false,{frame},{state},{where}" for frame, state, where in labels]
    write_text(tmp_path / "annotations" / "dev.csv", "\n".join(lines) + "\n")
    (sequence,) = load(tmp_path, "oxuva")
    assert (sequence.name, len(sequence), sequence.category) == ("vid1_obj0", 4, "bear")
    np.testing.assert_array_equal(sequence.boxes[0], [6, 8, 6, 4])  # of 24 x 16 px
    np.testing.assert_array_equal(np.isnan(sequence.boxes[:, 0]), [False, True, True, False])
    assert sequence.absent == {2}


def test_got10k_and_trackingnet_from_the_folder_above(tmp_path):
    write_images(tmp_path / "g" / "val" / "V", ["00000001.jpg", "00000002.jpg"])
    write_text(tmp_path / "g" / "val" / "list.txt", "V\n")
    write_text(tmp_path / "g" / "val" / "V" / "groundtruth.txt", "3,3,5,6\n" * 2)
    write_text(tmp_path / "g" / "val" / "V" / "meta_info.ini", "[METAINFO]\nobject_class: JetSki\n")
    assert load(tmp_path / "g", "got10k")[0].category == "JetSki"
    write_images(tmp_path / "t" / "TEST" / "frames" / "x", ["0.jpg", "1.jpg"])
    write_text(tmp_path / "t" / "TEST" / "anno" / "x.txt", "3,3,5,6\n")
    assert len(load(tmp_path / "t", "trackingnet")[0]) == 2


def test_vot_keeps_the_corners_of_a_rotated_truth(tmp_path):
    write_images(tmp_path / "poly", ["00000001.jpg", "00000002.jpg"])
    write_text(tmp_path / "poly" / "groundtruth.txt", "2,2,8,4,6,9,1,7\n" * 2)
    (sequence,) = load(tmp_path, "vot")
    np.testing.assert_array_equal(sequence.polygons[1], [[2, 2], [8, 4], [6, 9], [1, 7]])
    assert sequence.part(1).polygons.shape == (1, 4, 2)
    assert sequence.backwards(1).polygons.shape == (2, 4, 2)
