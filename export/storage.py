"""How weights are stored: as float16 where that loses nothing, so that a float32 bundle takes half the space."""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST_ELEMENTS = 4096
"""Smaller tensors are left as they are: a Cast costs more than it saves."""


def is_matrix(tensor: TensorProto | None) -> bool:
    """Whether a tensor is a constant float matrix that is large enough to be worth storing otherwise."""
    return (
        tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
        and math.prod(tensor.dims) >= SMALLEST_ELEMENTS
    )  # fmt: skip


def halve(model: onnx.ModelProto, *, exactly: bool = True) -> None:
    """Store every large float32 initializer as float16 plus Cast; if `exactly`, only those that it does not change.

    ONNX Runtime folds the Cast when it loads the graph, so a step computes with the same float32 weights as before.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.isfinite(half).all() and not (exactly and np.any(half.astype(np.float32) != values)):
            stored = f"{tensor.name}.float16"
            casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
