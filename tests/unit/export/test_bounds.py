"""Which values of a graph are known to lie in [-1, 1]."""

import pytest
from onnx import TensorProto, helper

from export.bounds import bounded_values

pytestmark = pytest.mark.torch


def bounded(nodes: list[tuple[str, str, str]], declared: tuple[str, ...] = ()) -> set[str]:
    """Find the bounded values of a graph of (operator, inputs, output), inputs separated by spaces."""
    made = [helper.make_node(operator, inputs.split(), [output]) for operator, inputs, output in nodes]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return bounded_values(helper.make_graph(made, "g", [], [output]), declared)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Tanh", "x", "y")], {"y"}),
        ([("Tanh", "x", "a"), ("Reshape", "a shape", "y")], {"a", "y"}),
        ([("Tanh", "x", "a"), ("Sigmoid", "x", "b"), ("Concat", "a b", "y")], {"a", "b", "y"}),
        ([("Tanh", "x", "a"), ("Concat", "a x", "y")], {"a"}),
        ([("Tanh", "x", "a"), ("Add", "a a", "y")], {"a"}),
        ([("Softmax", "x", "w"), ("Tanh", "x", "a"), ("MatMul", "w a", "y")], {"w", "a", "y"}),
        ([("LSTM", "x", "y")], {"y"}),
        ([("Softmax", "x", "w"), ("MatMul", "w x", "y")], {"w"}),
        ([("Sigmoid", "x", "w"), ("Tanh", "x", "a"), ("MatMul", "w a", "y")], {"w", "a"}),
    ],
)
def test_bounds_follow_the_values(nodes: list[tuple[str, str, str]], expected: set[str]) -> None:
    """Squashing bounds, moving and averaging keep bounds, and whatever else happens loses them."""
    assert expected == bounded(nodes)


def test_a_bounded_state_stays_bounded() -> None:
    """What becomes the next value of a bounded state is bounded, and so is what else is made of it."""
    nodes = [("Add", "x c", "a"), ("Unsqueeze", "a axis", "next_h"), ("Flatten", "a", "y"), ("Add", "x x", "next_c")]
    assert {"h", "next_h", "a", "y"} == bounded(nodes, ("h",))
