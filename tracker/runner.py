"""What a tracker asks of a network, whatever runs it; numpy arrays go in and come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.errors import InputError
from tracker.geometry import Grid

EngineName = Literal[
    "auto", "torch", "onnxruntime", "openvino", "openvino-bf16"
]  # what runs a network, see `backends.make_runner`
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Features = Any  # of one exemplar, as the runner wants them back: an array or a tensor; its first axis has one row
Levels = Any  # of the crops of one pass, as the runner wants them back


class Answer(NamedTuple):
    """What a network says of N crops.

    logits: (N, h, w). box_map: (N, 4, h, w), see `heads.Maps`; None: there is no box head. levels: for
    `Runner.patches`.
    """

    logits: Floats
    box_map: Floats | None = None
    levels: Levels = None


def no_refiner(*_: object) -> Floats:
    """What `look` and `refine` do where there is nothing to do it."""
    raise InputError("this network has no refiner")


class Runner(NamedTuple):
    """A network that is ready to run.

    engine, device: what runs it, and where. grid: of its maps.
    embed: exemplars (N, H, W, 3) uint8 RGB, extents (N, 2), see `SiameseNet.embed` -> features of each, and patches
    (N, 64, 16, 16); (N, 0) where there is no refiner.
    compare: features of each, crops (N, H, W, 3) uint8 RGB -> `Answer`.
    patches: levels, rows (K,) of it, boxes (K, 4) -> (K, 64, 16, 16), see `Swift.patches`.
    refine: known, seen (K, 64, 16, 16), boxes (K, 4) -> (K, 5), see `Swift.refine`; ValueError: no refiner.
    most: appearances that are looked for in one call of `compare`, which holds memory for each; None: all there are.
    """

    engine: str
    device: str
    grid: Grid
    embed: Callable[[Bytes, Floats], tuple[list[Features], Floats]]
    compare: Callable[[Sequence[Features], Bytes], Answer]
    patches: Callable[[Levels, Sequence[int], Floats], Floats] = no_refiner
    refine: Callable[[Floats, Floats, Floats], Floats] = no_refiner
    most: int | None = None
