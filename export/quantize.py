"""int8 weights and products in standard operators, such that no row's result depends on its neighbours.

A weight matrix is quantized per output unit, an embedding per word: symmetric, round(w / scale), scale = max|w| / 127.
Activations of a known range have one scale for good (`bounded_products.py`): in the attention RNN they lie in [-1, 1]
by construction, in Transformers `calibration.py` finds their ranges. Others are quantized while the graph runs, each
row with its own scale, in a dozen operators more.
ONNX Runtime's own dynamic quantization takes one scale over the whole batch instead, so that a neighbour changes your
translation. Integer products are exact: a row alone and in a batch gives the same bits.

An encoder's LSTM is one operator (`recurrence.py`). What is left, such as GRUs and biases, is float and stored as
float16.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.bounded_products import LARGEST, SMALLEST_PEAK, UNIT, ZERO_POINT, BoundedProducts, Range, row_scales
from export.bounds import bounded_values
from export.recurrence import DOMAIN, RecurrentLayers
from export.storage import halve, is_matrix

Float32 = NDArray[np.float32]

OPSETS = range(18, 21)
"""Opsets to make bundles in: ReduceMax reads its axes from a tensor since 18, and the tracer knows none after 20."""

LARGEST_FLOAT_TABLE = 2**18
"""Elements: a table of positions, say. It is stored as float16 and read as float32."""


class Quantized(NamedTuple):
    """A matrix as int8 rows and one scale per row; the names of the tensors that hold them."""

    rows: str
    scales: str


def quantize_rows(matrix: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Quantize `[row, column]`; return int8 of the same shape and scales `[row]`."""
    scales = row_scales(matrix)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def quantize(
    model: onnx.ModelProto, bounded: Collection[str] = (), ranges: Mapping[str, Range] = MappingProxyType({})
) -> None:
    """Quantize embeddings and products with constant matrices; halve what is left.

    `bounded` names inputs that lie in [-1, 1], `ranges` what other values have been found to be.
    """
    rewriter = _Rewriter(model)
    known = {**ranges, **dict.fromkeys(bounded_values(model.graph, bounded), UNIT)}
    of_bounded = BoundedProducts(model, known)
    layers = RecurrentLayers(model, {name for name, found in known.items() if found == UNIT})
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Gather" and rewriter.is_large(node.input[0]):
            nodes += rewriter.embedding(node)
        elif node.op_type in ("Gemm", "MatMul") and rewriter.is_matrix(node.input[1]):
            nodes += of_bounded.rewrite(node) or rewriter.product(node)
        elif node.op_type == "LSTM":
            nodes += layers.rewrite(node) or [node]
        else:
            nodes.append(node)
    nodes = _needed([*rewriter.constants, *nodes], {output.name for output in model.graph.output})
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    tensors = (*model.graph.initializer, *rewriter.tensors, *of_bounded.tensors.values(), *layers.tensors)
    kept = [tensor for tensor in tensors if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    if layers.tensors:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    halve(model, exactly=False)
    onnx.checker.check_model(model)


def _needed(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Drop the nodes that nothing needs any more."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


class _Rewriter:
    """Makes the nodes that stand in for a float one, and collects the tensors that they read."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._quantized: dict[str, Quantized] = {}
        self.tensors: list[TensorProto] = []
        self.constants: list[NodeProto] = []

    def is_matrix(self, name: str) -> bool:
        """Whether a tensor is a constant float matrix that is large enough to be worth it."""
        return is_matrix(self._weights.get(name))

    def is_large(self, name: str) -> bool:
        """Whether it is also larger than a table whose float words take less memory than time to put together."""
        return self.is_matrix(name) and math.prod(self._weights[name].dims) > LARGEST_FLOAT_TABLE

    def embedding(self, node: NodeProto) -> Iterator[NodeProto]:
        """Gather int8 rows and their scales, and multiply them: `[…]` ids to `[…, size]` float."""
        table = self._matrix(node.input[0], transposed=False)
        out, ids = node.output[0], node.input[1]
        yield helper.make_node("Gather", [table.rows, ids], [f"{out}.int8"])
        yield helper.make_node("Cast", [f"{out}.int8"], [f"{out}.cast"], to=TensorProto.FLOAT)
        yield helper.make_node("Gather", [f"{table.scales}.columns", ids], [f"{out}.scale"])
        yield helper.make_node("Mul", [f"{out}.cast", f"{out}.scale"], [out])

    def product(self, node: NodeProto) -> Iterator[NodeProto]:
        """Multiply `[…, row, in]` by a constant matrix in integers: `[…, row, out]` float."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if (attributes.get("alpha", 1.0), attributes.get("beta", 1.0), attributes.get("transA", 0)) != (1.0, 1.0, 0):
            raise ValueError(f"{node.name} is scaled or transposed, which tracing never writes: this is a bug")
        weight = self._matrix(node.input[1], transposed=not attributes.get("transB", 0))
        values, out = node.input[0], node.output[0]
        yield from self._quantize_activations(values, out)
        zero = self._constant("zero_point", np.array(ZERO_POINT, np.uint8))
        yield helper.make_node("MatMulInteger", [f"{out}.uint8", f"{weight.rows}.columns", zero], [f"{out}.int32"])
        yield helper.make_node("Cast", [f"{out}.int32"], [f"{out}.sums"], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{out}.sums", f"{out}.scale"], [f"{out}.by_row"])
        biased = len(node.input) > 2
        product = f"{out}.product" if biased else out
        yield helper.make_node("Mul", [f"{out}.by_row", weight.scales], [product])
        if biased:
            yield helper.make_node("Add", [product, node.input[2]], [out])

    def _quantize_activations(self, values: str, out: str) -> Iterator[NodeProto]:
        """uint8 = truncate(x · 127 / max|x| + 128.5): rounding, with one pass over the row less."""
        last = self._constant("column", np.array([-1], np.int64))
        tiny = self._constant("smallest_peak", np.array(SMALLEST_PEAK, np.float32))
        largest = self._constant("largest", np.array(LARGEST, np.float32))
        middle = self._constant("middle", np.array(ZERO_POINT + 0.5, np.float32))
        yield helper.make_node("Abs", [values], [f"{out}.abs"])
        yield helper.make_node("ReduceMax", [f"{out}.abs", last], [f"{out}.max"], keepdims=1)
        yield helper.make_node("Max", [f"{out}.max", tiny], [f"{out}.peak"])
        yield helper.make_node("Div", [largest, f"{out}.peak"], [f"{out}.inverse"])
        yield helper.make_node("Div", [f"{out}.peak", largest], [f"{out}.scale"])
        yield helper.make_node("Mul", [values, f"{out}.inverse"], [f"{out}.scaled"])
        yield helper.make_node("Add", [f"{out}.scaled", middle], [f"{out}.shifted"])
        yield helper.make_node("Cast", [f"{out}.shifted"], [f"{out}.uint8"], to=TensorProto.UINT8)

    def _matrix(self, name: str, *, transposed: bool) -> Quantized:
        """Store a matrix with output units (or words) in rows; a tied matrix is stored once."""
        if name not in self._quantized:
            values = numpy_helper.to_array(self._weights[name]).astype(np.float32)
            rows, scales = quantize_rows(values.T if transposed else values)
            quantized = self._quantized[name] = Quantized(f"{name}.int8", f"{name}.scales")
            self.tensors += [numpy_helper.from_array(np.ascontiguousarray(rows), quantized.rows),
                             numpy_helper.from_array(scales, quantized.scales)]  # fmt: skip
            # Folded when the graph is loaded.
            last = self._constant("column", np.array([-1], np.int64))
            self.constants += [
                helper.make_node("Transpose", [quantized.rows], [f"{quantized.rows}.columns"]),
                helper.make_node("Unsqueeze", [quantized.scales, last], [f"{quantized.scales}.columns"]),
            ]
        return self._quantized[name]

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        if all(tensor.name != f"quantize.{name}" for tensor in self.tensors):
            self.tensors.append(numpy_helper.from_array(value, f"quantize.{name}"))
        return f"quantize.{name}"
