"""What runs the network while tracking: PyTorch as it is, PyTorch traced and frozen, or ONNX Runtime.

All are called alike, for any number of rows, take and give numpy arrays, and agree to rounding.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tracker.extras import how_to_get
from tracker.heads import NanoHead, Template
from tracker.network import SiameseNet

Engine = Literal["auto", "torch", "onnxruntime"]
Arrays = tuple[NDArray[np.float32], ...]


def no_refiner(*_: object) -> NDArray[np.float32]:
    """What `look` and `refine` do where there is nothing to do it."""
    raise ValueError("this network has no refiner")


class Runner(NamedTuple):
    """A network that is ready to run.

    compare: template, crops (N, H, W, 3) uint8 RGB -> (logits,), or (logits, box_map, *levels); see
    `SiameseNet.forward`. look: levels,
    boxes -> (N, 64, 16, 16), and refine: known, seen, boxes -> (N, 5); see `SiameseNet`; ValueError: not swift.
    """

    compare: Callable[[Template, NDArray[np.uint8]], Arrays]
    look: Callable[[Arrays, NDArray[np.float32]], NDArray[np.float32]] = no_refiner
    refine: Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]] = no_refiner


class Compare(nn.Module):
    """`SiameseNet.forward` with plain tensors in and out, which is what tracing and exporting want.

    It takes crops (N, H, W, 3) uint8 as they are cut: an engine turns them into planes of floats faster than we do.
    """

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, crops: Tensor) -> tuple[Tensor, ...]:
        search = crops.permute(0, 3, 1, 2).float()
        maps = self.net(Template(features, features), search)  # the patch is for `Refine` alone
        return (maps.logits,) if maps.box_map is None else (maps.logits, maps.box_map, *maps.levels)


class Look(nn.Module):
    """`SiameseNet.look` as a module, with plain tensors in."""

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, fine: Tensor, detail: Tensor, coarse: Tensor, boxes: Tensor) -> Tensor:
        return self.net.look((fine, detail, coarse), boxes)


class Refine(nn.Module):
    """`SiameseNet.refine` as a module."""

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, known: Tensor, seen: Tensor, boxes: Tensor) -> Tensor:
        return self.net.refine(known, seen, boxes)


def make_runner(net: SiameseNet, device: torch.device, engine: Engine, threads: int | None) -> Runner:
    """The fastest way to run `net` on `device`.

    engine: "auto" takes ONNX Runtime on a CPU where it is installed (`pip install "siamtrack[fast]"`: a third less time
    for swift), else PyTorch. threads: of ONNX Runtime; PyTorch's are set for the process.
    Raises ValueError: an unknown engine, or ONNX Runtime without a CPU or not installed.
    """
    if engine not in ("auto", "torch", "onnxruntime"):
        raise ValueError(f"no engine {engine!r}; there is auto, torch, onnxruntime")
    installed = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx"))
    if engine == "onnxruntime" and not installed:
        raise ValueError(f'engine "onnxruntime" wants onnxruntime and onnx: {how_to_get("fast")}')
    if engine == "onnxruntime" and device.type != "cpu":
        raise ValueError(f'engine "onnxruntime" runs on the cpu; for {device} take "torch"')
    if device.type != "cpu":
        return _torch(device, *_modules(net.eval()))
    net = _folded(net)
    if net.config.network == "siamfc":
        # The groups of its correlation would be fixed by a trace; a few large convolutions have no overhead to save.
        if engine == "onnxruntime":
            raise ValueError('engine "onnxruntime" runs swift and swift-nano; for siamfc take "torch"')
        return _torch(device, *_modules(net))
    if engine == "torch" or not installed:
        runner = _torch(device, *(_frozen(module, inputs) for module, inputs, _ in _parts(net)))
    else:
        runner = _onnxruntime(net, threads)
    return runner._replace(compare=_row_by_row(runner.compare)) if _rows(net) == 1 else runner


def _torch(device: torch.device, compare: nn.Module, *refiner: nn.Module) -> Runner:
    def run_compare(template: Template, crops: NDArray[np.uint8]) -> Arrays:
        with torch.inference_mode():
            return tuple(m.cpu().numpy() for m in compare(template.features, torch.from_numpy(crops).to(device)))

    def run(module: nn.Module, *arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(*(torch.from_numpy(a).to(device) for a in arrays)).cpu().numpy())

    if not refiner:
        return Runner(run_compare)
    look, refine = refiner
    return Runner(run_compare, lambda levels, boxes: run(look, *levels, boxes), partial(run, refine))


def _folded(net: SiameseNet) -> SiameseNet:
    """Batch-norm folded into convolutions, channels-last."""
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                first, second = module[i], module[i + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
                elif isinstance(first, nn.BatchNorm2d) and isinstance(second, nn.Conv2d):
                    module[i], module[i + 1] = nn.Identity(), _after_norm(first, second)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _after_norm(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution that does what `norm` and `conv` do one after the other."""
    assert norm.running_mean is not None and norm.running_var is not None and conv.kernel_size == (1, 1)
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = conv.weight[:, :, 0, 0] @ (norm.bias - norm.running_mean * gain)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 1).requires_grad_(False)
    folded.weight.copy_(conv.weight * gain[None, :, None, None])
    folded.bias.copy_(shift if conv.bias is None else shift + conv.bias)  # type: ignore[union-attr]
    return folded.eval()


def _modules(net: SiameseNet) -> list[nn.Module]:
    """What a `Runner` runs."""
    return [Compare(net), Look(net), Refine(net)] if net.config.network == "swift" else [Compare(net)]


def _rows(net: SiameseNet) -> int:
    """Rows of the example of a trace. Two stand for any number.

    A correlation channel by channel is a convolution with a group for each channel of each row: its trace is good for
    one row.
    """
    return 1 if isinstance(net.head, NanoHead) else 2


def _row_by_row(compare: Callable[[Template, NDArray[np.uint8]], Arrays]) -> Callable[..., Arrays]:
    """`compare` of one row for any number of them."""

    def run(template: Template, crops: NDArray[np.uint8]) -> Arrays:
        if len(crops) == 1:
            return compare(template, crops)
        rows = [compare(Template(*(t[i : i + 1] for t in template)), crops[i : i + 1]) for i in range(len(crops))]
        return tuple(np.concatenate(maps) for maps in zip(*rows, strict=True))

    return run


def _parts(net: SiameseNet) -> Iterator[tuple[nn.Module, tuple[Tensor, ...], list[str]]]:
    """What is traced or exported: each module with an example of its inputs, and their names."""
    exemplar, search, rows = net.config.exemplar_size, net.config.search_size, _rows(net)
    compare, *refiner = _modules(net)
    with torch.no_grad():
        template = net.embed(torch.zeros(rows, 3, exemplar, exemplar), torch.full((rows, 2), 0.5))
        given = template.features, torch.zeros(rows, search, search, 3, dtype=torch.uint8)
        levels = compare(*given)[2:]
    yield compare, given, ["features", "crops"]
    if refiner:
        look, refine = refiner
        boxes = torch.full((rows, 4), search / 4)
        yield look, (*levels, boxes), ["fine", "detail", "coarse", "boxes"]
        yield refine, (template.patch, template.patch, boxes), ["known", "seen", "boxes"]


def _frozen(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes seen by the trace; deprecation of torch.jit
        return torch.jit.freeze(torch.jit.trace(module.eval(), inputs))


def _onnxruntime(net: SiameseNet, threads: int | None) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning workers starve other pools

    def session(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str]) -> Callable[..., list[Any]]:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), inputs, file, input_names=names, dynamo=False,  # type: ignore[arg-type]
                dynamic_axes={name: {0: "rows"} for name in names if _rows(net) > 1},
            )  # fmt: skip
        ready = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        return lambda *values: ready.run(
            None, {name: np.ascontiguousarray(v) for name, v in zip(names, values, strict=True)}
        )

    compare, *refiner = (session(*part) for part in _parts(net))

    def run_compare(template: Template, crops: NDArray[np.uint8]) -> Arrays:
        return tuple(compare(template.features.numpy(), crops))

    if not refiner:
        return Runner(run_compare)
    look, refine = refiner
    return Runner(run_compare, lambda levels, boxes: look(*levels, boxes)[0], lambda *arrays: refine(*arrays)[0])
