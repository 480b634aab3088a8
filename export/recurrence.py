"""int8 LSTM layers, such that no row's result depends on its neighbours.

ONNX Runtime's DynamicQuantizeLSTM finds one activation scale over the whole batch at every step. Here that scale is
the same whatever the batch holds: guards stand before and behind the values of every row, constants that reach as far
as any value can. Those of the inputs are the ends of their range. Those of the states are two units whose gates are
open, so that after t steps they hold -tanh(t) and tanh(t), and no unit can hold more: a step adds at most 1 to a cell.
(Only by the last bit of tanh as it is computed, where all its gates are as open, which those of trained models never
are.) The guards' weights are zero, so they change nothing else, and they are cut off behind the layer.

There is no such operator for GRUs, which stay float.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.bounded_products import LARGEST, SMALLEST_PEAK, row_scales
from export.storage import is_matrix

Float32 = NDArray[np.float32]

DOMAIN = "com.microsoft"
GATES = 4
"""In, out, forget, cell: ONNX's order."""
OPEN = 20.0
"""Behind a sigmoid or tanh, this is 1."""
LOWEST_WORD, HIGHEST_WORD = -128, 127
"""A step of 1 between them holds every int8 exactly."""


class Inputs(NamedTuple):
    """What a layer reads, guards included: the nodes that make it, its name, and what a unit of each value means."""

    nodes: list[NodeProto]
    name: str
    units: Float32


class Weights(NamedTuple):
    """The names of stored int8 weights, and of the scales and zero points that say what they mean."""

    weights: str
    meaning: tuple[str, str]


class RecurrentLayers:
    """Makes the nodes that stand in for a float LSTM, and collects the tensors that they read."""

    def __init__(self, model: onnx.ModelProto, bounded: Collection[str]) -> None:
        """Take the graph, and the names of the values that lie in [-1, 1]."""
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._bounded = bounded
        self.tensors: list[TensorProto] = []

    def rewrite(self, node: NodeProto) -> list[NodeProto]:
        """Run an LSTM that starts from zero in integers; return nothing where its inputs have no known bound."""
        out = node.output[0]
        inputs = self._inputs(node.input[0], out)
        if inputs is None:
            return []
        weights, recurrent, bias = (self._values(name) for name in node.input[1:4])
        size = recurrent.shape[2]
        of_inputs = self._quantized(weights * inputs.units, f"{out}.weights")
        of_states = self._quantized(recurrent, f"{out}.recurrent")
        stored_bias, lengths = self._store(f"{out}.bias", guarded_bias(bias)), node.input[4]
        guarded = [f"{name}.guarded" for name in node.output]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        layer = helper.make_node(
            "DynamicQuantizeLSTM",
            [inputs.name, of_inputs.weights, of_states.weights, stored_bias, lengths, "", "", "",
             *of_inputs.meaning, *of_states.meaning],
            guarded, domain=DOMAIN, **(attributes | {"hidden_size": size + 2}),
        )  # fmt: skip
        bounds = [self._store(f"{out}.{index}", np.array([index])) for index in (1, size + 1, -1)]
        cuts = [helper.make_node("Slice", [wide, *bounds], [name])
                for wide, name in zip(guarded, node.output, strict=True)]  # fmt: skip
        return [*inputs.nodes, layer, *cuts]

    def _inputs(self, name: str, out: str) -> Inputs | None:
        """Put guards around words of a table or bounded values: `[time, row, size]` to `[time, row, size + 2]`."""
        words = self._producers.get(name)
        if words is not None and words.op_type == "Gather" and is_matrix(self._weights.get(words.input[0])):
            return self._words(words, out)
        if name not in self._bounded:
            return None
        nodes, read = [], name
        for guard, pads in ((-1, [0, 0, 1, 0, 0, 0]), (1, [0, 0, 0, 0, 0, 1])):
            where = self._store(f"{out}.pads{guard}", np.array(pads))
            value = self._store(f"{out}.pad{guard}", np.float32(guard))
            nodes.append(helper.make_node("Pad", [read, where, value], [f"{out}.padded{guard}"]))
            read = nodes[-1].output[0]
        return Inputs(nodes, read, np.ones(1, np.float32))

    def _words(self, words: NodeProto, out: str) -> Inputs:
        """Store a table as int8, each dimension divided by its largest value, between two columns of guards."""
        table = self._values(words.input[0])
        units = np.maximum(np.abs(table).max(axis=0), np.float32(SMALLEST_PEAK)) / np.float32(LARGEST)
        rows = np.pad(np.rint(table / units), ((0, 0), (1, 1)), constant_values=((0, 0), (LOWEST_WORD, HIGHEST_WORD)))
        stored = self._store(f"{out}.table", rows.astype(np.int8))
        gather = helper.make_node("Gather", [stored, words.input[1]], [f"{out}.int8"])
        cast = helper.make_node("Cast", [f"{out}.int8"], [f"{out}.words"], to=TensorProto.FLOAT)
        return Inputs([gather, cast], f"{out}.words", units)

    def _quantized(self, weights: Float32, name: str) -> Weights:
        """Store `[direction, gate · unit, in]` with the guards' zeros around; as int8 it is transposed."""
        directions, rows, columns = weights.shape
        around = [(0, 0), (0, 0), (1, 1), (1, 1)]
        wide = np.pad(weights.reshape(directions, GATES, rows // GATES, columns), around)
        wide = wide.reshape(directions, -1, columns + 2)
        scales = row_scales(wide)
        rounded = np.rint(wide / scales[..., None]).astype(np.int8).transpose(0, 2, 1)
        meaning = (self._store(f"{name}.scales", scales.astype(np.float32)),
                   self._store(f"{name}.zeros", np.zeros(scales.shape, np.int8)))  # fmt: skip
        return Weights(self._store(name, np.ascontiguousarray(rounded)), meaning)

    def _values(self, name: str) -> Float32:
        values: Float32 = numpy_helper.to_array(self._weights[name]).astype(np.float32)
        return values

    def _store(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def guarded_bias(bias: Float32) -> Float32:
    """Put the guards' bias around that of the units: `[direction, 2 · gate · unit]` with two units more.

    A guard's gates are open, for good; what it adds to its cell is -1 or 1.
    """
    units = bias.reshape(len(bias), 2, GATES, -1)
    wide = np.pad(units, ((0, 0), (0, 0), (0, 0), (1, 1)))
    wide[:, 0, :, [0, -1]] = OPEN
    wide[:, 0, -1, 0] = -OPEN
    return wide.reshape(len(bias), -1)
