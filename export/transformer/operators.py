"""Operators of ONNX and of ONNX Runtime that the tracer does not know: what each computes, and its node."""

from typing import Any, Protocol

import torch
from onnx import TensorProto
from torch import Tensor
from torch.onnx import symbolic_helper

TRACED_DOMAIN = "dragoman"
"""Of ONNX's operators that the tracer does not know, until the graph is traced."""
CONTRIB_DOMAIN = "com.microsoft"
"""Of ONNX Runtime's own."""


class TracedValue(Protocol):
    """A tensor in the tracer's graph."""

    def type(self) -> object:
        """Return its element type and shape."""

    def setType(self, to: object) -> object:  # noqa: N802 # The tracer's name.
        """Say what the tracer cannot infer; return the value itself."""


class TracedGraph(Protocol):
    """What the tracer hands to `symbolic`."""

    def op(self, operator: str, *inputs: TracedValue, **attributes: float) -> Any:  # noqa: ANN401 # As many as there are.
        """Add a node and return its output, or a tuple of several."""


class WriteColumn(torch.autograd.Function):
    """Write one column per row into a cache, each at its row's own place.

    ONNX calls it TensorScatter, whose output may lie in its input's buffer.
    """

    @staticmethod
    def forward(_: object, cache: Tensor, column: Tensor, lengths: Tensor) -> Tensor:
        """Return `[row, head, target, size]` with `column` `[row, head, 1, size]` at `lengths` `[row]`."""
        place = lengths.reshape(-1, 1, 1, 1).expand_as(column)
        return cache.scatter(2, place, column)

    @staticmethod
    def symbolic(graph: TracedGraph, cache: TracedValue, column: TracedValue, lengths: TracedValue) -> object:
        """Return the node's output, of the cache's type."""
        return graph.op(f"{TRACED_DOMAIN}::TensorScatter", cache, column, lengths, axis_i=2).setType(cache.type())


class AttendToAll(torch.autograd.Function):
    """Attend from all positions to all: on the CPU, ONNX's Attention takes half as long as products and transpositions.

    Its bits do not change with the positions that are masked. Its mask is as high as there are queries.
    """

    @staticmethod
    def forward(_: object, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, heads: int) -> Tensor:
        """Return `[row, query, head · size]` of parts like it; `bias` is `[row, head or 1, query, key]`."""
        read, found, told = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (queries, keys, values))
        weights = torch.softmax(read @ found.transpose(2, 3) + bias, dim=-1)
        mixed: Tensor = (weights @ told).transpose(1, 2).flatten(2)
        return mixed

    @staticmethod
    def symbolic(graph: TracedGraph, queries: TracedValue, keys: TracedValue, values: TracedValue, bias: TracedValue,
                 heads: int) -> object:  # fmt: skip
        """Return the node's output, of the queries' type."""
        attended = graph.op(
            f"{TRACED_DOMAIN}::Attention", queries, keys, values, bias,
            q_num_heads_i=heads, kv_num_heads_i=heads, scale_f=1.0,
        )  # fmt: skip
        return attended.setType(queries.type())


class AttendToPast(torch.autograd.Function):
    """Write one column per row into its caches and attend to the row's own columns, however large the caches are.

    ONNX Runtime calls it GroupQueryAttention. Its caches may be written in place.
    """

    @staticmethod
    def forward(_: object, parts: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, heads: int
             ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return `[row, 1, head · size]` and both caches `[row, head, target, size]`, written at `lengths` `[row]`.

        `parts` `[row, 1, 3 · head · size]` are queries, keys and values side by side.
        """
        queries, *columns = torch.split(parts.reshape(-1, 3 * heads, 1, keys.shape[3]), heads, dim=1)
        place = lengths.reshape(-1, 1, 1, 1).expand_as(queries)
        written = [cache.scatter(2, place, column) for cache, column in zip((keys, values), columns, strict=True)]
        unseen = torch.arange(keys.shape[2]) > lengths.reshape(-1, 1, 1, 1)
        weights = torch.softmax((queries @ written[0].transpose(2, 3)).masked_fill(unseen, -torch.inf), dim=-1)
        return (weights @ written[1]).reshape(len(parts), 1, -1), *written

    @staticmethod
    def symbolic(graph: TracedGraph, parts: TracedValue, keys: TracedValue, values: TracedValue, lengths: TracedValue,
                 heads: int) -> object:  # fmt: skip
        """Return the node's outputs, the caches of their types."""
        capacity = graph.op("Cast", graph.op("Shape", keys, start_i=2, end_i=3), to_i=TensorProto.INT32)
        ages = graph.op("Cast", lengths, to_i=TensorProto.INT32)
        beside = symbolic_helper._optional_input_placeholder_tensor(graph)  # noqa: SLF001 # There is no other way.
        mixed, *written = graph.op(
            f"{CONTRIB_DOMAIN}::GroupQueryAttention", parts, beside, beside, keys, values, ages, capacity,
            outputs=3, num_heads_i=heads, kv_num_heads_i=heads, scale_f=1.0,
        )  # fmt: skip
        return mixed, *(cache.setType(keys.type()) for cache in written)
