"""Networks as files of graphs, which run without PyTorch: what a robot needs, and no more.

`siamtrack export` writes them. A folder holds a file for each graph; what is said of the network (its config with the
calibration, its maps, its licence) is in every file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import numpy as np

from tracker.config import ModelConfig, Range, check_ranges, from_dict, parse_json
from tracker.errors import GraphError, InputError
from tracker.extras import how_to_get
from tracker.geometry import Grid
from tracker.runner import Answer, Bytes, EngineName, Features, Floats, Levels, Runner

GRAPHS = {  # what a graph is called -> its inputs; see `Runner` for what goes in and out
    "exemplar": ("crops", "extents"),
    "search": ("features", "crops"),
    "look": ("fine", "detail", "coarse", "boxes"),
    "refine": ("known", "seen", "boxes"),
}
REFINER = ("look", "refine")
ENGINES = {"onnxruntime": "fast", "openvino": "openvino", "openvino-bf16": "openvino"}  # -> the extra that brings it
MOST_THREADS = 1024
KEY = "siamtrack"  # of what a graph says of its network
MOST = 8  # targets that are looked for before those are read: fewer wait for the cache more often, more take memory
Graph = Callable[..., Sequence[Any]]


@dataclass(frozen=True)
class About:
    """What a graph says of its network.

    version: of siamtrack. weights: SHA-256 of the weight file that the graphs were made of. cells, stride, first: see
    `geometry.Grid`.
    """

    version: str
    licence: str
    weights: str
    config: ModelConfig
    cells: Annotated[int, Range(1, 200)]
    stride: Annotated[int, Range(1, 64)]
    first: Annotated[float, Range(0, 2000)]

    def __post_init__(self) -> None:
        check_ranges(self)


class Opened(NamedTuple):
    """A network that was opened from its graphs, and how it tracks.

    weights: SHA-256 of the weight file that the graphs were made of. threads: of the CPU; None: all.
    """

    config: ModelConfig
    runner: Runner
    weights: str
    threads: int | None

    def check(self, device: str, threads: int | None, engine: str) -> None:
        """Raise InputError: it was opened in another way than is asked for. "auto", None: in any way."""
        asked = {"device": device, "threads": threads, "engine": engine}
        is_so = {"device": "cpu", "threads": self.threads, "engine": self.runner.engine}
        for name, value in asked.items():
            if value not in ("auto", None, is_so[name]):
                raise InputError(f"{name} is {is_so[name]!r} of the network that was opened; got {value!r}")


def check_threads(threads: int | None) -> None:
    """Raise InputError: so many threads cannot be started. None: as many as there are cores."""
    if threads is not None and (not isinstance(threads, Integral) or not 1 <= threads <= MOST_THREADS):
        raise InputError(f"threads must be from 1 to {MOST_THREADS}; got {threads!r}")


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def can_run(device: str, engine: str) -> bool:
    """Whether graphs are the way to run a network here: the engine is there, and nothing asks for PyTorch.

    device: "auto" is the CPU unless there is a sign of a GPU that PyTorch could use; PyTorch itself is not asked,
    because it takes seconds to import.
    """
    if engine == "torch" or missing("onnxruntime" if engine == "auto" else engine):
        return False
    return device == "cpu" or (device == "auto" and not (importlib.util.find_spec("torch") and _may_have_gpu()))


def missing(engine: str) -> list[str]:
    """The packages that an engine wants and that are not installed. Raises InputError: no such engine."""
    if engine not in get_args(EngineName):
        raise InputError(f"no engine {engine!r}; there is {', '.join(get_args(EngineName))}")
    wanted = ["onnxruntime", *(["openvino"] if engine.startswith("openvino") else [])]
    return [name for name in wanted if not importlib.util.find_spec(name)]


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(r"C:\Windows\System32\nvcuda.dll").exists()
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def is_network(folder: Path) -> bool:
    """Whether a folder holds the graphs of a tracker's network."""
    return (folder / "search.onnx").is_file()


def open_network(folder: Path, threads: int | None, engine: str = "onnxruntime") -> Opened:
    """A network of graphs. threads: of the CPU; None: all. engine: one of `ENGINES`; openvino-bf16 rounds to bfloat16.

    Raises GraphError: a graph is missing, broken, not one of ours or of another export. ValueError: no such engine, or
    it is not installed.
    """
    check_threads(threads)
    if engine not in ENGINES:
        raise InputError(f"{folder}: graphs run on the cpu by {', '.join(ENGINES)}; got {engine!r}")
    if missing(engine):
        raise InputError(f"{folder}: graphs want {' and '.join(missing(engine))}: {how_to_get(ENGINES[engine])}")
    search, about = _open(folder, "search", threads, engine)
    graphs = {"search": search}
    for name in ("exemplar", *(REFINER if about.config.network == "swift" else ())):
        graphs[name], other = _open(folder, name, threads, engine)
        if other != about:
            raise GraphError(f"{folder}: {name}.onnx and search.onnx are of two exports; write them again")
    runner = runner_of(Grid(about.cells, about.stride, about.first), graphs, engine)
    return Opened(about.config, runner, about.weights, threads)


def _open(folder: Path, name: str, threads: int | None, engine: str) -> tuple[Graph, About]:
    file = folder / f"{name}.onnx"
    if not file.is_file():
        raise GraphError(f"{folder}: no {file.name}; `siamtrack export` writes all graphs of a network")
    try:
        opened = session(str(file), threads)
        about = from_dict(About, parse_json(opened.get_modelmeta().custom_metadata_map[KEY]))
        if engine == "onnxruntime" or name != "search":
            return _graph(name, opened), about
        return open_graph(name, file.read_bytes(), threads, engine), about
    except KeyError:
        raise GraphError(f"{file}: a graph, but not one of siamtrack") from None
    except Exception as error:  # engines raise kinds of their own
        raise GraphError(f"{file}: truncated or foreign graph: {str(error).splitlines()[0]}") from None


def open_graph(name: str, model: bytes, threads: int | None, engine: str = "onnxruntime") -> Graph:
    """A graph in ONNX that takes its inputs in the order of `GRAPHS`.

    OpenVINO runs the search alone: the other graphs are short, which ONNX Runtime does faster, and hold coordinates,
    which bfloat16 would round to half a pixel.
    """
    if engine == "onnxruntime" or name != "search":
        return _graph(name, session(model, threads))
    import openvino

    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if engine.endswith("bf16") else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({one: [1, *(int(str(n)) for n in list(one.partial_shape)[1:])] for one in network.inputs})
    request = core.compile_model(network, "CPU", options).create_infer_request()
    places = [GRAPHS[name].index(one.any_name) for one in network.inputs]
    outputs = range(len(network.outputs))

    def run(*values: Any) -> Sequence[Any]:
        results = request.infer([values[k] for k in places], share_inputs=True)
        return [results[k] for k in outputs]

    return run


def session(model: bytes | str, threads: int | None) -> Any:
    """ONNX Runtime's session of a graph (its bytes, or its file) on the CPU."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # some builds report their use otherwise

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning workers starve other pools
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _graph(name: str, session: Any) -> Graph:
    taken = [one.name for one in session.get_inputs()]  # what a network does not look at is no input of its graph
    places = [(GRAPHS[name].index(one), one) for one in taken]
    return lambda *values: session.run(None, {one: values[k] for k, one in places})


def runner_of(grid: Grid, graphs: Mapping[str, Graph], engine: str) -> Runner:
    """A runner of graphs: of exemplar and search, and where there is a refiner of look and refine. grid: of the maps.

    Crops run one by one: on a CPU several at once take no less time each, and from eight on more, and they take memory
    for all of them.
    """
    exemplar, search = graphs["exemplar"], graphs["search"]

    def embed(crops: Bytes, extents: Floats) -> tuple[list[Features], Floats]:
        features, *patches = exemplar(crops, extents)
        rows = [features[i : i + 1] for i in range(len(crops))]
        return rows, patches[0] if patches else np.zeros((len(crops), 0), np.float32)

    def compare(features: Sequence[Features], crops: Bytes) -> Answer:
        rows = [search(one, crops[i : i + 1]) for i, one in enumerate(features)]
        logits, *sides = (together([row[k] for row in rows]) for k in range(min(len(rows[0]), 2)))
        return Answer(logits, sides[0] if sides else None, [row[2:] for row in rows])

    runner = Runner(engine, "cpu", grid, embed, compare, most=MOST)
    if "look" not in graphs:
        return runner
    look, refine = graphs["look"], graphs["refine"]

    def run_look(levels: Levels, rows: Sequence[int], boxes: Floats) -> Floats:
        if len(set(rows)) == 1:
            return look(*levels[rows[0]], boxes[None])[0]
        return together([look(*levels[row], boxes[k : k + 1][None])[0] for k, row in enumerate(rows)])

    return runner._replace(patches=run_look, refine=lambda *arrays: refine(*arrays)[0])


def together(arrays: Sequence[Floats]) -> Floats:
    """Their rows as one array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
