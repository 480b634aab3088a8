"""Small ONNX graphs, written as bytes by hand: the serving set has no `onnx`.

Messages are laid out as https://protobuf.dev/programming-guides/encoding says, by the field numbers of onnx.proto.
"""

from collections.abc import Iterable
from typing import NamedTuple

IR_VERSION, OPSET = 10, 21
TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
VARINT, BYTES = 0, 2


class Value(NamedTuple):
    """An input or output: its name, its element type as numpy names it, and how many axes it has, all of any size."""

    name: str
    dtype: str
    axes: int


class Node(NamedTuple):
    """An operator of the standard domain, without attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str


def graph_bytes(nodes: Iterable[Node], inputs: Iterable[Value], outputs: Iterable[Value]) -> bytes:
    """Return an ONNX file with these nodes, in this order."""
    graph = b"".join(_part(1, _node(node)) for node in nodes) + _text(2, "rows")
    graph += b"".join(_part(11, _value(value)) for value in inputs)
    graph += b"".join(_part(12, _value(value)) for value in outputs)
    return _number(1, IR_VERSION) + _part(7, graph) + _part(8, _number(2, OPSET))


def _node(node: Node) -> bytes:
    return b"".join(_text(1, name) for name in node.inputs) + _text(2, node.output) + _text(4, node.operator)


def _value(value: Value) -> bytes:
    shape = b"".join(_part(1, b"") for _ in range(value.axes))
    tensor = _number(1, TYPES[value.dtype]) + _part(2, shape)
    return _text(1, value.name) + _part(2, _part(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _part(field, value.encode())


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(written + bytes([value]))
