"""Which values of a graph lie in [-1, 1] whatever it is fed, so that int8 needs no scale of their own for them."""

from collections.abc import Collection, Iterable

import onnx

from export.graphs import STATE_PREFIX

SQUASHING = frozenset({"Tanh", "Sigmoid", "Softmax"})
RECURRENT = frozenset({"LSTM", "GRU"})
MOVING = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice", "Gather", "Concat", "Identity"}
)
"""Operators that put their values elsewhere and change none."""


def bounded_values(graph: onnx.GraphProto, declared: Collection[str]) -> set[str]:
    """Return the names of the values that lie in [-1, 1], given inputs that are declared to do so.

    A state that is bounded as it is read is bounded as it is written. What recurrent operators put out is bounded, an
    LSTM's cells (its third output) are not. An average of bounded values is bounded: what Softmax makes of a row sums
    to one.
    """
    bounded = {*declared, *_moved_into(graph, {STATE_PREFIX + name for name in declared})}
    bounded |= {name for node in graph.node if node.op_type in RECURRENT for name in node.output[:2]}
    weights = {name for node in graph.node if node.op_type == "Softmax" for name in node.output}
    for node in graph.node:
        moves = node.op_type in MOVING and bounded.issuperset(_moved(node))
        averages = node.op_type == "MatMul" and node.input[0] in weights and node.input[1] in bounded
        if node.op_type in SQUASHING or moves or averages:
            bounded.update(node.output)
    return bounded


def _moved_into(graph: onnx.GraphProto, names: Iterable[str]) -> set[str]:
    """Return the values that, moved, become these."""
    producers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        node = producers.get(name)
        if node is not None and node.op_type in MOVING:
            waiting += _moved(node)
    return found


def _moved(node: onnx.NodeProto) -> list[str]:
    """Return the inputs that hold values; the others of a moving operator say where to."""
    return list(node.input if node.op_type == "Concat" else node.input[:1])
