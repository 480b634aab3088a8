"""Ranges that values of a graph have, and products that use them."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from export.bounded_products import Range
from export.calibration import LONGEST, Observed, nonsense
from export.quantize import quantize
from tests.unit.export.test_quantize import product_graph, run, weights

pytestmark = pytest.mark.torch


def test_range_holds_zero_exactly() -> None:
    """Zero is a step of every range, so that what was zero stays it."""
    for low, high in ((-0.3, 12.0), (2.0, 5.0), (-7.0, -1.0), (0.0, 0.0)):
        found = Range.between(low, high)

        assert 0 <= found.zero_point <= 255
        assert (0 - found.zero_point) * found.step <= min(low, 0.0) + found.step
        assert max(high, 0.0) - found.step <= (255 - found.zero_point) * found.step


def test_products_of_observed_values_are_close() -> None:
    """What was seen while the float graph ran is the range of the integer product's values."""
    weight = weights(64, 128)
    values = np.random.default_rng(1).uniform(-0.3, 5, (40, 64)).astype(np.float32)
    model = product_graph(weight)
    observed = Observed(model)
    seen = observed.run({"x": values})
    quantize(model, ranges=observed.ranges())

    product = run(model, {"x": values})
    np.testing.assert_allclose(seen["y"], values @ weight, rtol=1e-4, atol=1e-4)
    assert np.abs(product - values @ weight).max() < 0.02 * np.abs(values @ weight).max()
    assert "MatMulInteger" not in {node.op_type for node in model.graph.node}


def test_values_beyond_a_range_are_cut_off() -> None:
    """A row that reaches farther than any before is the product of what the range can hold."""
    weight = weights(64, 128)
    model = product_graph(weight)
    quantize(model, ranges={"x": Range.between(-1.0, 1.0)})
    (far,) = ReferenceEvaluator(model).run(None, {"x": np.full((1, 64), 9.0, np.float32)})
    (edge,) = ReferenceEvaluator(model).run(None, {"x": np.full((1, 64), 1.0, np.float32)})

    np.testing.assert_array_equal(edge, far)


def test_nonsense_is_of_all_lengths() -> None:
    """Random sentences use the words that were given, and are the same every time."""
    drawn = nonsense([4, 7, 9], 200)

    assert nonsense([4, 7, 9], 200) == drawn
    assert {4, 7, 9} == {word for sentence in drawn for word in sentence}
    assert {1, LONGEST} <= {len(sentence) for sentence in drawn} <= set(range(1, LONGEST + 1))
