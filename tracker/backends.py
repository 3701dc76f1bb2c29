"""What runs the comparison of template and search: PyTorch as it is, PyTorch traced and frozen, or ONNX Runtime.

All are called alike, (template features, template summary, search) -> (logits,) or (logits, box_map) as numpy, for any
number of rows, and agree to rounding.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tracker.heads import Template
from tracker.network import SiameseNet

Engine = Literal["auto", "torch", "onnxruntime"]
Compare = Callable[[Template, Tensor], tuple[NDArray[np.float32], ...]]


class TensorsOnly(nn.Module):
    """`SiameseNet.forward` with plain tensors in and out, which is what tracing and exporting want."""

    def __init__(self, net: SiameseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, summary: Tensor, search: Tensor) -> tuple[Tensor, ...]:
        return tuple(m for m in self.net(Template(features, summary), search) if m is not None)


def make_compare(net: SiameseNet, device: torch.device, engine: Engine, threads: int | None) -> Compare:
    """The fastest comparison for `net` on `device`.

    engine: "auto" takes ONNX Runtime on a CPU where it is installed (`pip install "siamtrack[fast]"`: a third less time
    for swift), else PyTorch. threads: of ONNX Runtime; PyTorch's are set for the process.
    Raises ValueError: an unknown engine, or ONNX Runtime without a CPU or not installed.
    """
    if engine not in ("auto", "torch", "onnxruntime"):
        raise ValueError(f"no engine {engine!r}; there is auto, torch, onnxruntime")
    installed = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx"))
    if engine == "onnxruntime" and not installed:
        raise ValueError('engine "onnxruntime" wants onnxruntime and onnx: pip install "siamtrack[fast]"')
    if engine == "onnxruntime" and device.type != "cpu":
        raise ValueError(f'engine "onnxruntime" runs on the cpu; for {device} take "torch"')
    if device.type != "cpu":
        return _torch(TensorsOnly(net).eval())
    if net.config.network == "siamfc":
        # The groups of its correlation would be fixed by a trace; a few large convolutions have no overhead to save.
        if engine == "onnxruntime":
            raise ValueError('engine "onnxruntime" runs swift only; for siamfc take "torch"')
        return _torch(_folded(net))
    if engine == "torch" or not installed:
        return _torch(_frozen(net))
    return _onnxruntime(net, threads)


def _torch(module: nn.Module) -> Compare:
    def compare(template: Template, search: Tensor) -> tuple[NDArray[np.float32], ...]:
        with torch.inference_mode():
            return tuple(m.cpu().numpy() for m in module(template.features, template.summary, search))

    return compare


def _folded(net: SiameseNet) -> nn.Module:
    """Batch-norm folded into convolutions, channels-last."""
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    only: nn.Module = TensorsOnly(net).eval().requires_grad_(False)
    return only.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _example(net: SiameseNet) -> tuple[Tensor, Tensor, Tensor]:
    exemplar, search = net.config.exemplar_size, net.config.search_size
    with torch.no_grad():
        template = net.embed(torch.zeros(2, 3, exemplar, exemplar), torch.full((2, 2), 0.5))
    return template.features, template.summary, torch.zeros(2, 3, search, search)


def _frozen(net: SiameseNet) -> nn.Module:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes seen by the trace; deprecation of torch.jit
        return torch.jit.freeze(torch.jit.trace(_folded(net), _example(net)))


def _onnxruntime(net: SiameseNet, threads: int | None) -> Compare:
    import onnxruntime

    file = io.BytesIO()
    names = ["features", "summary", "search"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _folded(net), _example(net), file, input_names=names, dynamo=False,  # type: ignore[arg-type]
            dynamic_axes={name: {0: "rows"} for name in names},
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning workers starve other pools
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

    def compare(template: Template, search: Tensor) -> tuple[NDArray[np.float32], ...]:
        values = (template.features, template.summary, search)
        feeds = {name: np.ascontiguousarray(v.numpy()) for name, v in zip(names, values, strict=True)}
        return tuple(session.run(None, feeds))

    return compare
