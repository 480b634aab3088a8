"""What ranges the values of a graph have, found by running it: so int8 needs no look at a row while it is served.

Each sentence runs by itself, through the encoder and then step by step, each step reading what the last one chose. A
range belongs to a value for good, so a row's result never depends on its neighbours; what lies outside is cut off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.bounded_products import Range
from export.graphs import STATE_PREFIX, Graphs
from export.storage import is_matrix

Arrays = dict[str, NDArray[Any]]
STEPS = 24
"""Tokens that each sentence is decoded to."""
LONGEST = 40


class Observed:
    """A float graph that also says what its products with constant matrices read."""

    def __init__(self, model: onnx.ModelProto) -> None:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = [output.name for output in model.graph.output]
        products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
        read = {node.input[0] for node in products if is_matrix(weights.get(node.input[1]))}
        self._watched = sorted(read.difference(self.outputs))
        watching = onnx.ModelProto()
        watching.CopyFrom(model)
        watching.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._watched
        )
        options = ort.SessionOptions()
        options.log_severity_level = 3  # It warns of caches that are not written in place.
        self._session = ort.InferenceSession(watching.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._low: dict[str, float] = {}
        self._high: dict[str, float] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the graph; return its outputs by name, and take note of the rest."""
        found = self._session.run([*self.outputs, *self._watched], dict(feeds))
        for name, values in zip(self._watched, found[len(self.outputs) :], strict=True):
            self._low[name] = min(self._low.get(name, 0.0), float(values.min()))
            self._high[name] = max(self._high.get(name, 0.0), float(values.max()))
        return dict(zip(self.outputs, found, strict=False))

    def ranges(self) -> dict[str, Range]:
        """Return the range of everything that was read."""
        return {name: Range.between(low, self._high[name]) for name, low in self._low.items()}


def calibrate(graphs: Graphs, sources: Sequence[Sequence[int]], start_id: int) -> tuple[dict[str, Range], ...]:
    """Return the ranges in the encoder and in the step of a model with caches, over these sources."""
    encoder, step = Observed(graphs.encoder), Observed(graphs.decoder_step)
    names = graphs.signature
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graphs.decoder_step.graph.input}
    caches = {
        name: np.zeros((1, shapes[name][1].dim_value, STEPS, shapes[name][3].dim_value), np.float32)
        for name in names.state
    }
    for source in sources:
        encoded = encoder.run({"source_ids": np.array([source]), "source_lengths": np.array([len(source)])})
        feeds = {**encoded, **caches, "token_ids": np.array([start_id]), "k": np.ones(1, np.int64)}
        for length in range(STEPS):
            stepped = step.run(feeds | {"lengths": np.array([length])})
            feeds |= {name: stepped[STATE_PREFIX + name] for name in names.state}
            feeds["token_ids"] = stepped["ids"][:, 0]
    return encoder.ranges(), step.ranges()


def nonsense(words: Sequence[int], count: int) -> list[list[int]]:
    """Draw sentences of random words, of all lengths up to `LONGEST`: they reach farther than what people write."""
    chance = np.random.default_rng(0)
    return [chance.choice(words, chance.integers(1, LONGEST + 1)).tolist() for _ in range(count)]
