"""What an ONNX file may not hold, found without running it: other files, strange operators, sizes it does not have.

The runtime would read what a tensor's `external_data` names, wherever that lies. So the file is walked here as protobuf
lays it out, https://protobuf.dev/programming-guides/encoding, by the field numbers of onnx.proto.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of operators that ONNX Runtime has by itself."""
MAX_DEPTH = 60
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}

PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "opset": {},
}
"""Which fields of a message hold which other messages; what is not here is passed over."""
USED_DOMAIN = {"node": 7, "opset": 1}
DEFINED_DOMAIN = {"function": 10}
TENSOR_DIMS, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 1, 13, 14

Value = int | memoryview


@dataclass(slots=True)
class Found:
    """What a walk finds: domains of operators that are used, and of functions that the file itself defines."""

    used: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)


def fault(data: bytes) -> str | None:
    """Return why an ONNX file is refused; None where nothing speaks against giving it to the runtime."""
    found = Found()
    try:
        _walk("model", memoryview(data), found, 0)
    except ValueError as error:
        return str(error)
    if strange := sorted(found.used - found.defined - DOMAINS):
        return f"uses operators of {strange[0]!r}, which only a library of its own could bring; none is ever loaded"
    return None


def _walk(kind: str, message: memoryview, found: Found, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"holds graphs within graphs, more than {MAX_DEPTH} deep")
    if kind in {"tensor", "sparse"}:
        _check_tensor(kind, message)
        return
    for number, value in _fields(message):
        if isinstance(value, int):
            continue
        if number == USED_DOMAIN.get(kind):
            found.used.add(bytes(value).decode(errors="replace"))
        elif number == DEFINED_DOMAIN.get(kind):
            found.defined.add(bytes(value).decode(errors="replace"))
        elif part := PARTS[kind].get(number):
            _walk(part, value, found, depth + 1)


def _check_tensor(kind: str, message: memoryview) -> None:
    if kind == "sparse":
        raise ValueError("holds a sparse tensor, which could unfold to any size")
    dims: list[int] = []
    for number, value in _fields(message):
        if number == TENSOR_EXTERNAL_DATA or (number == TENSOR_DATA_LOCATION and value != 0):
            raise ValueError("keeps a tensor in another file; all data must lie in the graph's own")
        if number == TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    if math.prod(dims) > 2 * len(message) + 1:  # the smallest element has four bits; a negative size is a huge one
        raise ValueError(f"declares a tensor of shape {dims[:8]} in {len(message)} bytes")


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the number and value of each field."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in WIDTHS:
            size = WIDTHS[kind]
        else:
            raise ValueError("is no protobuf message")
        if at + size > len(message):
            raise ValueError("is cut off")
        yield number, message[at : at + size]
        at += size


def _packed(values: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(values):
        value, at = _varint(values, at)
        found.append(value)
    return found


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that starts here, and where the next begins."""
    value = shift = 0
    while shift < 70:
        if at >= len(message):
            raise ValueError("is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("is no protobuf message")
