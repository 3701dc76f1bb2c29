"""Networks as graphs that ONNX Runtime runs. No torch: what a robot runs needs no more than this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tracker.geometry import Grid
from tracker.runner import Answer, Bytes, Features, Floats, Levels, Runner

GRAPHS = {  # what a graph is called -> its inputs; see `Runner` for what goes in and out
    "exemplar": ("crops", "extents"),
    "search": ("features", "crops"),
    "look": ("fine", "detail", "coarse", "boxes"),
    "refine": ("known", "seen", "boxes"),
}
Graph = Callable[..., Sequence[Any]]


def open_graph(name: str, model: bytes, threads: int | None) -> Graph:
    """A graph that takes its inputs in the order of `GRAPHS`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning workers starve other pools
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = [one.name for one in session.get_inputs()]  # what a network does not look at is no input of its graph
    places = [(GRAPHS[name].index(one), one) for one in taken]
    return lambda *values: session.run(None, {one: values[k] for k, one in places})


def runner_of(grid: Grid, one_by_one: bool, graphs: Mapping[str, Graph]) -> Runner:
    """A runner of graphs: of exemplar and search, and where there is a refiner of look and refine.

    grid: of the maps. one_by_one: the graph of search takes one crop at a time.
    """
    exemplar, search = graphs["exemplar"], graphs["search"]

    def embed(crops: Bytes, extents: Floats) -> tuple[list[Features], Floats]:
        features, *patches = exemplar(crops, extents)
        rows = [features[i : i + 1] for i in range(len(crops))]
        return rows, patches[0] if patches else np.zeros((len(crops), 0), np.float32)

    def compare(features: Sequence[Features], crops: Bytes) -> Answer:
        if len(crops) == 1:
            return _answer(search(features[0], crops))
        if not one_by_one:
            return _answer(search(np.concatenate(features), crops))
        rows = [search(one, crops[i : i + 1]) for i, one in enumerate(features)]
        return _answer([np.concatenate(maps) for maps in zip(*rows, strict=True)])

    runner = Runner("onnxruntime", "cpu", grid, embed, compare)
    if "look" not in graphs:
        return runner
    look, refine = graphs["look"], graphs["refine"]

    def run_look(levels: Levels, rows: Sequence[int], boxes: Floats) -> Floats:
        if len(levels[0]) == 1:
            return look(*levels, boxes[None])[0]
        return look(*(level[list(rows)] for level in levels), boxes[:, None])[0]

    return runner._replace(look=run_look, refine=lambda *arrays: refine(*arrays)[0])


def _answer(maps: Sequence[Any]) -> Answer:
    return Answer(maps[0]) if len(maps) == 1 else Answer(maps[0], maps[1], tuple(maps[2:]))
