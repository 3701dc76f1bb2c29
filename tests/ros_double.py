"""A double of rclpy, and of the Python messages of ROS 2, for machines that have none.

The messages are made from their real definitions, as rosbags holds them; only vision_msgs, which it lacks, is written
down here, with the fields of its version 4 (ROS 2 Humble and later). A field takes the types that rclpy allows. All
that a node publishes or receives goes through the real wire format (CDR) by rosbags. What is ours alone: names,
parameters, the order of calls.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

VISION = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}
STORE = get_typestore(Stores.ROS2_HUMBLE)
for _name, _text in VISION.items():
    STORE.register(get_types_from_msg(_text, f"vision_msgs/msg/{_name}"))
BASE, NAME, ARRAY, SEQUENCE = 1, 2, 3, 4  # of rosbags' Nodetype
_classes = {}


def message(name):
    """The class of a message, such as sensor_msgs/msg/Image."""
    if name in _classes:
        return _classes[name]
    constants, fields = STORE.fielddefs[name]
    kinds = dict(fields)

    def __init__(self, **given):
        for key, kind in kinds.items():
            setattr(self, key, given.pop(key) if key in given else _default(kind))
        assert not given, f"{name} has no {', '.join(given)}"

    def __setattr__(self, key, value):
        assert key in kinds, f"{name} has no field {key}"
        assert _fits(kinds[key], value), f"{name}.{key} = {value!r}"
        object.__setattr__(self, key, value)

    known = {key: bytes([value]) if kind == "byte" else value for key, kind, value in constants}
    _classes[name] = type(name.split("/")[-1], (), {**known, "__init__": __init__, "__setattr__": __setattr__})
    return _classes[name]


def _parts(kind):
    node, detail = kind
    return int(node), detail


def _default(kind):
    node, detail = _parts(kind)
    if node == NAME:
        return message(detail)()
    if node == BASE:
        word = detail[0]
        return {"string": "", "bool": False, "byte": b"\0"}.get(word, 0.0 if word.startswith("float") else 0)
    inner, count = detail
    return [_default(inner) for _ in range(count if node == ARRAY else 0)]


def _fits(kind, value):
    node, detail = _parts(kind)
    if node == NAME:
        return isinstance(value, message(detail))
    if node == BASE:
        word = detail[0]
        if word == "byte":
            return isinstance(value, bytes) and len(value) == 1
        wanted = {"string": str, "bool": bool}.get(word, float if word.startswith("float") else int)
        return type(value) is wanted
    if isinstance(value, bytes | bytearray | np.ndarray):
        return True
    return isinstance(value, list | tuple) and all(_fits(detail[0], one) for one in value)


def over_the_wire(name, value):
    """A message as who receives it has it."""
    return _from_real(name, STORE.deserialize_cdr(STORE.serialize_cdr(_to_real(name, value), name), name))


def _to_real(name, value):
    fields = {key: _out(kind, getattr(value, key)) for key, kind in STORE.fielddefs[name][1]}
    return STORE.types[name](**fields)


def _out(kind, value):
    node, detail = _parts(kind)
    if node == NAME:
        return _to_real(detail, value)
    if node == BASE:
        return value[0] if detail[0] == "byte" else value
    inner, inside = detail[0], _parts(detail[0])
    if inside[0] == NAME:
        return [_out(inner, one) for one in value]
    if isinstance(value, bytes | bytearray):
        return np.frombuffer(value, np.uint8)
    return np.asarray(value, inside[1][0])


def _from_real(name, real):
    return message(name)(**{key: _in(kind, getattr(real, key)) for key, kind in STORE.fielddefs[name][1]})


def _in(kind, value):
    node, detail = _parts(kind)
    if node == NAME:
        return _from_real(detail, value)
    if node == BASE:
        return bytes([value]) if detail[0] == "byte" else value
    return [_in(detail[0], one) for one in value] if _parts(detail[0])[0] == NAME else value


# --- rclpy


class Graph:
    """What connects nodes. parameters: given from outside. sent: topic -> messages. said: lines of the log."""

    def __init__(self, parameters=None):
        self.parameters, self.sent, self.said = parameters or {}, {}, []
        self.listeners, self.services, self.timers, self.qos = {}, {}, [], {}
        self.now = 1_700_000_000 * 10**9  # ns

    def send(self, topic, name, value):
        """Hand a message to who listens."""
        kind, callback = self.listeners[topic]
        assert kind is message(name), f"{topic} carries {kind.__name__}"
        callback(over_the_wire(name, value))


class _Time:
    def __init__(self, nanoseconds):
        self.nanoseconds = nanoseconds

    def __sub__(self, other):
        return _Time(self.nanoseconds - other.nanoseconds)

    def to_msg(self):
        return message("builtin_interfaces/msg/Time")(sec=self.nanoseconds // 10**9, nanosec=self.nanoseconds % 10**9)


def install(monkeypatch, graph):
    """Put the modules that a node imports into sys.modules."""
    names = {one: key for key in STORE.fielddefs for one in [message(key)]}

    class Node:
        def __init__(self, name):
            self._name = name

        def _resolved(self, topic):
            return f"/{self._name}/{topic[2:]}" if topic.startswith("~/") else f"/{topic.lstrip('/')}"

        def declare_parameter(self, name, default):
            value = graph.parameters.get(name, default)
            assert type(value) is type(default), f"parameter {name} is a {type(default).__name__}"
            return SimpleNamespace(value=value)

        def create_publisher(self, kind, topic, qos):
            place, out = self._resolved(topic), graph.sent.setdefault(self._resolved(topic), [])
            graph.qos[place] = qos
            return SimpleNamespace(publish=lambda value: out.append(over_the_wire(names[kind], value)))

        def create_subscription(self, kind, topic, callback, qos):
            graph.listeners[self._resolved(topic)] = (kind, callback)
            graph.qos[self._resolved(topic)] = qos

        def create_service(self, kind, name, callback):
            graph.services[self._resolved(name)] = lambda: callback(kind.Request(), kind.Response())

        def create_timer(self, seconds, callback):
            graph.timers.append(callback)

        def get_clock(self):
            return SimpleNamespace(now=lambda: _Time(graph.now))

        def get_logger(self):
            return SimpleNamespace(error=lambda text, throttle_duration_sec=0.0: graph.said.append(text))

        def destroy_node(self):
            graph.said.append("destroyed")

    class QoSProfile(SimpleNamespace):
        pass

    trigger = SimpleNamespace(
        Request=SimpleNamespace, Response=lambda: SimpleNamespace(success=False, message="")
    )  # std_srvs/srv/Trigger
    policies = {"KEEP_LAST": "keep last", "BEST_EFFORT": "best effort", "RELIABLE": "reliable"}
    modules = {
        "rclpy": {"init": lambda args=None: None, "spin": lambda node: None, "try_shutdown": lambda: None},
        "rclpy.node": {"Node": Node},
        "rclpy.executors": {"ExternalShutdownException": type("ExternalShutdownException", (Exception,), {})},
        "rclpy.qos": {
            "QoSProfile": QoSProfile,
            "HistoryPolicy": SimpleNamespace(**policies),
            "ReliabilityPolicy": SimpleNamespace(**policies),
        },
        "std_srvs": {},
        "std_srvs.srv": {"Trigger": trigger},
    }
    for key in STORE.fielddefs:
        package, _, name = key.split("/")
        modules.setdefault(package, {})
        modules.setdefault(f"{package}.msg", {})[name] = message(key)
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
