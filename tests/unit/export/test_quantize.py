"""int8 weights, float16 storage, and signatures read from graphs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.quantize import quantize, quantize_rows
from export.signature import read_graph
from export.storage import halve
from service.bundle import Tensor

pytestmark = pytest.mark.torch


def product_graph(weight: np.ndarray[tuple[int, int], np.dtype[np.float32]], axis: str = "row") -> onnx.ModelProto:
    """Make a graph that multiplies `x` `[row, in]` by a constant matrix."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [axis, weight.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [axis, weight.shape[1]])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [numpy_helper.from_array(weight, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def weights(rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Make random weights."""
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


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
    quantize(model, products=True)

    assert ["MatMulInteger"] == [node.op_type for node in model.graph.node if "MatMul" in node.op_type]
    assert {TensorProto.INT8} == {t.data_type for t in model.graph.initializer if len(t.dims) == 2}


def test_encoder_keeps_float_products_in_half_the_space() -> None:
    """Where products are not to be quantized they are float, with weights stored as float16."""
    model = product_graph(weights(64, 128))
    quantize(model, products=False)

    assert ["Cast", "MatMul"] == [node.op_type for node in model.graph.node]
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
