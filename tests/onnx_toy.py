"""The reversing model of tests/fakes.py as two real ONNX graphs in a bundle on disk, made without torch; and one more.

The mixing model has all that a bundle can have: memory, state, a cache and attention. Its numbers are whole, so that
they are the same however they are summed.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from service import bundle
from tests.fakes import END_ID, CachingModel, manifest

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def write_bundle(
    repository: Path,
    encoder: ModelProto | None = None,
    decoder: ModelProto | None = None,
    described: bundle.Manifest | None = None,
) -> Path:
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
    described = msgspec.structs.replace(described or manifest(), files=files)
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


def write_mixing_bundle(repository: Path) -> Path:
    """Write the mixing model as the bundle `toy/1`, and return its folder."""
    return write_bundle(repository, None, mixing_graph(), CachingModel(END_ID).manifest)


def mixing_graph() -> ModelProto:
    """Mix source, tokens in the cache, and a state that every token changes, into ids and what they cost.

    The best id is 4 + mix % 90, or the end symbol for every 11th mix; the next ones follow it, each less probable.
    """
    nodes = [
        _node("Cast token_ids -> token", to=FLOAT),
        _node("Mul position prime -> far"), _node("Unsqueeze token last -> deep_token"),
        _node("Add far deep_token -> sum"), _node("Mod sum modulus -> next_position", fmod=1),
        _node("Shape tokens -> capacity", start=2, end=3), _node("Squeeze capacity -> columns_end"),
        _node("Range none columns_end step -> columns"), _node("Unsqueeze lengths last -> ages"),
        _node("Equal columns ages -> here"), _node("LessOrEqual columns ages -> past"),
        _node("Unsqueeze here around -> cache_here"), _node("Unsqueeze deep_token around -> cache_token"),
        _node("Where cache_here cache_token tokens -> next_tokens"),
        _node("Squeeze next_tokens around -> flat"), _node("Cast past -> seen", to=FLOAT),
        _node("Mul flat seen -> seen_tokens"), _node("Cast columns -> float_columns", to=FLOAT),
        _node("Add float_columns one -> weights"), _node("Mul seen_tokens weights -> weighted"),
        _node("ReduceSum weighted last -> history", keepdims=1),
        _node("Shape states -> groups", start=0, end=1), _node("Shape token_ids -> rows"),
        _node("Div rows groups -> group_rows"), _node("Squeeze rows -> rows_end"),
        _node("Range none rows_end step -> row"), _node("Div row group_rows -> group"),
        _node("Gather states group -> source"), _node("Squeeze source last -> words"),
        _node("Shape words -> width", start=1, end=2), _node("Squeeze width -> width_end"),
        _node("Range none width_end step -> places"), _node("Cast places -> float_places", to=FLOAT),
        _node("Add float_places one -> place_weights"), _node("Mul words place_weights -> weighed_words"),
        _node("ReduceSum weighed_words last -> source_sum", keepdims=1),
        _node("Div weighed_words source_sum -> attention"),
        _node("Sum history source_sum next_position -> mix"), _node("Cast mix -> whole", to=INT),
        _node("Squeeze k -> k_end"), _node("Range none k_end step -> ranks"),
        _node("Add whole ranks -> mixes"), _node("Mod mixes ninety -> words_chosen"),
        _node("Add words_chosen four -> named"), _node("Mod mixes eleven -> rest"),
        _node("Equal rest none -> ends"), _node("Where ends three named -> ids"),
        _node("Mod whole seven -> base"), _node("Add base ranks -> cost"), _node("Cast cost -> float_cost", to=FLOAT),
        _node("Mul float_cost half -> log_probs"),
    ]  # fmt: skip
    described = CachingModel(END_ID).manifest.decoder_step
    inputs = [_value(t.name, FLOAT if t.dtype == "float32" else INT, *t.axes) for t in described.inputs]
    outputs = [_value(t.name, FLOAT if t.dtype == "float32" else INT, *t.axes) for t in described.outputs]
    floats = {"prime": 31.0, "modulus": 1009.0, "one": 1.0, "half": -0.5}
    whole = {"none": 0, "step": 1, "ninety": 90, "four": 4, "eleven": 11, "three": 3, "seven": 7}
    constants = {name: np.array(value, np.float32) for name, value in floats.items()}
    constants |= {name: np.array(value, np.int64) for name, value in whole.items()}
    return _model(nodes, inputs, outputs, last=np.array([-1]), around=np.array([1, -1]), **constants)


def _node(text: str, **attributes: Any) -> NodeProto:
    operator, *inputs, _, output = text.split()
    return helper.make_node(operator, inputs, [output], **attributes)


def _value(name: str, kind: int, *axes: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, axes)


def _model(
    nodes: list[NodeProto], inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], **constants: object
) -> ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
