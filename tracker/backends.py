"""What runs a network while tracking: PyTorch as it is, PyTorch traced and frozen, or ONNX Runtime.

All are called alike (`runner.Runner`), for any number of rows, and agree to rounding.
"""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tracker.errors import InputError
from tracker.extras import how_to_get
from tracker.fastest import fastest
from tracker.graphs import ENGINES, GRAPHS, missing, open_graph, runner_of
from tracker.heads import NanoHead, ScoreHead, Template
from tracker.network import SiameseNet, SiamFC, Swift
from tracker.runner import Answer, Bytes, EngineName, Features, Floats, Levels, Runner

_making = threading.Lock()  # torch traces and exports one network at a time


# --- what runs, as modules that take bytes and plain tensors: an engine turns bytes into floats faster than we do


class Exemplar(nn.Module):
    """`SiameseNet.embed` of exemplars (N, H, W, 3) uint8 as they are cut."""

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor, extents: Tensor) -> tuple[Tensor, ...]:
        template = self.net.embed(crops.permute(0, 3, 1, 2).float(), extents)
        return tuple(template) if template.patch.shape[1] else (template.features,)


class Compare(nn.Module):
    """`SiameseNet.forward` of crops (N, H, W, 3) uint8 as they are cut."""

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, crops: Tensor) -> tuple[Tensor, ...]:
        search = crops.permute(0, 3, 1, 2).float()
        maps = self.net(Template(features, features), search)  # the patch is for `Refine` alone
        return (maps.logits,) if maps.box_map is None else (maps.logits, maps.box_map, *maps.levels)


class Look(nn.Module):
    """`Swift.patches` at K boxes (N, K, 4) of each crop."""

    def __init__(self, net: Swift) -> None:
        super().__init__()
        self.net = net

    def forward(self, fine: Tensor, detail: Tensor, coarse: Tensor, boxes: Tensor) -> Tensor:
        return self.net.refiner.patches((fine, detail, coarse), boxes)


class Refine(nn.Module):
    """`Swift.refine` as a module."""

    def __init__(self, net: Swift) -> None:
        super().__init__()
        self.net = net

    def forward(self, known: Tensor, seen: Tensor, boxes: Tensor) -> Tensor:
        return self.net.refine(known, seen, boxes)


class Part(NamedTuple):
    """What is traced or exported: a module, an example of its inputs, and which of their axes vary."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    axes: dict[str, dict[int, str]]


def make_runner(
    net: SiameseNet, device: str = "auto", engine: EngineName = "auto", threads: int | None = None
) -> Runner:
    """The fastest way to run `net` on `device`.

    device: "auto" (cuda, then mps, then cpu), or any of them. engine: "auto" takes ONNX Runtime on a CPU where it is
    installed (`pip install "siamtrack[fast]"`: a third less time for swift), or OpenVINO where that was measured to be
    faster (`fastest.fastest`), else PyTorch; "openvino" runs the search by OpenVINO, "openvino-bf16" in bfloat16.
    threads: of the CPU. None: one for graphs; those of PyTorch, which are those of the process, stay as they are.
    May be called from several threads. `net` stays as it is: what runs is a copy.
    Raises ValueError: a device or engine that is not there, or an engine that cannot run this network.
    """
    where = pick_device(device)
    wanted = [*missing("onnxruntime" if engine == "auto" else engine), *([] if find_spec("onnx") else ["onnx"])]
    if engine in ENGINES:
        if wanted:
            raise InputError(f'engine "{engine}" wants {" and ".join(wanted)}: {how_to_get(ENGINES[engine])}')
        if where.type != "cpu":
            raise InputError(f'engine "{engine}" runs on the cpu; for {where} take "torch"')
    with _making:
        if where.type == "cpu" and engine != "torch" and not wanted:
            return _graphs(net, threads or 1, engine)
        if threads is not None:
            torch.set_num_threads(threads)
        return _torch(net, where)


def pick_device(name: str) -> torch.device:
    """The torch device called `name`; "auto" takes cuda, then mps, then cpu. Raises ValueError: not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, ok in there.items() if ok))
    if not there.get(str(name).split(":")[0], False):
        raise InputError(f"no device {name!r} here; there is {', '.join(k for k, ok in there.items() if ok)}, or auto")
    return torch.device(name)


# --- PyTorch


def _torch(net: SiameseNet, device: torch.device) -> Runner:
    on_cpu = device.type == "cpu"
    net = folded(net) if on_cpu else _copied(net, device)
    # The groups of siamfc's correlation would be fixed by a trace; a few large convolutions have no overhead to save.
    traced = on_cpu and not isinstance(net, SiamFC)
    modules = {name: _frozen(part) if traced else part.module for name, part in parts_of(net).items()}

    def tensors(arrays: Sequence[Any]) -> list[Tensor]:
        return [torch.as_tensor(array, device=device) for array in arrays]

    def run(name: str, *arrays: Any) -> Any:
        with torch.inference_mode():
            return modules[name](*tensors(arrays))

    def embed(crops: Bytes, extents: Floats) -> tuple[list[Features], Floats]:
        features, *patches = run("exemplar", crops, extents)
        rows = [features[i : i + 1] for i in range(len(crops))]
        return rows, patches[0].cpu().numpy() if patches else np.zeros((len(crops), 0), np.float32)

    def search(features: Tensor, crops: Bytes) -> Answer:
        maps = run("search", features, crops)
        sides = maps[1].cpu().numpy() if len(maps) > 1 else None
        return Answer(maps[0].cpu().numpy(), sides, maps[2:])  # the levels stay on the device

    def compare(features: Sequence[Features], crops: Bytes) -> Answer:
        if len(crops) > 1 and rows_of(net) == 1 and traced:
            rows = [search(one, crops[i : i + 1]) for i, one in enumerate(features)]
            sides = [row.box_map for row in rows if row.box_map is not None]
            return Answer(np.concatenate([row.logits for row in rows]), np.concatenate(sides))
        return search(features[0] if len(features) == 1 else torch.cat(list(features)), crops)

    runner = Runner("torch", str(device), net.grid, embed, compare)
    if "look" not in modules:
        return runner

    def patches(levels: Levels, rows: Sequence[int], boxes: Floats) -> Floats:
        if len(levels[0]) == 1:
            return np.asarray(run("look", *levels, boxes[None]).cpu().numpy())
        return np.asarray(run("look", *(level[list(rows)] for level in levels), boxes[:, None]).cpu().numpy())

    return runner._replace(patches=patches, refine=lambda *arrays: np.asarray(run("refine", *arrays).cpu().numpy()))


def _copied(net: SiameseNet, device: torch.device | str) -> SiameseNet:
    return copy.deepcopy(net).to(device, torch.float32).eval().requires_grad_(False)


def folded(net: SiameseNet) -> SiameseNet:
    """A copy on the CPU: batch-norm folded into convolutions, channels-last."""
    net = _copied(net, "cpu")
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                first, second = module[i], module[i + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
                elif isinstance(first, nn.BatchNorm2d) and isinstance(second, nn.Conv2d):
                    module[i], module[i + 1] = nn.Identity(), _after_norm(first, second)
    return net.to(dtype=torch.float32, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _after_norm(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution that does what `norm` and `conv` do one after the other."""
    assert norm.running_mean is not None and norm.running_var is not None and conv.kernel_size == (1, 1)
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = conv.weight[:, :, 0, 0] @ (norm.bias - norm.running_mean * gain)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 1).requires_grad_(False)
    folded.weight.copy_(conv.weight * gain[None, :, None, None])
    folded.bias.copy_(shift if conv.bias is None else shift + conv.bias)  # type: ignore[union-attr]
    return folded.eval()


def rows_of(net: SiameseNet) -> int:
    """Rows of the example of a trace. Two stand for any number.

    A correlation of maps with maps is a convolution with groups for each row: its trace is good for one row.
    """
    return 1 if isinstance(net.head, ScoreHead | NanoHead) else 2


def parts_of(net: SiameseNet) -> dict[str, Part]:
    """What a `Runner` runs, by the names of `graphs.GRAPHS`."""
    side, size, rows = net.config.exemplar_size, net.config.search_size, rows_of(net)
    exemplar, search = Exemplar(net), Compare(net)
    device = next(net.parameters()).device
    given = _black(2, side, device), torch.full((2, 2), 0.5, dtype=torch.float32, device=device)
    with torch.no_grad():
        features, *patches = exemplar(*given)
        asked = features[:rows], _black(rows, size, device)
        levels = search(*asked)[2:]
    parts = {"exemplar": Part(exemplar, given, _vary("exemplar")), "search": Part(search, asked, _vary("search", rows))}
    if isinstance(net, Swift):
        boxes = torch.full((2, 2, 4), size / 4, dtype=torch.float32, device=device)
        axes = _vary("look")
        axes["boxes"][1] = "boxes of a row"
        parts["look"] = Part(Look(net), (*levels, boxes), axes)
        parts["refine"] = Part(Refine(net), (patches[0], patches[0], boxes[:, 0]), _vary("refine"))
    return parts


def _black(rows: int, side: int, device: torch.device) -> Tensor:
    return torch.zeros(rows, side, side, 3, dtype=torch.uint8, device=device)


def _vary(graph: str, rows: int = 2) -> dict[str, dict[int, str]]:
    return {name: {0: "rows"} for name in GRAPHS[graph]} if rows > 1 else {}


def _frozen(part: Part) -> nn.Module:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes seen by the trace; deprecation of torch.jit
        return torch.jit.freeze(torch.jit.trace(part.module.eval(), part.inputs))


# --- graphs


def _graphs(net: SiameseNet, threads: int, engine: str) -> Runner:
    models = {name: exported(GRAPHS[name], part) for name, part in parts_of(folded(net)).items()}
    if engine == "auto":
        engine = fastest(models["search"], threads)
    opened = {name: open_graph(name, model, threads, engine) for name, model in models.items()}
    return runner_of(net.grid, opened, engine)


def exported(inputs: Sequence[str], part: Part) -> bytes:
    """A part as a graph in ONNX whose inputs have these names."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            part.module.eval(), part.inputs, file, input_names=list(inputs), dynamo=False,  # type: ignore[arg-type]
            dynamic_axes=part.axes,
        )  # fmt: skip
    return file.getvalue()
