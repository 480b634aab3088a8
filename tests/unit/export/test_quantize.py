"""int8 weights, float16 storage, and signatures read from graphs."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.quantize import quantize, quantize_rows
from export.signature import read_graph
from export.storage import halve
from service.bundle import Tensor

Float32 = NDArray[np.float32]

pytestmark = pytest.mark.torch


def product_graph(weight: Float32, axis: str = "row", operator: str = "MatMul") -> onnx.ModelProto:
    """Make a graph that multiplies `x` `[row, in]` by a constant matrix, or does something else with both."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [axis, weight.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [axis, weight.shape[1]])
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])], "g", [x], [y], [numpy_helper.from_array(weight, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def weights(rows: int, columns: int) -> Float32:
    """Make random weights."""
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def run(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> Float32:
    """Return the one output of a graph."""
    (output,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(output)


def test_rows_are_quantized_to_half_a_step() -> None:
    """Every weight comes back within half a step of its row; a row of zeros stays one."""
    matrix = weights(5, 40) * np.array([[1], [100], [0.001], [0], [1]], np.float32)
    rows, scales = quantize_rows(matrix)

    assert np.int8 == rows.dtype
    assert [127, 127, 127, 0, 127] == np.abs(rows.astype(int)).max(axis=1).tolist()
    assert (np.abs(rows * scales[:, None] - matrix) <= 0.501 * scales[:, None]).all()


def test_products_become_integer_products() -> None:
    """The float product is gone, and its matrix takes a quarter of the space."""
    model = product_graph(weights(64, 128))
    quantize(model)

    assert ["MatMulInteger"] == [node.op_type for node in model.graph.node if "MatMul" in node.op_type]
    assert {TensorProto.INT8} == {t.data_type for t in model.graph.initializer if len(t.dims) == 2}


def test_products_of_bounded_values_have_one_scale() -> None:
    """Values known to lie in [-1, 1] are quantized without being measured; the product is as close as int8 is."""
    weight = weights(64, 128)
    model = product_graph(weight)
    quantize(model, bounded={"x"})
    values = np.random.default_rng(1).uniform(-1, 1, (5, 64)).astype(np.float32)
    product = run(model, {"x": values})

    assert ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"] == [n.op_type for n in model.graph.node]
    assert np.abs(product - values @ weight).max() < 0.02 * np.abs(values @ weight).max()


def embedded_product_graph(table: Float32, weight: Float32, bias: Float32) -> onnx.ModelProto:
    """Make a graph that multiplies words of a table, side by side with `x`, by a constant matrix, and adds a bias."""
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["row"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["row", weight.shape[1] - table.shape[1]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["row", weight.shape[0]])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Concat", ["words", "x"], ["both"], axis=-1),
        helper.make_node("Gemm", ["both", "w", "b"], ["y"], transB=1),
    ]
    constants = {"table": table, "w": weight, "b": bias}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [ids, x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_words_are_stored_as_their_product_reads_them() -> None:
    """A table of any size of values is stored as bytes, and biases much larger than weights are kept."""
    generator = np.random.default_rng(2)
    table = (generator.standard_normal((200, 32)) * np.linspace(0.1, 50, 32)).astype(np.float32)
    weight = generator.standard_normal((128, 64)).astype(np.float32)
    weight[7] = 0
    bias = 100 * generator.standard_normal(128).astype(np.float32)
    feeds = {"ids": np.array([3, 0, 199]), "x": generator.uniform(-1, 1, (3, 32)).astype(np.float32)}
    model = embedded_product_graph(table, weight, bias)
    expected = run(model, feeds)
    quantize(model, bounded={"x"})
    product = run(model, feeds)

    assert {TensorProto.UINT8, TensorProto.INT8} == {t.data_type for t in model.graph.initializer if len(t.dims) == 2}
    assert np.abs(product - expected).max() < 0.02 * np.abs(expected - bias).max()


def test_values_without_bound_are_measured() -> None:
    """Beside words, a value that may be any size leaves each row its own scale."""
    model = embedded_product_graph(weights(200, 32), weights(128, 64), np.zeros(128, np.float32))
    quantize(model)

    assert ["MatMulInteger"] == [node.op_type for node in model.graph.node if "MatMul" in node.op_type]


def test_what_is_no_product_is_stored_in_half_the_space() -> None:
    """Other weights stay float, and are stored as float16."""
    model = product_graph(weights(64, 128), operator="Add")
    quantize(model)

    assert ["Cast", "Add"] == [node.op_type for node in model.graph.node]
    assert [TensorProto.FLOAT16] == [tensor.data_type for tensor in model.graph.initializer]


def test_float32_weights_are_not_rounded() -> None:
    """Weights that float16 cannot hold stay float32 unless rounding was asked for."""
    model = product_graph(weights(64, 128))
    halve(model)

    assert [TensorProto.FLOAT] == [tensor.data_type for tensor in model.graph.initializer]


def test_weights_too_large_for_float16_stay() -> None:
    """Nothing becomes infinite."""
    model = product_graph(weights(64, 128) * np.float32(1e6))
    halve(model, exactly=False)

    assert [TensorProto.FLOAT] == [tensor.data_type for tensor in model.graph.initializer]


def test_signature_is_read_from_the_graph() -> None:
    """Inputs and outputs with element type and axes; an axis of an unknown name is refused."""
    graph = read_graph(product_graph(weights(3, 2)), "g.onnx")

    assert (Tensor("x", "float32", ("row", 3)),) == graph.inputs
    assert (Tensor("y", "float32", ("row", 2)),) == graph.outputs
    with pytest.raises(ValueError, match="axis 0 of x is 'batch', not one of"):
        read_graph(product_graph(weights(3, 2), axis="batch"), "g.onnx")
