"""siamtrack as a ROS 2 node.

Listens to   image (Image), or image/compressed (CompressedImage) with the parameter compressed: newest one only
             ~/init (RegionOfInterest): follow what is in this box of the newest image; others are forgotten
             ~/add  (RegionOfInterest): follow this, too
Publishes    ~/detections (Detection2DArray): what was found, with the header of its image; lost targets are left out
             ~/state (String): idle; tracking, uncertain or lost; of several targets "0 tracking, 1 lost"
             /diagnostics (DiagnosticArray), once a second
Serves       ~/stop (Trigger): forget all targets
"""

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from siamtrack import Tracker
from siamtrack_ros.images import decoded, to_frame

NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
STALE = 2.0  # seconds without an image
AGAIN = 5.0  # seconds after which a complaint is repeated


class Follow(Node):
    """One tracker, and the targets that it follows."""

    def __init__(self):
        super().__init__("siamtrack")
        self._class_id = self.declare_parameter("class_id", "target").value
        self._given = self._boxes_of(self.declare_parameter("init", "").value)  # for the first image
        compressed = self.declare_parameter("compressed", False).value
        weights, device, threads = (
            self.declare_parameter(name, value).value
            for name, value in (("weights", "swift"), ("device", "auto"), ("threads", 1))
        )
        self._tracker = Tracker.load(weights, device=device, threads=threads)
        self._targets, self._results, self._born = {}, {}, 0
        self._frame, self._problem = None, ""
        self._images, self._arrived, self._late_ms = 0, None, 0.0
        self._detections = self.create_publisher(Detection2DArray, "~/detections", 10)
        self._state = self.create_publisher(String, "~/state", 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if compressed:
            self.create_subscription(CompressedImage, "image/compressed", lambda m: self._see(m, decoded), NEWEST)
        else:
            self.create_subscription(Image, "image", lambda m: self._see(m, to_frame), NEWEST)
        self.create_subscription(RegionOfInterest, "~/init", lambda m: self._asked(m, alone=True), 10)
        self.create_subscription(RegionOfInterest, "~/add", lambda m: self._asked(m, alone=False), 10)
        self.create_service(Trigger, "~/stop", self._stop)
        self.create_timer(1.0, self._diagnose)

    def _see(self, message, read):
        """Follow all targets into an image."""
        self._images, self._arrived = self._images + 1, self.get_clock().now()
        try:
            frame = read(message)
        except ValueError as error:
            self._problem = str(error)
            self.get_logger().error(self._problem, throttle_duration_sec=AGAIN)
            return
        self._frame, self._problem = frame, ""
        if self._given:
            for box in self._given:
                self._begin(box, alone=False)
            self._given, self._results = [], {}
        else:
            results = self._tracker.update_all(frame, self._targets.values())
            self._results = dict(zip(self._targets, results, strict=True))
        stamp = message.header.stamp
        self._late_ms = (self.get_clock().now().nanoseconds - stamp.sec * 10**9 - stamp.nanosec) / 1e6
        self._publish(message.header)

    def _asked(self, region, alone):
        """A box of the newest image; of the first one, where none has come yet."""
        box = tuple(map(float, (region.x_offset, region.y_offset, region.width, region.height)))
        if self._frame is None:
            self._given = [box] if alone else [*self._given, box]
        else:
            self._begin(box, alone)

    def _begin(self, box, alone):
        try:
            target = self._tracker.init(self._frame, box)
        except ValueError as error:  # the box lies outside, or is empty; what was followed is followed on
            self.get_logger().error(str(error))
            return
        if alone:
            self._targets, self._results = {}, {}
        self._targets[self._born] = target
        self._born += 1

    def _stop(self, request, response):
        response.success, response.message = True, f"{len(self._targets)} targets forgotten"
        self._targets, self._results, self._given = {}, {}, []
        return response

    def _publish(self, header):
        found = [(number, result) for number, result in self._results.items() if result]  # false: lost
        message = Detection2DArray(header=header)
        message.detections = [self._detection(header, number, result) for number, result in found]
        self._detections.publish(message)
        self._state.publish(String(data=self._said()))

    def _detection(self, header, number, result):
        detection = Detection2D(header=header, id=str(number))
        x, y = result.box.centre
        detection.bbox.center.position.x, detection.bbox.center.position.y = float(x), float(y)
        detection.bbox.size_x, detection.bbox.size_y = float(result.box.w), float(result.box.h)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = self._class_id, float(result.score)
        detection.results = [hypothesis]
        return detection

    def _said(self):
        states = {number: self._targets[number].state for number in self._targets}
        if len(states) < 2:
            return next(iter(states.values()), "idle")
        return ", ".join(f"{number} {state}" for number, state in states.items())

    def _diagnose(self):
        now = self.get_clock().now()
        states = {target.state for target in self._targets.values()}
        silent = self._arrived is None or (now - self._arrived).nanoseconds > STALE * 1e9
        if self._problem:
            level, text = DiagnosticStatus.ERROR, self._problem
        elif silent:
            level, text = DiagnosticStatus.STALE, f"no image for {STALE:g} s"
        elif states & {"lost", "uncertain"}:
            level, text = DiagnosticStatus.WARN, self._said()
        else:
            level, text = DiagnosticStatus.OK, self._said()
        one = next(iter(self._results.values()), None)
        update_ms = 0.0 if one is None else one.crop_ms + one.network_ms + one.post_ms
        values = {"images": self._images, "update_ms": f"{update_ms:.1f}", "latency_ms": f"{self._late_ms:.1f}"}
        status = DiagnosticStatus(level=level, name="siamtrack: follow", message=text, hardware_id="siamtrack")
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = now.to_msg()
        self._diagnostics.publish(message)

    @staticmethod
    def _boxes_of(text):
        """The parameter init. Raises ValueError: not four numbers."""
        if not text:
            return []
        try:
            x, y, w, h = map(float, text.split(","))
        except ValueError:
            raise ValueError(f"parameter init: {text!r} is not four numbers x,y,w,h") from None
        return [(x, y, w, h)]


def main(args=None):
    rclpy.init(args=args)
    node = Follow()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
