"""Networks that others trained, in our naming: a start for training, see `siamtrack train convert`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tracker.backbones import IMAGENET_STD
from tracker.config import NANO, SWIFT
from tracker.errors import CheckpointError, MissingError
from tracker.extras import how_to_get
from tracker.heads import BoxHead
from tracker.network import Swift, SwiftNano


def from_fear(file: Path) -> Swift:
    """A swift with trunk, neck and head of FEAR-XS (Borsuk et al., FEAR, 2022; MIT); its refiner is untrained.

    file: the ONNX graph of its search branch, batch-norm folded, with outputs "cls" (logits) and "bbox" (px).
    Raises CheckpointError: not that graph; ImportError: onnx is not installed.
    """
    graph = _read(file)
    makers = {output: node for node in graph.node for output in node.output}
    score, box = (_back_from(name, makers) for name in ("cls", "bbox"))
    own = [[node for node in chain if node not in other] for chain, other in ((score, box), (box, score))]
    shared = [node for node in graph.node if node.op_type == "Conv" and node not in own[0] + own[1]]
    net = Swift(SWIFT).eval()
    trunk: Any = net.backbone
    head: Any = net.head
    parts = trunk, net.neck, head.score, head.box
    layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
    weights = _weights(file, graph, [*shared, *own[0][::-1], *own[1][::-1]])
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
            branch.read[0].weight[Swift.WIDTH :] *= math.sqrt(Swift.WIDTH)
        head.box.read[-1].bias -= math.log(BoxHead.HALF_SIZE)
    return net


def from_nanotrack(trunk: Path, head: Path) -> SwiftNano:
    """A swift-nano with trunk and head of NanoTrack v3 (Chu, NanoTrack, 2022; Apache-2.0).

    trunk, head: its two ONNX graphs, batch-norm folded. What needs no image is worked out here: linear layers with
    nothing between them are one, of the logits of two classes it is their difference, and what search features are
    multiplied with before they meet the template goes to the template's side.
    Raises CheckpointError: not these graphs; ImportError: onnx is not installed.
    """
    net = SwiftNano(NANO).eval()
    layers: list[Any] = [m for m in net.backbone.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for layer, found in zip(layers, _layers(trunk, "trunk", [_plain(m.weight) for m in layers]), strict=True):
            _set(layer, [found])
        layers[0].weight.copy_(layers[0].weight.flip(1).clone())  # its crops are BGR
        _fill(net.head, head)
    return net


def _fill(nano: Any, file: Path) -> None:
    """Put the weights of NanoTrack v3's head into a `NanoHead`; mutates it."""
    channels, cells = nano.encode.in_channels, nano.cells // nano.BRANCHES
    square = channels, channels
    compared = [square, square, (cells, cells), (cells, cells), (cells, 1, 2, 2), (cells, cells)]
    tower = [(channels, 1, 3, 3), square] * nano.TOWER
    shapes = [*compared, *compared, *[square] * 4, *[(channels, cells + channels)] * 2]
    found = iter(_layers(file, "head", [*shapes, *tower, (2, channels), *tower, (4, channels)]))

    def take(count: int) -> list[Linear]:
        return [next(found) for _ in range(count)]

    box: list[list[Linear]] = [take(len(compared))]  # the graph begins with the box branch
    score = [take(len(compared))]
    for count in (2, 1):
        box.append(take(count))
        score.append(take(count))
    score.append(take(len(tower)))
    classes = take(1)[0]
    box.append(take(len(tower)))
    target = _then(score[-1].pop(), Linear(*(values[1:] - values[:1] for values in classes)))
    sides = _then(box[-1].pop(), take(1)[0])
    nano.read.weight.zero_()  # a branch has nothing to say of the other's maps
    nano.read.weight[:1, :channels, 0, 0], nano.read.weight[1:, channels:, 0, 0] = target.weight, sides.weight
    nano.read.bias.copy_(torch.cat([target.bias, sides.bias]))

    parts = []
    for (of_template, of_search, squeeze, excite, gather, mix), (middle, encode), (join,), layers in (score, box):
        alike = _then(of_template, Linear(of_search.weight.T, torch.zeros(channels).double()))
        offset = _then(of_template, Linear(of_search.bias[None], torch.zeros(1).double()))
        pixelwise = _then(mix, Linear(join.weight[:, :cells], join.bias))
        depthwise = Linear(join.weight[:, cells:], join.bias)
        parts.append([alike, offset, middle, encode, squeeze, excite, gather, pixelwise, depthwise, *layers])
    gate, gathered = nano.gate.weigh, nano.pixelwise
    places = [nano.alike, nano.offset, nano.middle, nano.encode]
    places += [gate[1], gate[3], gathered[0], gathered[2], nano.depthwise]
    places += [m for m in nano.tower if isinstance(m, nn.Conv2d)]
    for place, of_branches in zip(places, zip(*parts, strict=True), strict=True):
        _set(place, of_branches)


class Linear(NamedTuple):
    """A convolution or matrix product: (outputs, inputs) of one pixel, or (outputs, inputs, k, k); bias (outputs,)."""

    weight: Tensor
    bias: Tensor


def _plain(weight: Tensor) -> tuple[int, ...]:
    """The shape of a weight; two numbers where the kernel is one pixel."""
    return tuple(weight.shape[:2] if weight.shape[2:].numel() == 1 else weight.shape)


def _layers(file: Path, part: str, shapes: list[tuple[int, ...]]) -> list[Linear]:
    """The layers of a graph in its order, float64. Raises CheckpointError: their weights have other shapes."""
    graph = _read(file)
    known = {one.name for one in graph.initializer}
    nodes = [n for n in graph.node if n.op_type in ("Conv", "Gemm") and n.input[1] in known]
    found = _weights(file, graph, nodes)
    if [_plain(w) for w, _ in found] != shapes or any(bias is None for _, bias in found):
        raise CheckpointError(f"{file}: not the {part} of NanoTrack v3: other layers than its {len(shapes)}")
    return [Linear(w.double().reshape(_plain(w)), b.double()) for w, b in found if b is not None]


def _then(first: Linear, second: Linear) -> Linear:
    """One after the other as one."""
    return Linear(second.weight @ first.weight, second.weight @ first.bias + second.bias)


def _set(place: Any, parts: Sequence[Linear]) -> None:
    """Put layers into a convolution, one after the other along its outputs; mutates it."""
    place.weight.copy_(torch.cat([part.weight for part in parts]).reshape(place.weight.shape))
    if place.bias is not None:
        place.bias.copy_(torch.cat([part.bias for part in parts]))


def _read(file: Path) -> Any:
    """The graph of an ONNX file."""
    try:
        import onnx
    except ImportError:
        raise MissingError(f"reading {file} needs onnx: {how_to_get('fast')}") from None
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


def _weights(file: Path, graph: Any, nodes: list[Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of convolutions."""
    from onnx import numpy_helper

    arrays = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()).float() for one in graph.initializer}
    try:
        return [(arrays[n.input[1]], arrays[n.input[2]] if len(n.input) > 2 else None) for n in nodes]
    except KeyError as error:
        raise CheckpointError(f"{file}: not that graph: it does not hold the weight {error}") from None
