"""float16 graphs: which tensors are of which kind, what is rounded, and what is refused."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graphs, half
from export.models.attention_rnn import AttentionRnnConfig
from tests.export.tiny import random_model

pytestmark = pytest.mark.torch

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
CONFIG = AttentionRnnConfig(50, 60, "lstm", "dot", 8, 12, 1, 1, input_feeding=False)


@pytest.fixture(scope="module")
def narrowed() -> graphs.Graphs:
    """Trace a small LSTM and narrow its graphs."""
    traced = graphs.trace(random_model(CONFIG))
    half.narrow(traced)
    return traced


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of a graph's inputs and outputs."""
    return {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}


def test_what_is_carried_is_float16_but_for_the_cell(narrowed: graphs.Graphs) -> None:
    """Memory and hidden state take half the space; what sums up, and what the engine reads, stays float32."""
    encoder, step = kinds(narrowed.encoder), kinds(narrowed.decoder_step)

    assert {"states": HALF, "hidden": HALF, "cell": FLOAT} == {
        name: encoder[name] for name in ("states", "hidden", "cell")
    }
    assert {"states": HALF, "next_hidden": HALF, "next_cell": FLOAT, "log_probs": FLOAT, "attention": FLOAT} == {
        name: step[name] for name in ("states", "next_hidden", "next_cell", "log_probs", "attention")
    }


def test_products_are_float16_and_sums_float32(narrowed: graphs.Graphs) -> None:
    """Every product reads float16 weights, every softmax and TopK float32 values."""
    described = onnx.shape_inference.infer_shapes(narrowed.decoder_step).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*described.value_info, *described.output)}
    pairs = {(node.op_type, found[node.output[0]]) for node in described.node if node.output[0] in found}

    assert {("Gemm", HALF), ("MatMul", HALF), ("Softmax", FLOAT), ("TopK", FLOAT)} <= pairs
    assert not {("Gemm", FLOAT), ("MatMul", FLOAT), ("Softmax", HALF), ("TopK", HALF)} & pairs


def chain() -> onnx.ModelProto:
    """Return a float16 graph whose product overflows between two nodes, and not behind them."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Mul", ["product", "tiny"], ["y"])]
    constants = [
        numpy_helper.from_array(np.full((4, 4), 300, np.float16), "w"),
        numpy_helper.from_array(np.array(1e-3, np.float16), "tiny"),
    ]
    reads, writes = ([helper.make_tensor_value_info(name, HALF, [2, 4])] for name in ("x", "y"))
    graph = helper.make_graph(nodes, "chain", reads, writes, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_rounding_is_that_of_a_device() -> None:
    """An overflow between two nodes, which ONNX Runtime's CPU provider never sees, shows in the graph to prove."""
    model = chain()
    feeds = {"x": np.full((2, 4), 300, np.float16)}
    results = []
    for graph in (model, half.rounding(model)):
        session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(["y"], feeds)[0])

    assert np.isfinite(results[0]).all()
    assert np.isposinf(results[1]).all()


def test_values_are_cast_once(narrowed: graphs.Graphs) -> None:
    """However many nodes read a value in the other kind, one Cast serves them all."""
    casts = Counter(node.input[0] for node in narrowed.decoder_step.graph.node if node.op_type == "Cast")

    assert casts
    assert 1 == max(casts.values())


def test_masks_become_what_float16_knows() -> None:
    """A constant that stands for a word that must not count becomes the largest such number that stays finite."""
    logits = helper.make_node("Gemm", ["x", "w", "bias"], ["y"])
    constants = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array([0.5, -1e9, 1e6], np.float32), "bias"),
    ]
    reads, writes = ([helper.make_tensor_value_info(name, FLOAT, [1, 3])] for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph([logits], "masked", reads, writes, constants),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    half.narrow(graphs.Graphs(graphs.Signature((), (), None), model, model))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias.float16")

    np.testing.assert_array_equal(np.array([0.5, -3e4, np.inf], np.float16), numpy_helper.to_array(bias))
