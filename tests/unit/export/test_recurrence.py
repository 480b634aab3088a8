"""int8 encoders: as close as int8 is, and no row changes another's bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export import graphs
from export.models.attention_rnn import AttentionRnnConfig
from export.quantize import quantize
from service.engine.runtime.ort import Target, open_session
from tests.export.tiny import random_model

pytestmark = pytest.mark.torch

ROWS, LONGEST, WORDS = 7, 12, 300
LENGTHS = np.array([12, 12, 9, 5, 5, 2, 1])
NAMES = ["states", "hidden", "cell"]

Tensors = list[NDArray[np.float32]]


def encoder(layers: int, factor: float = 1.0, cell: str = "lstm") -> onnx.ModelProto:
    """Trace an encoder of random weights, times a factor."""
    model = random_model(AttentionRnnConfig(WORDS, 400, cell, "dot", 32, 64, layers, layers))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(factor)
    return graphs.trace(model).encoder


def run(model: onnx.ModelProto, batches: Iterator[tuple[Any, Any]], threads: int = 1) -> list[Tensors]:
    """Encode `[row, source]` ids of given lengths `[row]`, batch after batch."""
    session = open_session(model.SerializeToString(), Target("cpu", threads=threads))
    return [session.run(NAMES, {"source_ids": ids, "source_lengths": lengths}) for ids, lengths in batches]


def sources() -> NDArray[np.int64]:
    """Return random words; what stands in the padding must not matter, so it is words too."""
    return np.random.default_rng(0).integers(4, WORDS, (ROWS, LONGEST))


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_are_as_close_as_int8_is(layers: int) -> None:
    """States lie beside the float operator's, and are zero behind each row's length as its are."""
    model = encoder(layers)
    (expected,) = run(model, iter([(sources(), LENGTHS)]))
    quantize(model)
    (found,) = run(model, iter([(sources(), LENGTHS)]))

    assert layers == sum(node.op_type == "DynamicQuantizeLSTM" for node in model.graph.node)
    for wanted, got in zip(expected, found, strict=True):
        assert np.abs(got - wanted).mean() < 0.02 * np.abs(wanted).mean()
    assert all(not found[0][row, length:].any() for row, length in enumerate(LENGTHS))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("layers", "factor"), [(1, 1.0), (2, 1.0), (1, 4.0)])
def test_no_row_depends_on_its_neighbours(layers: int, factor: float, threads: int) -> None:
    """Alone, without padding, a row gives the bits that it gives beside others, even if these are near their bounds."""
    model, ids = encoder(layers, factor), sources()
    quantize(model)
    alone = ((ids[row : row + 1, :length].copy(), LENGTHS[row : row + 1]) for row, length in enumerate(LENGTHS))
    (together,) = run(model, iter([(ids, LENGTHS)]), threads)

    for row, single in enumerate(run(model, alone, threads)):
        np.testing.assert_array_equal(single[0][0], together[0][row, : LENGTHS[row]])
        np.testing.assert_array_equal(single[1][0], together[1][row])
        np.testing.assert_array_equal(single[2][0], together[2][row])


def test_other_recurrences_stay_float() -> None:
    """ONNX Runtime has no int8 GRU; its weights are stored as float16."""
    model = encoder(1, cell="gru")
    quantize(model)

    assert 1 == sum(node.op_type == "GRU" for node in model.graph.node)
    assert all(node.domain == "" for node in model.graph.node)
