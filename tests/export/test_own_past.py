"""How a step of a Transformer attends to a row's own past: two ways, and what neither may depend on."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import bundle_writer, originals
from export.bundle_writer import Order
from export.transformer import graphs
from export.transformer.blocks import CachedSelfAttention, GroupedSelfAttention
from export.transformer.graphs import Forced
from export.transformer.original import TransformerOriginal
from service import bundle
from service.bundle import ModelCard
from service.engine.layout import Layout
from service.engine.session import OnnxModel, Stepped
from tests.export.families import FAMILIES, languages_of
from tests.export.tiny import PAIRS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

TRAINED = Path(__file__).parents[2] / "models" / "ko-en-transformer" / "1"


def ages_differ(model: OnnxModel, rows: int, capacity: int, filling: float) -> list[Stepped]:
    """Step rows of several ages, three times, in caches of this capacity; what a row did not write is `filling`."""
    chance, ages = np.random.default_rng(0), np.array([3, 0, 5, 2][:rows])
    memory = model.encode(np.full((1, 3), 5), np.array([3])).memory
    carried = {name: values.repeat(rows, axis=0) for name, values in memory.items()}
    for name, tensor in Layout.of(model.manifest).caches.items():
        heads, size = (axis for axis in tensor.axes if isinstance(axis, int))
        carried[name] = np.full((rows, heads, capacity, size), filling, np.float32)
        past = chance.standard_normal((4, heads, 5, size), np.float32)
        for row, age in enumerate(ages):
            carried[name][row, :, :age] = past[row, :, :age]
    stepped: list[Stepped] = []
    for token in (6, 7, 8):
        carried["lengths"] = ages + len(stepped)
        stepped.append(model.step(np.array([token, 9, 4, 7][:rows]), carried, 4, attention=True))
    return stepped


def test_a_past_is_read_in_two_ways_alike(tmp_path: Path) -> None:
    """Products over the capacity, and the operator that int8 bundles have, give the same words at every age."""
    FAMILIES["marian"](tmp_path)
    original = originals.load(tmp_path, languages_of("marian"), PAIRS[::45])
    assert isinstance(original, TransformerOriginal)
    card = ModelCard("tiny", "any", "ko", "en", "CC0-1.0", "fp32", "")
    made = bundle_writer.assemble(original, Order(card, "1", 20, (), ()))
    outcomes = []
    for own in (CachedSelfAttention, GroupedSelfAttention):
        step = graphs.trace(original.parts, Forced(0, None), own).decoder_step.SerializeToString()
        contents = {**made.contents, "decoder_step.onnx": step}
        outcomes.append(ages_differ(OnnxModel.load(dataclasses.replace(made, contents=contents), "cpu"), 4, 8, 0.5))

    for products, operator in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(products.ids, operator.ids)
        np.testing.assert_allclose(products.log_probs, operator.log_probs, atol=1e-5)


def test_a_trained_row_is_the_same_in_any_cache() -> None:
    """To the last bit, whatever the capacity, what an earlier row left there, and whoever is beside it."""
    model = OnnxModel.load(bundle.load(TRAINED), "cpu")
    alone, beside = ages_differ(model, 1, 8, 0.0), ages_differ(model, 4, 24, 1e30)

    for expected, found in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(expected.ids, found.ids[:1])
        np.testing.assert_array_equal(expected.log_probs, found.log_probs[:1])


def test_the_trained_bundle_reads_each_row_s_own_past() -> None:
    """By one operator a layer, which writes caches in place; products have fixed ranges."""
    graph = onnx.load(TRAINED / "decoder_step.onnx").graph
    types = [node.op_type for node in graph.node]
    said = [axis.dim_value for value in graph.value_info for axis in value.type.tensor_type.shape.dim]
    assert not any(said)  # The runtime knows the operator's sizes; the tracer would guess them.
    assert 2 == types.count("GroupQueryAttention")
    assert "QuantizeLinear" in types
    assert "MatMulInteger" not in types
