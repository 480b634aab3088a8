"""The reversing model of tests/fakes.py as two real ONNX graphs in a bundle on disk, made without torch."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from service import bundle
from tests.fakes import manifest

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def write_bundle(repository: Path, encoder: ModelProto | None = None, decoder: ModelProto | None = None) -> Path:
    """Write the toy bundle `toy/1`, or one with other graphs, and return its folder."""
    folder = repository / "toy" / "1"
    folder.mkdir(parents=True)
    contents = {
        "encoder.onnx": (encoder or encoder_graph()).SerializeToString(),
        "decoder_step.onnx": (decoder or decoder_graph()).SerializeToString(),
        "source.spm": b"source",
        "target.spm": b"target",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    described = msgspec.structs.replace(manifest(), files=files)
    (folder / bundle.MANIFEST).write_text(described.to_json(), encoding="utf-8")
    return folder


def encoder_graph() -> ModelProto:
    """States are the ids, the position is the length."""
    nodes = [
        helper.make_node("Cast", ["source_ids"], ["ids"], to=FLOAT),
        helper.make_node("Unsqueeze", ["ids", "last"], ["states"]),
        helper.make_node("Cast", ["source_lengths"], ["lengths"], to=FLOAT),
        helper.make_node("Unsqueeze", ["lengths", "last"], ["position"]),
    ]
    inputs = [_value("source_ids", INT, "row", "source"), _value("source_lengths", INT, "row")]
    outputs = [_value("states", FLOAT, "row", "source", 1), _value("position", FLOAT, "row", 1)]
    return _model(nodes, inputs, outputs, last=np.array([-1]))


def decoder_graph(state: str = "position") -> ModelProto:
    """Give the token before the position, and the end symbol at none; `state` renames the state that it reads."""
    nodes = [
        helper.make_node("Sub", [state, "one"], ["next_position"]),
        helper.make_node("Max", ["next_position", "zero"], ["at"]),
        helper.make_node("Cast", ["at"], ["index"], to=INT),
        helper.make_node("Unsqueeze", ["index", "last"], ["deep_index"]),
        helper.make_node("GatherElements", ["states", "deep_index"], ["found"], axis=1),
        helper.make_node("Squeeze", ["found", "last"], ["token"]),
        helper.make_node("Greater", [state, "zero"], ["running"]),
        helper.make_node("Where", ["running", "token", "end"], ["chosen"]),
        helper.make_node("Cast", ["chosen"], ["best"], to=INT),
        helper.make_node("Concat", ["single", "k"], ["repeats"], axis=0),
        helper.make_node("Tile", ["best", "repeats"], ["ids"]),
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("Expand", ["half", "shape"], ["log_probs"]),
        helper.make_node("Shape", ["states"], ["width"], start=1, end=2),
        helper.make_node("Squeeze", ["index", "last"], ["flat_index"]),
        helper.make_node("OneHot", ["flat_index", "width", "off_on"], ["attention"]),
    ]
    inputs = [
        _value("token_ids", INT, "row"), _value("k", INT, 1), _value("states", FLOAT, "row", "source", 1),
        _value(state, FLOAT, "row", 1),
    ]  # fmt: skip
    outputs = [
        _value("log_probs", FLOAT, "row", "candidate"), _value("ids", INT, "row", "candidate"),
        _value("next_position", FLOAT, "row", 1), _value("attention", FLOAT, "row", "source"),
    ]  # fmt: skip
    single = np.array([1])
    floats = {"one": 1.0, "zero": 0.0, "end": 3.0, "half": -0.5}
    constants = {name: np.array(value, np.float32) for name, value in floats.items()}
    off_on = np.array([0, 1], np.float32)
    return _model(nodes, inputs, outputs, last=np.array([-1]), single=single, off_on=off_on, **constants)


def _value(name: str, kind: int, *axes: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, axes)


def _model(
    nodes: list[NodeProto], inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], **constants: object
) -> ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
