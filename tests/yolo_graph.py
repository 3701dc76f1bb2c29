"""A graph in the shape of an exported YOLO, small enough to be written down: it finds cells that are red."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CELL = 64, 16  # px, of the input and of a cell


def write_yolo(path, boxes=None, names=("red", "other")):
    """boxes: (N, 4) centre x, centre y, w, h in px of the input, found in every image; None: red cells are found."""
    grid = (np.arange(SIDE // CELL) + 0.5) * CELL
    cells = [(x, y, CELL, CELL) for y in grid for x in grid] if boxes is None else [*boxes, *[(1, 1, 1, 1)] * 16]
    where = np.array(cells, np.float32).T[None]
    count = where.shape[2]
    constants = {
        "where": where,
        "weigh": np.array([1, -1, 0], np.float32).reshape(1, 3, 1, 1),
        "shape": np.array([1, 1, -1], np.int64),
        "one": np.array([1], np.int64),
        "nothing": np.zeros((1, 1, count), np.float32),
        "always": np.array([[[0.8] * (count - 16) + [0.0] * 16]], np.float32),
        "zero": np.zeros((), np.float32),
    }
    nodes = [helper.make_node("Mul", ["images", "weigh"], ["weighed"])]
    if boxes is None:
        nodes += [
            helper.make_node("ReduceSum", ["weighed", "one"], ["redness"]),
            helper.make_node("AveragePool", ["redness"], ["pooled"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
            helper.make_node("Reshape", ["pooled", "shape"], ["scores"]),
        ]
    else:
        nodes += [
            helper.make_node("ReduceMean", ["weighed"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["none"]),
            helper.make_node("Add", ["always", "none"], ["scores"]),
        ]
    nodes.append(helper.make_node("Concat", ["where", "scores", "nothing"], ["output0"], axis=1))
    graph = helper.make_graph(
        nodes,
        "yolo",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"names": str(dict(enumerate(names)))})
    onnx.save(model, str(path))
    return path
