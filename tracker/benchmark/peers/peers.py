"""Other trackers behind the same two calls: init(frame, box) and update(frame).

A tracker is named by a spec, as on the command line:

swift, siamfc, FILE.safetensors     ours, by the name of shipped weights or a weight file
identity, ncc                       the floors: the first box for ever; a fixed grey template by normalised correlation
opencv-mil, -csrt, -kcf             OpenCV's own (csrt and kcf need opencv-contrib-python; mil is random)
opencv-nano=DIR, -dasiamrpn=DIR, -vit=FILE    OpenCV's own with the network files they read
nanotrack-v1=DIR, -v2=DIR, -v3=DIR, nanotrack=DIR (v3), fear=DIR    from ONNX files by ONNX Runtime, one thread
module:Class                        any Python class with the two calls and no constructor arguments
trax=COMMAND                        any program that speaks TraX, the protocol of the VOT toolkit (no comma in it)
results=DIR, results-onebased=DIR   finished runs, as files of the usual toolkits (tracker/benchmark/peers/finished.py)
NAME:=SPEC                          the same, under another name
"""

import hashlib
import importlib
import importlib.util
import math
import shlex
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.peers.answer import Answer
from tracker.benchmark.peers.finished import SUFFIXES, ResultFiles
from tracker.benchmark.peers.trax import TraxPeer
from tracker.crop import Image
from tracker.errors import InputError
from tracker.footage.files import files_below
from tracker.geometry import Box

PACKAGE = Path(__file__).parents[2]


def split_spec(spec: str) -> tuple[str, str, str]:
    """Split a spec into (given name or "", kind, value); "nano:=nanotrack=DIR" gives ("nano", "nanotrack", "DIR")."""
    label, mark, rest = spec.partition(":=")
    if not mark:
        label, rest = "", spec
    kind, _, value = rest.partition("=")
    if not kind or (mark and not label):
        raise InputError(f"tracker {spec!r}: expected KIND, KIND=FILES or NAME:=KIND=FILES")
    return label, kind, value


def tracker_name(spec: str) -> str:
    """Return the short name of a spec for tables and folders; ValueError when it cannot be read."""
    label, kind, value = split_spec(spec)
    if label:
        return label
    if kind.startswith("results"):
        return Path(value).name
    if ":" in kind:
        return kind.rpartition(":")[2]
    if Path(kind).suffix:
        return Path(kind).stem
    return {"nanotrack": "nanotrack-v3", "fear": "fear-xs"}.get(kind, kind)


def file_fingerprints(spec: str) -> dict[str, str]:
    """Return the first 16 hex digits of the SHA-256 of what a spec runs: weights, results, source, and our own code."""
    _, kind, value = split_spec(spec)
    path = Path(value or kind)
    shipped = PACKAGE / "weights" / f"{kind}.safetensors"
    code: list[Path] = []
    if kind == "trax":
        files = [Path(word) for word in shlex.split(value) if Path(word).is_file()]
    elif kind.startswith("results"):
        return {"results": _digest([p for p in files_below(path) if p.suffix in (*SUFFIXES, ".value")])}
    elif path.is_file():
        files = [path]
    elif value and path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix == ".onnx")
    elif ":" in kind:
        found = importlib.util.find_spec(kind.partition(":")[0])
        files = [Path(found.origin)] if found and found.origin and Path(found.origin).is_file() else []
    else:
        files = [shipped] if shipped.is_file() else []
    if ":" not in kind and kind != "trax":
        ours = shipped.is_file() or path.suffix == ".safetensors"
        code = sorted(PACKAGE.glob("*.py")) if ours else [Path(__file__)]
    prints = {file.name: _digest([file]) for file in files}
    return {**prints, "code": _digest(code)} if code else prints


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def load_tracker(spec: str) -> Any:
    """Make the tracker that a spec names.

    ValueError: unknown, or its files or library are missing; the message says what to install or give.
    """
    _, kind, value = split_spec(spec)
    if kind == "identity":
        return Identity()
    if kind == "ncc":
        return TemplateMatch()
    if kind.startswith("opencv-"):
        return OpenCV(kind.removeprefix("opencv-"), value)
    if kind in ("nanotrack", "nanotrack-v1", "nanotrack-v2", "nanotrack-v3"):
        return NanoTrack(_folder(spec, value), kind.rpartition("-")[2] if "-" in kind else "v3")
    if kind == "fear":
        return Fear(_folder(spec, value))
    if kind in ("results", "results-onebased"):
        return ResultFiles(_folder(spec, value), kind == "results-onebased")
    if kind == "trax":
        return TraxPeer(value)
    if ":" in kind:
        return _python_class(kind)
    from tracker import Tracker  # only now: it brings torch

    return Tracker.load(kind, device="cpu", threads=1)


def _folder(spec: str, value: str) -> Path:
    if not value or not Path(value).is_dir():
        raise InputError(f"tracker {spec!r}: expected =FOLDER of an existing folder, got {value!r}")
    return Path(value)


def _python_class(kind: str) -> Any:
    module, _, name = kind.partition(":")
    try:
        tracker = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"tracker {kind!r}: {type(error).__name__}: {error}") from error
    for call in ("init", "update"):
        if not callable(getattr(tracker, call, None)):
            raise InputError(f"tracker {kind!r} has no {call}()")
    return tracker


class Identity:
    """Says the first box for ever: the floor of every table."""

    def init(self, frame: Image, box: Box) -> None:
        """Keep the box."""
        self.box = box

    def update(self, frame: Image) -> Answer:
        """Return the kept box."""
        return Answer(self.box)


class TemplateMatch:
    """Finds the first grey patch again by normalised cross-correlation: fixed size, window 2.5 times the box."""

    def init(self, frame: Image, box: Box) -> None:
        """Cut the template, whole pixels of the part of the box inside the frame."""
        height, width = frame.shape[:2]
        left, top = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
        right = max(min(round(box[0] + box[2]), width), left + 1)
        bottom = max(min(round(box[1] + box[3]), height), top + 1)
        self.template = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
        self.box = box
        self.inset = (left - box[0], top - box[1])  # from the corner of the box to that of the template

    def update(self, frame: Image) -> Answer:
        """Return the best place in the window around the last box."""
        height, width = frame.shape[:2]
        rows, columns = self.template.shape[:2]
        x, y, w, h = self.box
        left, top = max(math.floor(x + w / 2 - 1.25 * w), 0), max(math.floor(y + h / 2 - 1.25 * h), 0)
        right, bottom = min(math.ceil(x + w / 2 + 1.25 * w), width), min(math.ceil(y + h / 2 + 1.25 * h), height)
        if bottom - top < rows or right - left < columns:
            return Answer(self.box, 0.0)
        window = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
        match = cv2.matchTemplate(window, self.template, cv2.TM_CCOEFF_NORMED)
        _, score, _, (column, row) = cv2.minMaxLoc(match)
        self.box = Box(left + column - self.inset[0], top + row - self.inset[1], w, h)
        return Answer(self.box, min(max(score, 0.0), 1.0))


class OpenCV:
    """A tracker of the installed OpenCV. A frame on which it reports a loss repeats the last box with score 0.

    kind: mil, csrt, kcf, nano, dasiamrpn or vit. files: the folder or file of its networks, "" when it has none.
    ValueError: unknown, missing in this OpenCV, or its files are missing.
    """

    KINDS = ("mil", "csrt", "kcf", "nano", "dasiamrpn", "vit")

    def __init__(self, kind: str, files: str = "") -> None:
        self.deterministic = kind != "mil"  # it draws features at random and cannot be seeded
        if kind not in self.KINDS:
            raise InputError(f"opencv-{kind}: expected one of {', '.join('opencv-' + k for k in self.KINDS)}")
        self.kind, self.files = kind, files
        self._make()  # so that what is missing is said now, not in the middle of a run

    def _make(self) -> Any:
        name = {"mil": "MIL", "csrt": "CSRT", "kcf": "KCF", "nano": "Nano", "dasiamrpn": "DaSiamRPN", "vit": "Vit"}
        title = f"Tracker{name[self.kind]}"
        if not hasattr(cv2, f"{title}_create"):
            raise InputError(
                f"opencv-{self.kind}: this OpenCV ({cv2.__version__}) has no {title}; it is in opencv-contrib-python. "
                "Beside the installed one: pip install --no-deps --target contrib opencv-contrib-python, then run with "
                "PYTHONPATH=contrib"
            )
        create = getattr(cv2, f"{title}_create")
        if self.kind in ("mil", "csrt", "kcf"):
            return create()
        parameters = getattr(cv2, f"{title}_Params")()
        if self.kind == "nano":
            parameters.backbone, parameters.neckhead = self._file("*backbone*.onnx"), self._file("*head*.onnx")
        elif self.kind == "vit":
            parameters.net = self._file("*.onnx")
        else:
            parameters.model = self._file("dasiamrpn_model.onnx")
            parameters.kernel_cls1 = self._file("dasiamrpn_kernel_cls1.onnx")
            parameters.kernel_r1 = self._file("dasiamrpn_kernel_r1.onnx")
        try:
            return create(parameters)
        except cv2.error as error:
            raise InputError(f"opencv-{self.kind}: OpenCV cannot read {self.files}: {error.err or error}") from error

    def _file(self, pattern: str) -> str:
        path = Path(self.files)
        found = [path] if self.files and path.is_file() else sorted(path.glob(pattern)) if self.files else []
        if not found:
            raise InputError(f"opencv-{self.kind}: no {pattern} in {self.files!r}; give opencv-{self.kind}=FOLDER")
        return str(found[0])

    def init(self, frame: Image, box: Box) -> None:
        """Make a new OpenCV tracker on the box, which it takes in whole pixels inside the frame."""
        height, width = frame.shape[:2]
        x, y = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
        w, h = min(max(round(box[2]), 1), width - x), min(max(round(box[3]), 1), height - y)
        self.tracker = self._make()
        self.tracker.init(frame, (x, y, w, h))
        self.box: Box = box

    def update(self, frame: Image) -> Answer:
        """Return OpenCV's box."""
        found, box = self.tracker.update(frame)
        if not found:
            return Answer(self.box, 0.0)
        self.box = Box(*map(float, box))
        score = self.tracker.getTrackingScore() if hasattr(self.tracker, "getTrackingScore") else 1.0
        return Answer(self.box, min(max(float(score), 0.0), 1.0))


def _session(path: Path, free: bool = False) -> Any:
    """Open an ONNX file on one thread; free: let the size of its first input vary."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path.name} needs ONNX Runtime: pip install onnx onnxruntime ({error})") from error
    onnxruntime.disable_telemetry_events()  # some builds report their use otherwise
    if not path.is_file():
        raise InputError(f"{path}: no such network file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content: Any = str(path)
    if free:
        model = onnx.load(str(path))
        for value in (*model.graph.input, *model.graph.output):
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if axis >= 2:
                    dimension.dim_param = f"{value.name}_{axis}"
        del model.graph.value_info[:]
        content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _cut(frame: Image, left: int, top: int, width: int, height: int, out: int, fill: Any) -> Image:
    """Cut whole pixels, filled outside the frame, and resize them to (out, out)."""
    rows, columns = frame.shape[:2]
    x0, y0 = min(max(left, 0), columns), min(max(top, 0), rows)
    x1, y1 = max(min(left + width, columns), x0), max(min(top + height, rows), y0)
    inner: Any = frame[y0:y1, x0:x1]
    if inner.size == 0:
        inner = np.full((height, width, 3), fill, np.uint8)
    elif inner.shape[:2] != (height, width):
        sides = (y0 - top, top + height - y1, x0 - left, left + width - x1)
        inner = cv2.copyMakeBorder(inner, *sides, cv2.BORDER_CONSTANT, value=fill)
    return cv2.resize(inner, (out, out), interpolation=cv2.INTER_LINEAR)


def _choose(
    score: NDArray[np.float32], w: NDArray[np.float32], h: NDArray[np.float32], old: tuple[float, float],
    penalty_k: float, influence: float, window: NDArray[np.float64],
) -> tuple[int, float]:  # fmt: skip
    """Return the cell that wins after the change penalty and the window, and its penalty (SiamRPN, CVPR 2018)."""

    def side(width: Any, height: Any) -> Any:
        pad = (width + height) / 2
        return np.sqrt((width + pad) * (height + pad))

    def change(ratio: Any) -> Any:
        return np.maximum(ratio, 1 / ratio)

    w, h = np.maximum(w, 1e-3), np.maximum(h, 1e-3)
    penalty = np.exp(-penalty_k * (change(side(w, h) / side(*old)) * change((old[0] / old[1]) / (w / h)) - 1))
    best = int(np.argmax(penalty * score * (1 - influence) + window * influence))
    return best, float(penalty[best])


class Cells(NamedTuple):
    """What a network said of the last search region, cell by cell, in frame px.

    x: (W,), y: (H,) the cells' centres. scores: (H, W) in [0, 1]. boxes: (H, W, 4) x, y, w, h.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]


def _cells(
    score: NDArray[np.float32], sides: NDArray[np.float32], x: NDArray[Any], y: NDArray[Any],
    px: tuple[float, float],
) -> Cells:  # fmt: skip
    """Cells at (x, y) frame px with distances `sides` (4, H * W) to the edges in crop px, px: frame px a crop px."""
    cells = len(x)
    left, top, right, bottom = np.asarray(sides, np.float64).reshape(4, cells, cells)
    across, down = px
    boxes = [x - left * across, y[:, None] - top * down, (left + right) * across, (top + bottom) * down]
    return Cells(x, y, np.asarray(score, np.float64).reshape(cells, cells), np.stack(boxes, axis=-1))


class NanoTrack:
    """NanoTrack v1, v2 or v3 (Chu, 2021) from its published ONNX pair: 127 and 255 px crops, ltrb at stride 16.

    folder: has nanotrack<version>_backbone.onnx and nanotrack<version>_head.onnx.
    """

    # window influence, penalty k, size learning rate: as its authors set them
    CONSTANTS = {"v1": (0.462, 0.148, 0.390), "v2": (0.490, 0.150, 0.385), "v3": (0.455, 0.138, 0.348)}  # noqa: RUF012

    def __init__(self, folder: Path, version: str) -> None:
        self.influence, self.penalty_k, self.size_lr = self.CONSTANTS[version]
        self.backbone = _session(folder / f"nanotrack{version}_backbone.onnx", free=True)
        self.head = _session(folder / f"nanotrack{version}_head.onnx")
        cells = 15 if version == "v3" else 16
        self.window = np.outer(np.hanning(cells), np.hanning(cells)).ravel()
        self.points = (np.arange(cells) - cells // 2) * 16.0  # px from the middle of the search crop
        self.points_x, self.points_y = np.tile(self.points, cells), np.repeat(self.points, cells)

    def _crop(self, frame: Image, side: float, out: int) -> NDArray[np.float32]:
        size = max(round(side), 1)
        left = math.floor(self.centre[0] - (size + 1) / 2 + 0.5)
        top = math.floor(self.centre[1] - (size + 1) / 2 + 0.5)
        patch = _cut(frame, left, top, size, size, out, self.fill)
        return np.ascontiguousarray(patch.transpose(2, 0, 1)[None], dtype=np.float32)

    def _side(self) -> float:
        w, h = self.size
        return math.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

    def init(self, frame: Image, box: Box) -> None:
        """Embed the target."""
        x, y, w, h = box
        self.centre, self.size = (x + (w - 1) / 2, y + (h - 1) / 2), (w, h)
        self.fill = frame.mean(axis=(0, 1))
        self.template = self.backbone.run(None, {"input": self._crop(frame, self._side(), 127)})[0]

    def place(self, frame: Image, box: Box) -> None:
        """Search around this box in the next frame, wherever the target was found before."""
        x, y, w, h = box
        self.centre, self.size = (x + w / 2, y + h / 2), (w, h)

    def cells(self) -> Cells:
        """What the network said in the last update, cell by cell."""
        score, sides, (cx, cy), scale = self._said
        return _cells(score, sides, cx + self.points / scale, cy + self.points / scale, (1 / scale, 1 / scale))

    def update(self, frame: Image) -> Answer:
        """Find the target around its last place."""
        begin = time.perf_counter()
        scale = 127 / self._side()
        patch = self._crop(frame, self._side() * 255 / 127, 255)
        cut = time.perf_counter()
        features = self.backbone.run(None, {"input": patch})[0]
        classes, sides = self.head.run(None, {"input1": self.template, "input2": features})
        done = time.perf_counter()
        classes, (left, top, right, bottom) = classes.reshape(2, -1), sides.reshape(4, -1)
        score = 1 / (1 + np.exp(np.clip(classes[0] - classes[1], -80, 80)))  # softmax of two
        self._said = score, sides, self.centre, scale
        old = (self.size[0] * scale, self.size[1] * scale)
        w, h = left + right, top + bottom
        best, penalty = _choose(score, w, h, old, self.penalty_k, self.influence, self.window)
        rate = penalty * float(score[best]) * self.size_lr
        x = self.centre[0] + float(self.points_x[best] + (right[best] - left[best]) / 2) / scale
        y = self.centre[1] + float(self.points_y[best] + (bottom[best] - top[best]) / 2) / scale
        new_w = self.size[0] * (1 - rate) + float(w[best]) / scale * rate
        new_h = self.size[1] * (1 - rate) + float(h[best]) / scale * rate
        rows, columns = frame.shape[:2]
        self.centre = (min(max(x, 0.0), columns), min(max(y, 0.0), rows))
        self.size = (min(max(new_w, 10.0), columns), min(max(new_h, 10.0), rows))
        box = Box.from_centre(*self.centre, *self.size)
        post = time.perf_counter()
        return Answer(box, float(score[best]), (cut - begin) * 1e3, (done - cut) * 1e3, (post - done) * 1e3)


class Fear:
    """FEAR-XS (Borsuk et al., ECCV 2022) from ONNX: 128 and 256 px crops that follow the shape of the box.

    folder: has fear_xs_template.onnx and fear_xs_search.onnx, with the normalisation inside.
    """

    PENALTY_K, INFLUENCE, SIZE_LR = 0.062, 0.38, 0.765

    def __init__(self, folder: Path) -> None:
        self.embed = _session(folder / "fear_xs_template.onnx")
        self.search = _session(folder / "fear_xs_search.onnx")
        self.window = np.outer(np.hanning(16), np.hanning(16)).ravel()
        self.points = np.arange(16) * 16.0  # px of the search crop: (index - 8) * 16 + 128
        self.points_x, self.points_y = np.tile(self.points, 16), np.repeat(self.points, 16)

    def _crop(self, frame: Image, offset: float, out: int) -> tuple[NDArray[np.float32], tuple[int, int, int, int]]:
        x, y, w, h = self.box
        around = (x - w * offset, y - h * offset, w * (1 + 2 * offset), h * (1 + 2 * offset))
        left, top, width, height = (int(value + 1e-6) for value in around)  # its authors cut off the fraction, too
        patch = _cut(frame, left, top, width, height, out, self.fill)[:, :, ::-1]
        return np.ascontiguousarray(patch.transpose(2, 0, 1)[None], dtype=np.float32), (left, top, width, height)

    def place(self, frame: Image, box: Box) -> None:
        """Search around this box in the next frame: clipped to this one and at least 3 px wide and high."""
        rows, columns = frame.shape[:2]
        x0, y0 = min(max(box[0], 0.0), columns), min(max(box[1], 0.0), rows)
        x1, y1 = min(max(box[0] + box[2], 0.0), columns), min(max(box[1] + box[3], 0.0), rows)
        w, h = max(x1 - x0, 3.0), max(y1 - y0, 3.0)
        self.box = Box(min(x0, columns - w), min(y0, rows - h), w, h)

    def init(self, frame: Image, box: Box) -> None:
        """Embed the target."""
        self.fill = frame.mean(axis=(0, 1))
        self.place(frame, box)
        self.template = self.embed.run(None, {"image": self._crop(frame, 0.2, 128)[0]})[0]

    def cells(self) -> Cells:
        """What the network said in the last update, cell by cell."""
        score, sides, (x, y, w, h) = self._said
        across, down = w / 256, h / 256
        return _cells(score, sides, x + self.points * across, y + self.points * down, (across, down))

    def update(self, frame: Image) -> Answer:
        """Find the target around its last place."""
        begin = time.perf_counter()
        patch, (x, y, w, h) = self._crop(frame, 2.0, 256)
        cut = time.perf_counter()
        sides, logits = self.search.run(["bbox", "cls"], {"image": patch, "template_features": self.template})
        done = time.perf_counter()
        left, top, right, bottom = sides.reshape(4, -1)
        score = 1 / (1 + np.exp(-np.clip(logits.ravel(), -80, 80)))
        self._said = score, sides, (x, y, w, h)
        old = (self.box[2] * 256 / w, self.box[3] * 256 / h)
        best, penalty = _choose(score, left + right, top + bottom, old, self.PENALTY_K, self.INFLUENCE, self.window)
        rate = penalty * float(score[best]) * self.SIZE_LR
        new_w = old[0] * (1 - rate) + float(left[best] + right[best]) * rate
        new_h = old[1] * (1 - rate) + float(top[best] + bottom[best]) * rate
        corner = (float(self.points_x[best] - left[best]), float(self.points_y[best] - top[best]))
        across, down = w / 256, h / 256
        found = Box(x + corner[0] * across, y + corner[1] * down, max(3.0, new_w * across), max(3.0, new_h * down))
        self.place(frame, found)
        post = time.perf_counter()
        return Answer(self.box, float(score[best]), (cut - begin) * 1e3, (done - cut) * 1e3, (post - done) * 1e3)
