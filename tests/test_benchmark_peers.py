"""Adapters of other trackers: their specs, their geometry on toy networks with known answers, their contract."""

import sys

import cv2
import numpy as np
import pytest
from test_benchmark_runner import make_sequence

from tracker.benchmark.judge import metrics
from tracker.benchmark.peers.contract import ContractError, check_tracker
from tracker.benchmark.peers.peers import load_tracker, split_spec, tracker_name
from tracker.benchmark.run.runner import evaluate, run_ope
from tracker.footage.layouts import load_folder
from tracker.scene import Scene


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return make_sequence(tmp_path_factory.mktemp("data"), size=(320, 240), start=(120, 100))


def write_graph(path, inputs, outputs, constants=None, pool=False):
    """Write an ONNX file: constants as outputs, or an average pool of stride 16."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    if pool:
        node = {"kernel_shape": [16, 16], "strides": [16, 16], "auto_pad": "SAME_UPPER"}
        nodes = [helper.make_node("AveragePool", [inputs[0][0]], [outputs[0][0]], **node)]
    else:
        nodes = [
            helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(constants[name]))
            for name, _ in outputs
        ]
    values = [[helper.make_tensor_value_info(name, kind, shape) for name, shape in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "toy", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def nano(folder, cell=(7, 7), half=31.75):
    """NanoTrack v3 files whose head always answers: the target is at this cell, `half` crop px to every side."""
    write_graph(
        folder / "nanotrackv3_backbone.onnx", [("input", [1, 3, 255, 255])], [("output", [1, 3, 16, 16])], pool=True
    )
    scores, sides = np.zeros((1, 2, 15, 15), np.float32), np.full((1, 4, 15, 15), half, np.float32)
    scores[0, 0], scores[0, 0, cell[0], cell[1]], scores[0, 1, cell[0], cell[1]] = 20, 0, 20
    both = [("output1", [1, 2, 15, 15]), ("output2", [1, 4, 15, 15])]
    given = [("input1", [1, 3, 8, 8]), ("input2", [1, 3, 16, 16])]
    write_graph(folder / "nanotrackv3_head.onnx", given, both, {"output1": scores, "output2": sides})
    return load_tracker(f"nanotrack={folder}")


def fear(folder, cell=(8, 8), half=25.6):
    """FEAR files that always answer: the target is at this cell."""
    write_graph(
        folder / "fear_xs_template.onnx", [("image", [1, 3, 128, 128])], [("features", [1, 3, 8, 8])], pool=True
    )
    scores, sides = np.full((1, 1, 16, 16), -20, np.float32), np.full((1, 4, 16, 16), half, np.float32)
    scores[0, 0, cell[0], cell[1]] = 20
    both = [("bbox", [1, 4, 16, 16]), ("cls", [1, 1, 16, 16])]
    given = [("image", [1, 3, 256, 256]), ("template_features", [1, 3, 8, 8])]
    write_graph(folder / "fear_xs_search.onnx", given, both, {"bbox": sides, "cls": scores})
    return load_tracker(f"fear={folder}")


def test_nanotrack_decodes_the_centre_cell_to_the_same_box(tmp_path):
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    tracker = nano(tmp_path)
    tracker.init(frame, (100.0, 80.0, 40.0, 40.0))  # context side 80, so 1.5875 crop px a frame px
    answer = tracker.update(frame)
    np.testing.assert_allclose(answer.box, (99.5, 79.5, 40, 40), atol=1e-6)  # its centre is x + (w - 1) / 2
    assert answer.score == pytest.approx(1, abs=1e-6)
    assert min(answer.crop_ms, answer.network_ms, answer.post_ms) >= 0


def test_nanotrack_a_cell_to_the_right_is_sixteen_crop_pixels(tmp_path):
    frame = np.zeros((240, 320, 3), np.uint8)
    tracker = nano(tmp_path, cell=(6, 8))
    tracker.init(frame, (100.0, 80.0, 40.0, 40.0))
    np.testing.assert_allclose(tracker.update(frame).box[:2], (99.5 + 16 / 1.5875, 79.5 - 16 / 1.5875), atol=1e-6)


def test_nanotrack_smooths_the_size_once(tmp_path):
    frame = np.zeros((240, 320, 3), np.uint8)
    tracker = nano(tmp_path, half=63.5)  # twice the size
    tracker.init(frame, (100.0, 80.0, 40.0, 40.0))
    rate = np.exp(-0.138 * (2 - 1)) * 1.0 * 0.348
    assert tracker.update(frame).box[2] == pytest.approx(40 * (1 - rate) + 80 * rate, abs=1e-4)


def test_fear_decodes_the_centre_cell_to_the_same_box_and_follows_the_shape(tmp_path):
    frame = np.zeros((240, 320, 3), np.uint8)
    tracker = fear(tmp_path)
    for box in ((100.0, 80.0, 40.0, 20.0), (120.0, 90.0, 10.0, 30.0)):
        tracker.init(frame, box)
        np.testing.assert_allclose(tracker.update(frame).box, box, atol=1e-4)
    moved = fear(tmp_path, cell=(8, 9))
    moved.init(frame, (100.0, 80.0, 40.0, 20.0))
    assert moved.update(frame).box[0] == pytest.approx(100 + 16 * 200 / 256, abs=1e-4)


def test_cells_are_what_was_said_in_frame_px(tmp_path):
    """The box of the cell that won is the answer, and a peer can be placed elsewhere before it looks."""
    frame = np.zeros((240, 320, 3), np.uint8)
    for tracker, cells in ((nano(tmp_path, (6, 8)), 15), (fear(tmp_path, (6, 8)), 16)):
        tracker.init(frame, (20.0, 30.0, 40.0, 40.0))
        tracker.place(frame, (100.0, 80.0, 40.0, 40.0))
        answer, said = tracker.update(frame), tracker.cells()
        assert said.scores.shape == (cells, cells) and said.boxes.shape == (cells, cells, 4)
        assert np.unravel_index(said.scores.argmax(), said.scores.shape) == (6, 8)
        np.testing.assert_allclose(said.boxes[6, 8], answer.box, atol=1e-4)
        x, y, w, h = answer.box
        np.testing.assert_allclose(
            (said.x[8], said.y[6]), (x + w / 2, y + h / 2), atol=1e-4
        )  # of a box whose sides are equal


def test_every_adapter_keeps_the_contract_at_the_border_too(tmp_path, sequence):
    for tracker in (nano(tmp_path), fear(tmp_path), load_tracker("identity"), load_tracker("ncc")):
        check_tracker(tracker, sequence)
        for box in (
            (-10.0, -10.0, 30.0, 30.0),
            (300.0, 220.0, 60.0, 60.0),
            (0.0, 0.0, 320.0, 240.0),
            (5.5, 5.5, 1.2, 1.2),
        ):
            tracker.init(sequence.image(0), box)
            assert np.isfinite(tracker.update(sequence.image(1)).box).all()


def test_opencv_mil_keeps_the_contract(sequence):
    """It samples at random and cannot be seeded, so it may leave a still target now and then, but not every time."""
    said = []
    for _ in range(5):
        try:
            return check_tracker(load_tracker("opencv-mil"), sequence.part(0, 3))
        except ContractError as error:
            said.append(str(error))
            assert said[-1].startswith("on a still picture") and ";" not in said[-1]
    pytest.fail("; ".join(said))


def vit(folder, cell=(8, 8)):
    """A file for TrackerVit that always answers: the target is at this cell, a quarter of the search region."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    confidence = np.full((1, 1, 16, 16), 0.01, np.float32)
    confidence[0, 0, cell[0], cell[1]] = 0.9
    answers = {"output1": confidence, "output2": np.full((1, 2, 16, 16), 0.25, np.float32),
               "output3": np.zeros((1, 2, 16, 16), np.float32), "none": np.zeros((1, 1, 1, 1), np.float32)}  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], [f"{name} c"], value=onnx.numpy_helper.from_array(value))
        for name, value in answers.items()
    ]
    nodes += [  # nothing of both inputs, so that they are used
        helper.make_node("GlobalAveragePool", ["template"], ["a"]),
        helper.make_node("GlobalAveragePool", ["search"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "none c"], ["nothing"]),
        *(helper.make_node("Add", [f"{name} c", "nothing"], [name]) for name in list(answers)[:3]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in side]
        for side in (
            [("template", [1, 3, 128, 128]), ("search", [1, 3, 256, 256])],
            [(name, list(answers[name].shape)) for name in list(answers)[:3]],
        )
    ]
    graph = helper.make_graph(nodes, "toy", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "vit.onnx")
    return load_tracker(f"opencv-vit={folder}")


@pytest.mark.skipif(not hasattr(cv2, "TrackerVit_create"), reason="this OpenCV has no TrackerVit")
def test_opencv_vit_reads_its_file_and_keeps_the_contract(tmp_path, sequence):
    tracker = vit(tmp_path)
    check_tracker(tracker, sequence)
    tracker.init(sequence.image(0), (120.0, 100.0, 20.0, 20.0))
    assert tracker.update(sequence.image(0)).box == (120, 100, 20, 20)
    moved = vit(tmp_path, cell=(8, 9))  # a sixteenth of a search region of four targets
    moved.init(sequence.image(0), (120.0, 100.0, 20.0, 20.0))
    assert moved.update(sequence.image(0)).box == pytest.approx((125, 100, 20, 20), abs=1)


@pytest.mark.parametrize("kind", ["csrt", "kcf"])
@pytest.mark.skipif(not hasattr(cv2, "TrackerCSRT_create"), reason="opencv-contrib-python is not installed")
def test_the_trackers_of_opencv_contrib_keep_the_contract(kind, sequence):
    check_tracker(load_tracker(f"opencv-{kind}"), sequence)


def test_ours_keeps_the_contract(tmp_path):
    scene = Scene((320, 240), 6, seed=1)
    (tmp_path / "scene" / "img").mkdir(parents=True)
    for t in range(6):
        cv2.imwrite(str(tmp_path / "scene" / "img" / f"{t}.png"), scene.render(t))
    np.savetxt(tmp_path / "scene" / "groundtruth_rect.txt", [scene.box(t) for t in range(6)])
    check_tracker(load_tracker("swift"), load_folder(tmp_path / "scene", one_based=False)[0])


def test_result_files_and_python_classes_keep_the_contract(tmp_path, sequence):
    np.savetxt(tmp_path / "moving.txt", np.repeat(sequence.boxes[:1], len(sequence), axis=0))  # it sees no picture
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "still_peer.py").write_text(
        "class Still:\n    def init(self, frame, box):\n        self.box = box\n"
        "    def update(self, frame):\n        return self.box\n"
    )
    try:
        for spec in (f"results={tmp_path}", "still_peer:Still"):
            check_tracker(load_tracker(spec), sequence)
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.skipif(hasattr(cv2, "TrackerCSRT_create"), reason="this OpenCV has CSRT")
def test_a_tracker_of_opencv_contrib_says_what_to_install():
    with pytest.raises(ValueError, match="opencv-contrib-python"):
        load_tracker("opencv-csrt")


def test_ncc_follows_whole_pixel_motion_exactly(sequence):
    assert evaluate(load_tracker("ncc"), [sequence])["moving"].success_auc == 1.0


def test_result_files_replay_and_name_what_is_wrong(tmp_path, sequence):
    np.savetxt(tmp_path / "moving.txt", sequence.boxes + np.array([1, 1, 0, 0]), delimiter="\t")
    run = run_ope(load_tracker(f"results-onebased={tmp_path}"), sequence)
    np.testing.assert_allclose(run.boxes, sequence.boxes)
    shifted = run_ope(load_tracker(f"results={tmp_path}"), sequence)
    assert metrics.iou(shifted.boxes, sequence.boxes)[1] < 1
    np.savetxt(tmp_path / "moving.txt", sequence.boxes[:7], delimiter=",")
    assert "7 boxes for 40 frames" in run_ope(load_tracker(f"results={tmp_path}"), sequence).error
    (tmp_path / "moving.txt").rename(tmp_path / "other.txt")
    assert "no result file" in run_ope(load_tracker(f"results={tmp_path}"), sequence).error


def test_names_of_specs():
    names = {
        "swift": "swift",
        "runs/mine.safetensors": "mine",
        "nanotrack=a/b": "nanotrack-v3",
        "nanotrack-v1=a": "nanotrack-v1",
        "fear=a": "fear-xs",
        "opencv-mil": "opencv-mil",
        "pack.module:Class": "Class",
        "results=there/theirs": "theirs",
        "mine:=results=there": "mine",
        "mine:=pack:Class": "mine",
    }
    assert {spec: tracker_name(spec) for spec in names} == names
    assert split_spec("a:=nanotrack=x=y") == ("a", "nanotrack", "x=y")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected KIND"),
        (":=ncc", "expected KIND"),
        ("nanotrack", "expected =FOLDER"),
        ("fear=/no/such/folder", "expected =FOLDER"),
        ("opencv-nothing", "expected one of opencv-mil"),
        ("opencv-nano", "no .*backbone"),
        ("opencv-vit", "no .*onnx"),
        ("opencv-dasiamrpn=/tmp", "no dasiamrpn_model"),
        ("no_such_module:Class", "No module named"),
        ("math:pi", "not callable"),
        ("fractions:Fraction", "has no init"),
    ],
)
def test_bad_specs_are_named(spec, message):
    with pytest.raises(ValueError, match=message):
        load_tracker(spec)


def test_missing_network_files_are_named(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match=r"nanotrackv2_backbone\.onnx: no such"):
        load_tracker(f"nanotrack-v2={tmp_path}")
