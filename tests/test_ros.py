"""The ROS 2 node of demos/ros2: messages by their real definitions, through the real wire format; rclpy by a double."""

import importlib.util
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason='pip install -e ".[dev]"')
from ros_double import Graph, install, message

from tracker.geometry import iou
from tracker.scene import Scene

PACKAGE = Path(__file__).parents[1] / "demos" / "ros2"
SCENE = Scene((161, 120), 8, seed=2, occlusion=False, distractor=False)  # of odd width
FRAME_ID = "camera_optical"


@pytest.fixture
def started(monkeypatch):
    """A node that runs, with given parameters; its graph."""
    monkeypatch.syspath_prepend(str(PACKAGE))

    def start(**parameters):
        graph = Graph(parameters)
        install(monkeypatch, graph)
        for name in ("siamtrack_ros", "siamtrack_ros.images", "siamtrack_ros.node"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module("siamtrack_ros.node").main()
        return graph

    return start


def header(t):
    stamp = message("builtin_interfaces/msg/Time")(sec=1_700_000_000, nanosec=40_000_000 * t)
    return message("std_msgs/msg/Header")(stamp=stamp, frame_id=FRAME_ID)


def image(t, encoding="bgr8", pixels=None, **changed):
    pixels = SCENE.render(t) if pixels is None else pixels
    height, width = pixels.shape[:2]
    padded = np.zeros((height, pixels[0].size * pixels.itemsize + 7), np.uint8)  # rows with something behind them
    padded[:, :-7] = pixels.reshape(height, -1).view(np.uint8)
    fields = {"height": height, "width": width, "encoding": encoding, "step": padded.shape[1], "data": padded.tobytes()}
    return message("sensor_msgs/msg/Image")(header=header(t), **fields | changed)


def region(box):
    x, y, w, h = (round(v) for v in box)
    return message("sensor_msgs/msg/RegionOfInterest")(x_offset=x, y_offset=y, width=w, height=h)


def see(graph, t, pixels=None, **changed):
    graph.now = (1_700_000_000 * 1000 + 40 * t + 15) * 10**6  # 15 ms after the capture
    graph.send("/image", "sensor_msgs/msg/Image", image(t, pixels=pixels, **changed))


def ask(graph, what, box):
    graph.send(f"/siamtrack/{what}", "sensor_msgs/msg/RegionOfInterest", region(box))


def diagnosis(graph):
    for timer in graph.timers:
        timer()
    (status,) = graph.sent["/diagnostics"][-1].status
    return status, {pair.key: pair.value for pair in status.values}


def test_a_region_is_followed_and_detections_carry_the_header_of_their_image(started):
    graph = started()
    see(graph, 0)
    assert graph.sent["/siamtrack/state"][-1].data == "idle"
    assert graph.sent["/siamtrack/detections"][-1].detections == []
    ask(graph, "init", SCENE.box(0))
    for t in range(1, len(SCENE)):
        see(graph, t)
        found = graph.sent["/siamtrack/detections"][-1]
        assert (found.header.frame_id, found.header.stamp.nanosec) == (FRAME_ID, 40_000_000 * t)
        (one,) = found.detections
        assert one.header.stamp.nanosec == 40_000_000 * t and one.id == "0"
        middle = one.bbox.center.position
        box = (middle.x - one.bbox.size_x / 2, middle.y - one.bbox.size_y / 2, one.bbox.size_x, one.bbox.size_y)
        assert iou([box], [SCENE.box(t)])[0] > 0.4
        assert one.results[0].hypothesis.class_id == "target" and 0.3 < one.results[0].hypothesis.score <= 1
    assert graph.sent["/siamtrack/state"][-1].data == "tracking"
    status, values = diagnosis(graph)
    assert status.level == b"\0" and values["images"] == "8" and values["latency_ms"] == "15.0"
    assert float(values["update_ms"]) > 0


def test_images_are_taken_as_a_sensor_gives_them(started):
    """A reliable subscription would never hear a camera's best-effort publisher; a longer queue would be late."""
    graph = started()
    qos = graph.qos["/image"]
    assert (qos.reliability, qos.history, qos.depth) == ("best effort", "keep last", 1)


def test_a_lost_target_is_left_out_and_said(started):
    graph = started(init=",".join(map(str, SCENE.box(0))), class_id="ball")
    for t in range(3):
        see(graph, t)
    assert graph.sent["/siamtrack/detections"][-1].detections[0].results[0].hypothesis.class_id == "ball"
    for t in range(3, 20):
        see(graph, t, pixels=np.full((120, 161, 3), 90, np.uint8))
    assert graph.sent["/siamtrack/state"][-1].data == "lost"
    assert graph.sent["/siamtrack/detections"][-1].detections == []
    status, _ = diagnosis(graph)
    assert (status.level, status.message) == (b"\1", "lost")
    graph.now += 3 * 10**9
    status, _ = diagnosis(graph)
    assert (status.level, status.message) == (b"\3", "no image for 2 s")


def test_several_targets_and_an_end(started):
    graph = started()
    ask(graph, "init", SCENE.box(0))  # before the first image
    see(graph, 0)
    ask(graph, "add", (5, 5, 30, 30))
    see(graph, 1)
    assert [one.id for one in graph.sent["/siamtrack/detections"][-1].detections] == ["0", "1"]
    assert re.fullmatch(r"0 tracking, 1 \w+", graph.sent["/siamtrack/state"][-1].data)
    ask(graph, "init", (5, 5, 30, 30))
    see(graph, 2)
    assert [one.id for one in graph.sent["/siamtrack/detections"][-1].detections] == ["2"]
    response = graph.services["/siamtrack/stop"]()
    assert response.success and response.message == "1 targets forgotten"
    see(graph, 3)
    assert graph.sent["/siamtrack/state"][-1].data == "idle"


def test_boxes_before_the_first_image_wait_for_it(started):
    graph = started(init="1,1,20,20")
    ask(graph, "init", SCENE.box(0))  # in place of the parameter's
    ask(graph, "add", (5, 5, 30, 30))
    see(graph, 0)
    see(graph, 1)
    assert [one.id for one in graph.sent["/siamtrack/detections"][-1].detections] == ["0", "1"]


def test_nonsense_is_told_and_what_is_followed_is_followed_on(started):
    graph = started(init=",".join(map(str, SCENE.box(0))))
    see(graph, 0)
    for box in ((900, 900, 20, 20), (10, 10, 0, 0)):
        ask(graph, "init", box)
        assert "box" in graph.said[-1]
    for changed, said in (
        ({"encoding": "32FC1"}, "encoding '32FC1'; allowed: bgr8"),
        ({"data": b"123"}, "161 x 120 bgr8 with 3 bytes"),
        ({"encoding": "yuv422"}, "an image of 161 x 120 yuv422 is none"),  # two pixels share a colour: an even width
        ({"width": 0}, "an image of 0 x 120"),
    ):
        see(graph, 1, **changed)
        assert said in graph.said[-1]
    status, _ = diagnosis(graph)
    assert status.level == b"\2" and "0 x 120" in status.message
    see(graph, 1)
    assert len(graph.sent["/siamtrack/detections"][-1].detections) == 1 and diagnosis(graph)[0].level == b"\0"
    with pytest.raises(ValueError, match="parameter init: '1,2,3' is not four numbers"):
        started(init="1,2,3")


def test_compressed_images(started):
    graph = started(compressed=True, init=",".join(map(str, SCENE.box(0))))
    assert "/image" not in graph.listeners
    for t in range(3):
        data = cv2.imencode(".jpg", SCENE.render(t))[1].tobytes()
        one = message("sensor_msgs/msg/CompressedImage")(
            header=header(t), format="bgr8; jpeg compressed bgr8", data=data
        )
        graph.send("/image/compressed", "sensor_msgs/msg/CompressedImage", one)
    assert len(graph.sent["/siamtrack/detections"][-1].detections) == 1
    one.data = b"no picture"
    graph.send("/image/compressed", "sensor_msgs/msg/CompressedImage", one)
    assert "10 bytes" in graph.said[-1] and "no picture" in graph.said[-1]


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgra8", "rgba8", "mono8", "mono16", "yuv422", "yuv422_yuy2", "bayer_rggb8"]
)
def test_encodings(encoding, monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    from siamtrack_ros.images import to_frame

    frame = np.zeros((20, 30, 3), np.uint8)
    frame[:, :16], frame[:, 16:] = (200, 90, 30), (20, 60, 220)  # BGR
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    full = cv2.cvtColor(frame, cv2.COLOR_BGR2YCrCb).astype(float)
    luma = np.rint(16 + full[:, :, 0] * 219 / 255).astype(np.uint8)  # of video range
    red, blue = (np.rint(128 + (full[:, :, k] - 128) * 224 / 255).astype(np.uint8) for k in (1, 2))
    pairs = np.empty((20, 30), np.uint8)
    pairs[:, 0::2], pairs[:, 1::2] = blue[:, 0::2], red[:, 0::2]
    bayer = np.empty((20, 30), np.uint8)
    bayer[0::2, 0::2], bayer[1::2, 1::2] = frame[0::2, 0::2, 2], frame[1::2, 1::2, 0]
    bayer[0::2, 1::2], bayer[1::2, 0::2] = frame[0::2, 1::2, 1], frame[1::2, 0::2, 1]
    pixels = {
        "rgb8": frame[:, :, ::-1],
        "bgra8": np.dstack([frame, np.full_like(grey, 255)]),
        "rgba8": np.dstack([frame[:, :, ::-1], np.full_like(grey, 255)]),
        "mono8": grey,
        "mono16": grey.astype("<u2") * 256 + 77,
        "yuv422": np.dstack([pairs, luma]),
        "yuv422_yuy2": np.dstack([luma, pairs]),
        "bayer_rggb8": bayer,
    }[encoding]
    found = to_frame(image(0, encoding, np.ascontiguousarray(pixels))).astype(int)
    wanted = cv2.merge([grey] * 3) if encoding.startswith("mono") else frame
    apart = np.abs(found - wanted)
    assert np.median(apart, axis=(0, 1)).max() <= (3 if "yuv" in encoding else 1)
    assert np.argmax(found[10, 4]) == np.argmax(wanted[10, 4]) and np.argmax(found[10, 24]) == np.argmax(wanted[10, 24])
    if encoding == "mono16":
        big = np.ascontiguousarray(pixels.astype(">u2"))
        assert np.array_equal(to_frame(image(0, encoding, big, is_bigendian=1)), found)


# --- the package


def test_the_package_names_what_it_needs_and_what_it_starts(monkeypatch):
    root = ElementTree.parse(PACKAGE / "package.xml").getroot()
    needed = {one.text for one in root.findall("exec_depend")}
    files = [*PACKAGE.glob("siamtrack_ros/*.py"), *PACKAGE.glob("launch/*.py")]
    imported = {name for file in files for name in re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.M)}
    ours = {"siamtrack", "siamtrack_ros", "cv2", "numpy", "pathlib", "ament_index_python"}
    assert imported - ours == needed

    told = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: told.update(options))
    runpy.run_path(str(PACKAGE / "setup.py"))
    assert told["name"] == root.findtext("name") and told["version"] == root.findtext("version")
    for _, paths in told["data_files"]:
        assert all((PACKAGE / path).is_file() for path in paths)
    script, place = told["entry_points"]["console_scripts"][0].split(" = ")
    assert place == "siamtrack_ros.node:main"

    started = launched(monkeypatch)
    assert (started["package"], started["executable"], started["name"]) == (told["name"], script, "siamtrack")


def test_parameters_of_the_file_are_those_of_the_node(started):
    given = yaml.safe_load((PACKAGE / "config" / "follow.yaml").read_text())["siamtrack"]["ros__parameters"]
    text = (PACKAGE / "siamtrack_ros" / "node.py").read_text()
    assert set(given) == set(re.findall(r'(?:declare_parameter\(|\(\(?)"(\w+)", (?:"|False|1\b)', text))
    graph = started(**given)  # of the right types
    see(graph, 0)
    assert graph.sent["/siamtrack/state"][-1].data == "idle"


def launched(monkeypatch):
    """What the launch file starts; by doubles of launch and launch_ros, which pip does not have."""
    nodes = []

    def module(name, **content):
        made = ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)

    module("ament_index_python")
    module("ament_index_python.packages", get_package_share_directory=lambda name: str(PACKAGE))
    module("launch", LaunchDescription=list)
    module("launch.actions", DeclareLaunchArgument=lambda name, default_value, description: name)
    module("launch.substitutions", LaunchConfiguration=lambda name: SimpleNamespace(name=name))
    module("launch_ros")
    module("launch_ros.actions", Node=lambda **options: nodes.append(options))
    runpy.run_path(str(PACKAGE / "launch" / "follow.launch.py"))["generate_launch_description"]()
    return nodes[0]
