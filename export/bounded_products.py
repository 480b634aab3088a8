"""int8 products of values of known ranges, with one scale for good, so that nothing is measured while the graph runs.

QuantizeLinear and DequantizeLinear stand around the float product, the form that ONNX Runtime fuses into one integer
product that adds the bias and scales its columns. An embedding is a table, so it is stored as the product reads it:
uint8, each dimension divided by its largest value, which is multiplied into the weights instead.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.storage import is_matrix

Float32 = NDArray[np.float32]

LARGEST = 127
ZERO_POINT = 128
LARGEST_BIAS = 2**30
SMALLEST_PEAK = 1e-12
"""Keeps a row of zeros from being divided by zero."""


class Range(NamedTuple):
    """What uint8 means: `step` times its distance from `zero_point`."""

    step: float
    zero_point: int

    @classmethod
    def between(cls, low: float, high: float) -> "Range":
        """Return the range that reaches from `low` to `high`, and holds 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = max(high - low, SMALLEST_PEAK) / 255
        return cls(step, round(-low / step))


UNIT = Range(1 / LARGEST, ZERO_POINT)
"""[-1, 1]."""


def row_scales(values: Float32) -> Float32:
    """Return what an int8 unit of each row means: of `[…, row, column]` values, `[…, row]`."""
    scales: Float32 = np.maximum(np.abs(values).max(axis=-1), SMALLEST_PEAK) / LARGEST
    return scales


class Factors(NamedTuple):
    """What a product multiplies by its weights, concatenated: words of a table, if any, and values of one range."""

    words: NodeProto | None
    values: list[str]
    range: Range


class BoundedProducts:
    """Makes the nodes that stand in for a float product, and collects the tensors that they read."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, Range]) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._ranges = ranges
        self.tensors: dict[str, TensorProto] = {}

    def rewrite(self, node: NodeProto) -> list[NodeProto]:
        """Multiply in integers; return nothing where the values have no known bound."""
        factors = self._factors(node.input[0])
        if factors is None:
            return []
        out = node.output[0]
        nodes = self._quantized(factors, f"{out}.uint8")
        meaning = self._meaning(factors.range)
        nodes.append(helper.make_node("DequantizeLinear", [f"{out}.uint8", *meaning], [f"{out}.values"]))
        nodes += self._dequantized_weights(node, factors)
        inputs = [f"{out}.values", f"{out}.weights", f"{out}.bias"][: len(node.input)]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        return [*nodes, helper.make_node(node.op_type, inputs, [out], **attributes)]

    def _factors(self, name: str) -> Factors | None:
        parts = self._parts(name)
        lead = self._producers.get(parts[0])
        if lead is None or lead.op_type != "Gather" or not is_matrix(self._weights.get(lead.input[0])):
            return Factors(None, [name], self._ranges[name]) if name in self._ranges else None
        bounded = all(self._ranges.get(part) == UNIT for part in parts[1:])
        return Factors(lead, parts[1:], UNIT) if bounded else None

    def _parts(self, name: str) -> list[str]:
        """Return what a value is concatenated of along its last axis."""
        node = self._producers.get(name)
        if node is None or node.op_type != "Concat" or node.attribute[0].i != -1:
            return [name]
        return [part for joined in node.input for part in self._parts(joined)]

    def _quantized(self, factors: Factors, out: str) -> list[NodeProto]:
        """Quantize the factors side by side: uint8 = round(x / step) + zero point."""
        meaning = self._meaning(factors.range)
        if factors.words is None:
            return [helper.make_node("QuantizeLinear", [factors.values[0], *meaning], [out])]
        table, ids = factors.words.input
        rows = np.rint(self._values(table) * (LARGEST / self._peaks(table))) + ZERO_POINT
        nodes = [helper.make_node("Gather", [self._store(table, rows.astype(np.uint8)), ids], [f"{out}.words"])]
        for value in factors.values:
            nodes += [helper.make_node("QuantizeLinear", [value, *meaning], [f"{out}.{value}"])]
        return [*nodes, helper.make_node("Concat", [node.output[0] for node in nodes], [out], axis=-1)]

    def _dequantized_weights(self, node: NodeProto, factors: Factors) -> list[NodeProto]:
        """Store weights, per output unit, and bias; make the nodes that say what they mean."""
        out, by_rows = node.output[0], any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        weights = self._values(node.input[1])
        units = weights.copy() if by_rows else weights.T.copy()
        if factors.words is not None:
            peaks = self._peaks(factors.words.input[0])
            units[:, : len(peaks)] *= peaks
        scales = row_scales(units)
        nodes = []
        if len(node.input) > 2:
            bias = self._values(node.input[2])
            step = np.float32(factors.range.step)
            scales = np.maximum(scales, np.abs(bias) / (step * LARGEST_BIAS))
            summed = scales * step
            nodes.append(self._dequantized(f"{out}.bias", np.rint(bias / summed).astype(np.int32), summed, 0))
        rows = np.rint(units / scales[:, None]).astype(np.int8)
        stored = rows if by_rows else np.ascontiguousarray(rows.T)
        return [*nodes, self._dequantized(f"{out}.weights", stored, scales, 0 if by_rows else 1)]

    def _dequantized(self, out: str, values: NDArray[Any], scales: Float32, axis: int) -> NodeProto:
        stored, scaled = self._store(out, values), self._store(f"{out}.scales", scales.astype(np.float32))
        # Zero is the default, but without it the product is not fused.
        zeros = self._store(f"{out}.zeros", np.zeros(len(scales), values.dtype))
        return helper.make_node("DequantizeLinear", [stored, scaled, zeros], [out], axis=axis)

    def _meaning(self, known: Range) -> tuple[str, str]:
        """Store what uint8 means: its step and its zero point."""
        name = f"{known.step:g}"
        return (self._store(f"{name}.step", np.float32(known.step)),
                self._store(f"{name}.{known.zero_point}", np.uint8(known.zero_point)))  # fmt: skip

    def _peaks(self, table: str) -> Float32:
        """Return the largest size of each dimension of a table."""
        peaks: Float32 = np.maximum(np.abs(self._values(table)).max(axis=0), np.float32(SMALLEST_PEAK))
        return peaks

    def _values(self, name: str) -> Float32:
        values: Float32 = numpy_helper.to_array(self._weights[name]).astype(np.float32)
        return values

    def _store(self, name: str, value: NDArray[Any] | np.generic) -> str:
        stored = f"{name}.bounded"
        self.tensors[stored] = numpy_helper.from_array(np.asarray(value), stored)
        return stored
