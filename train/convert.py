"""Networks that others trained, in our naming: a start for training, see `python -m train convert`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tracker.backbones import IMAGENET_STD
from tracker.config import SWIFT
from tracker.extras import how_to_get
from tracker.heads import BoxHead
from tracker.network import CheckpointError, SiameseNet


def from_fear(file: Path) -> SiameseNet:
    """A swift with trunk, neck and head of FEAR-XS (Borsuk et al., FEAR, 2022; MIT); its refiner is untrained.

    file: the ONNX graph of its search branch, batch-norm folded, with outputs "cls" (logits) and "bbox" (px).
    Raises CheckpointError: not that graph; ImportError: onnx is not installed.
    """
    graph = _read(file)
    makers = {output: node for node in graph.node for output in node.output}
    score, box = (_back_from(name, makers) for name in ("cls", "bbox"))
    own = [[node for node in chain if node not in other] for chain, other in ((score, box), (box, score))]
    shared = [node for node in graph.node if node.op_type == "Conv" and node not in own[0] + own[1]]
    net = SiameseNet(SWIFT).eval()
    trunk: Any = net.backbone
    head: Any = net.head
    parts = trunk, net.neck, head.score, head.box
    layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
    weights = _weights(graph, [*shared, *own[0][::-1], *own[1][::-1]])
    if [(m.weight.shape, m.bias is None) for m in layers] != [(w.shape, b is None) for w, b in weights]:
        raise CheckpointError(f"{file}: not the search branch of FEAR-XS: other convolutions than its {len(layers)}")
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
            if bias is not None and layer.bias is not None:
                layer.bias.copy_(bias)
        trunk.features[0][0].weight /= IMAGENET_STD
        # It compares without the factor of our pixel-wise correlation, and its box map counts px.
        for branch in (head.score, head.box):
            branch.read[0].weight[SiameseNet.WIDTH :] *= math.sqrt(SiameseNet.WIDTH)
        head.box.read[-1].bias -= math.log(BoxHead.HALF_SIZE)
    return net


def _read(file: Path) -> Any:
    """The graph of an ONNX file."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f"reading {file} needs onnx: {how_to_get('fast')}") from None
    try:
        return onnx.load(str(file)).graph
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf raises kinds of its own
        raise CheckpointError(f"{file}: not an ONNX file ({type(error).__name__})") from None


def _back_from(name: str, makers: dict[str, Any]) -> list[Any]:
    """The convolutions through which an output came, the last one first; of what was joined, the first part's."""
    found = []
    while name in makers:
        node = makers[name]
        if node.op_type == "Conv":
            found.append(node)
        name = node.input[0]
    return found


def _weights(graph: Any, nodes: list[Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of convolutions."""
    from onnx import numpy_helper

    arrays = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()).float() for one in graph.initializer}
    return [(arrays[n.input[1]], arrays[n.input[2]] if len(n.input) > 2 else None) for n in nodes]
