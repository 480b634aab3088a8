"""float16 graphs: weights, products and what is carried from step to step in sixteen bits, the rest in thirty-two.

Products read most of what a step reads, so they are float16. In float32 stay sums over many values, exponentials and
what chooses words: `WIDE` lists the operators. An LSTM's cell, which adds up over all steps, stays float32 from end to
end, and so do the outputs that the engine reads. LayerNormalization computes its statistics in float32 by its own
definition (its attribute `stash_type`).
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.graphs import STATE_PREFIX, Graphs
from export.storage import halve
from service.bundle import Bundle

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
WIDE = frozenset({
    "Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "TopK", "CumSum", "LSTM", "GRU", "ReduceMax",
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "RMSNormalization",
    "Attention",
})  # fmt: skip
"""Operators that compute in float32."""
NARROW = frozenset({"MatMul", "Gemm", "Gather", "TensorScatter"})
"""Operators that compute in float16. All others follow what they are given and what they are made for."""
READ_BY_ENGINE = ("log_probs", "attention")
CELL = "cell"
MASKED, HALF_MASKED = -1e8, -3e4
"""What lies below the one stands for a word or a position that must not count; float16 knows it as the other."""


def narrow(graphs: Graphs) -> None:
    """Turn both graphs into float16 ones."""
    kept = {CELL, STATE_PREFIX + CELL, *READ_BY_ENGINE}
    for model in (graphs.encoder, graphs.decoder_step):
        _Rewriter(model, kept).rewrite()
        halve(model, exactly=False)
        onnx.checker.check_model(model, full_check=True)


class Value(NamedTuple):
    """A float value of the new graph: its name, and FLOAT or HALF."""

    name: str
    kind: int


class _Rewriter:
    """Goes through a graph from its inputs to its outputs and decides how each node computes."""

    def __init__(self, model: onnx.ModelProto, kept: Collection[str]) -> None:
        """Take the graph, and the names of the inputs and outputs that stay float32."""
        self._graph = model.graph
        self._kept = kept
        self._floats = _values_of(model, FLOAT)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
        self._kinds: dict[str, int] = {}
        self._made: dict[Value, str] = {}
        self._nodes: list[NodeProto] = []
        self._outputs = {output.name: self._outer_kind(output.name) for output in model.graph.output
                         if output.name in self._floats}  # fmt: skip
        self._wide = self._wide_by_purpose()

    def rewrite(self) -> None:
        """Replace the graph's nodes and constants, and retype its inputs and outputs."""
        for entry in (*self._graph.input, *self._graph.output):
            if entry.name in self._floats:
                entry.type.tensor_type.elem_type = self._outer_kind(entry.name)
        self._kinds = {entry.name: self._outer_kind(entry.name) for entry in self._graph.input
                       if entry.name in self._floats}  # fmt: skip
        for node in list(self._graph.node):
            if node.op_type == "Constant" and node.output[0] in self._floats:
                self._store(node)
            else:
                self._take(node)
        used = {name for node in self._nodes for name in node.input}
        tensors = [tensor for tensor in self._graph.initializer if tensor.name in used]
        for repeated, fresh in ((self._graph.node, self._nodes), (self._graph.initializer, tensors)):
            del repeated[:]
            repeated.extend(fresh)  # type: ignore[arg-type] # Each of its own kind.
        del self._graph.value_info[:]

    def _outer_kind(self, name: str) -> int:
        return FLOAT if name in self._kept else HALF

    def _wide_by_purpose(self) -> set[str]:
        """Return the outputs of nodes that follow, where all who read them compute in float32.

        So scores become float32 once, before a mask is added and not behind it, and logits before they are searched.
        """
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        wide: set[str] = set()
        for node in reversed(self._graph.node):
            floats = [name for name in node.output if name in self._floats]
            purposes = [reader.op_type in WIDE or (reader.op_type not in NARROW and reader.output[0] in wide)
                        for name in floats for reader in readers[name]]  # fmt: skip
            purposes += [self._outputs[name] == FLOAT for name in floats if name in self._outputs]
            if purposes and all(purposes):
                wide.update(floats)
            for name in node.input:
                readers[name].append(node)
        return wide

    def _store(self, node: NodeProto) -> None:
        """Make a constant node one of the graph's constants."""
        tensor = TensorProto()
        tensor.CopyFrom(next(attribute.t for attribute in node.attribute if attribute.name == "value"))
        tensor.name = node.output[0]
        self._constants[tensor.name] = tensor
        self._graph.initializer.append(tensor)

    def _take(self, node: NodeProto) -> None:
        """Add a node, with its float inputs as it computes."""
        written = [name for name in node.output if name in self._floats]
        read = [name for name in node.input if name in self._floats]
        if node.op_type == "Cast" and written and read:  # From float32 to float32: what it did is now decided here.
            node.op_type = "Identity"
            del node.attribute[:]
        kind = self._kind_of(node, read)
        node.input[:] = [self._as(name, kind) if name in self._floats else name for name in node.input]
        self._nodes.append(node)
        for name in written:
            self._kinds[name] = kind
            if self._outputs.get(name, kind) != kind:
                self._give_out(node, name, kind)

    def _give_out(self, node: NodeProto, name: str, kind: int) -> None:
        """Let the graph's output be of its own kind, and who reads it within the graph have it as it was computed."""
        inner = f"{name}.inner"
        node.output[list(node.output).index(name)] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [name], to=self._outputs[name]))
        self._kinds[name] = self._outputs[name]
        self._made[Value(name, kind)] = inner

    def _kind_of(self, node: NodeProto, read: list[str]) -> int:
        """Return how a node computes: as its operator must, as its readers do, or as wide as what it reads."""
        if node.op_type in NARROW:
            return HALF
        if not read or node.op_type in WIDE or any(name in self._wide for name in node.output):
            return FLOAT  # Without a float input: made of integers or truth values, such as a mask.
        kinds = {self._kinds[name] for name in read if name not in self._constants}
        return HALF if kinds == {HALF} else FLOAT

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a value in this kind; cast where it is of the other, once for all who ask."""
        if name in self._constants:
            return name if kind == FLOAT else self._half_constant(name)
        if self._kinds[name] == kind:
            return name
        wanted = Value(name, kind)
        if wanted not in self._made:
            self._made[wanted] = f"{name}.float{32 if kind == FLOAT else 16}"
            self._nodes.append(helper.make_node("Cast", [name], [self._made[wanted]], to=kind))
        return self._made[wanted]

    def _half_constant(self, name: str) -> str:
        """Round a constant. What is too large becomes infinite, and the proof says what comes of it."""
        wanted = Value(name, HALF)
        if wanted not in self._made:
            self._made[wanted] = f"{name}.float16"
            values = numpy_helper.to_array(self._constants[name])
            masked = np.where((values <= MASKED) & np.isfinite(values), HALF_MASKED, values)
            with np.errstate(over="ignore"):
                rounded = masked.astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(rounded, self._made[wanted]))
        return self._made[wanted]


def rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that rounds to float16 wherever this one says so, on the CPU too.

    There ONNX Runtime computes float16 nodes in float32 and leaves out the rounding between them: nothing would
    overflow. Here it is written out, node by node, so that the CPU gives what a device does.
    """
    fresh = onnx.ModelProto()
    fresh.CopyFrom(model)
    halves = _values_of(fresh, HALF)
    nodes: list[NodeProto] = []
    widened: set[str] = set()
    for node in model.graph.node:
        read = halves.intersection(node.input)
        if node.op_type in ("Cast", "TensorScatter") or not (read or halves.intersection(node.output)):
            nodes.append(node)
            continue
        nodes += [helper.make_node("Cast", [name], [f"{name}.wide"], to=FLOAT) for name in sorted(read - widened)]
        widened |= read
        wide = NodeProto()
        wide.CopyFrom(node)
        wide.input[:] = [f"{name}.wide" if name in halves else name for name in node.input]
        wide.output[:] = [f"{name}.exact" if name in halves else name for name in node.output]
        nodes.append(wide)
        nodes += [helper.make_node("Cast", [f"{name}.exact"], [name], to=HALF)
                  for name in node.output if name in halves]  # fmt: skip
    del fresh.graph.node[:]
    fresh.graph.node.extend(nodes)
    del fresh.graph.value_info[:]
    return fresh


def provable(made: Bundle) -> Bundle:
    """Return the bundle to prove on the CPU: of float16, with graphs that round; any other as it is."""
    if made.manifest.model.precision != "fp16":
        return made
    files = (made.manifest.encoder.file, made.manifest.decoder_step.file)
    graphs = {name: rounding(onnx.load_from_string(made.contents[name])).SerializeToString() for name in files}
    return dataclasses.replace(made, contents={**made.contents, **graphs})


def _values_of(model: onnx.ModelProto, kind: int) -> set[str]:
    """Return the names of all values of a kind, constants among them."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    described = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name for value in described if value.type.tensor_type.elem_type == kind}
    return found | {tensor.name for tensor in inferred.initializer if tensor.data_type == kind}
