"""Exported graphs against the PyTorch model, through ONNX Runtime, for every shape of the family."""

import contextlib
import itertools

import numpy as np
import onnx
import pytest
from sentencepiece import SentencePieceProcessor

from export import graphs, verify
from export.attention_rnn_original import TOKENIZER, AttentionRnnOriginal
from export.bundle_writer import UNMEASURED
from export.decoding import DEFAULTS
from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig
from export.original import Facts
from export.quantize import OPSETS, quantize
from export.sentences import Compared
from export.signature import read_graph
from export.storage import halve
from export.vocabulary import Vocabularies
from service.bundle import Bundle, Manifest, ModelCard, Precision, Provenance, StatePair
from service.engine.session import OnnxModel
from tests.export.tiny import EXPORTED, name_of, random_model

pytestmark = pytest.mark.torch

LARGE = AttentionRnnConfig(300, 400, embedding_size=32, hidden_size=64)
SHAPES = ((1, 1), (1, 7), (4, 1), (4, 9), (9, 23))


def load(config: AttentionRnnConfig, precision: Precision = "fp32", opset: int = graphs.DEFAULT_OPSET) -> OnnxModel:
    """Trace a random model and load it."""
    traced = graphs.trace(random_model(config), opset)
    if precision == "int8":
        quantize(traced.encoder)
        quantize(traced.decoder_step, bounded=traced.signature.bounded)
    manifest = Manifest(
        1, ModelCard("tiny", "attention-rnn", "ko", "en", "CC0-1.0", precision, ""), Provenance("", opset, {}),
        TOKENIZER,
        read_graph(traced.encoder, "encoder.onnx"), read_graph(traced.decoder_step, "decoder_step.onnx"),
        traced.signature.memory, tuple(StatePair(name, f"next_{name}") for name in traced.signature.state),
        traced.signature.attention, DEFAULTS, UNMEASURED, (), {},
    )  # fmt: skip
    contents = {
        "encoder.onnx": traced.encoder.SerializeToString(), "decoder_step.onnx": traced.decoder_step.SerializeToString()
    }  # fmt: skip
    return OnnxModel.load(Bundle("tiny", "1", manifest, contents), "cpu")


def original(model: AttentionRnn) -> AttentionRnnOriginal:
    """Return a model without its vocabularies as the proof sees it."""
    facts = Facts("attention-rnn", DEFAULTS, TOKENIZER, {}, [], range(4, model.config.source_vocabulary_size), None)
    return AttentionRnnOriginal(model, Vocabularies(SentencePieceProcessor(), SentencePieceProcessor()), facts)


@pytest.mark.parametrize("config", EXPORTED, ids=name_of)
def test_every_shape_of_the_family_is_exported(config: AttentionRnnConfig) -> None:
    """Memory, state, log-probabilities and attention equal PyTorch's at row counts and lengths never traced."""
    onnx_model, model = load(config), random_model(config)
    for rows, longest in SHAPES:
        differences = list(verify.compare_batch(onnx_model, original(model), rows, longest))
        verify.check(differences, verify.TOLERANCES["fp32"], f"{rows} x {longest}")

    assert (None if config.attention == "none" else "attention") == onnx_model.manifest.attention
    assert (config.attention == "none") == (onnx_model.manifest.memory == ())
    assert (config.attention in {"general", "concat"}) == ("keys" in onnx_model.manifest.memory)


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(opset: int) -> None:
    """A bundle can be made in every opset that the command offers, quantized or not."""
    for precision in ("fp32", "int8"):
        onnx_model = load(LARGE, precision, opset)
        differences = list(verify.compare_batch(onnx_model, original(random_model(LARGE)), 4, 9))

        verify.check(differences, verify.TOLERANCES[precision]._replace(log_prob=3.0, mean_log_prob=0.5), "4 x 9")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("attention", ["dot", "concat", "none"])
def test_a_row_does_not_depend_on_its_neighbours(precision: Precision, attention: str) -> None:
    """Encoded and decoded alone or in a batch of the same length, a row is the same to the last bit."""
    model = load(AttentionRnnConfig(300, 400, "lstm", attention, 32, 64), precision)  # type: ignore[arg-type]
    ids = np.random.default_rng(1).integers(4, 300, (9, 12))
    lengths = np.array([12, 1, 12, 5, 12, 7, 3, 12, 9])
    ids *= np.arange(12) < lengths[:, None]
    batch, alone = model.encode(ids, lengths), model.encode(ids[:1].copy(), lengths[:1])
    together, single = batch.memory | batch.state, alone.memory | alone.state
    tokens = np.full(9, 2)
    for _ in range(10):
        of_batch = model.step(tokens, together, 5, attention=True)
        of_one = model.step(tokens[:1].copy(), single, 5, attention=True)
        together |= of_batch.state
        single |= of_one.state
        tokens = of_batch.ids[:, 0].copy()

        np.testing.assert_array_equal(of_one.ids, of_batch.ids[:1])
        np.testing.assert_array_equal(of_one.log_probs, of_batch.log_probs[:1])


@pytest.mark.parametrize("attention", ["dot", "general", "concat"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.05)])
def test_rows_of_a_group_share_their_memory(precision: Precision, tolerance: float, attention: str) -> None:
    """Four rows that read one memory give what they give with a copy each, and the same bits beside other groups.

    One product for four rows adds in another order than four products; int8 may then round to the next step.
    """
    model = load(AttentionRnnConfig(300, 400, "lstm", attention, 32, 64), precision)  # type: ignore[arg-type]
    ids = np.random.default_rng(3).integers(4, 300, (3, 12))
    lengths = np.array([12, 5, 9])
    ids *= np.arange(12) < lengths[:, None]
    encoded = model.encode(ids, lengths)
    state = {name: values.repeat(4, axis=0) for name, values in encoded.state.items()}
    copies = {name: values.repeat(4, axis=0) for name, values in encoded.memory.items()}
    alone = {name: values[:1].copy() for name, values in encoded.memory.items()}
    tokens = np.arange(4, 16)
    for _ in range(5):
        of_group = model.step(tokens, encoded.memory | state, 5, attention=True)
        of_copy = model.step(tokens, copies | state, 5, attention=True)
        first = {name: values[:4].copy() for name, values in state.items()}
        of_one = model.step(tokens[:4].copy(), alone | first, 5, attention=True)
        state, tokens = of_group.state, of_group.ids[:, 0].copy()

        np.testing.assert_allclose(of_group.log_probs, of_copy.log_probs, atol=tolerance)
        assert of_group.attention is not None
        np.testing.assert_allclose(of_group.attention, of_copy.attention, atol=tolerance)  # type: ignore[arg-type]
        np.testing.assert_array_equal(of_group.ids[:4], of_one.ids)
        np.testing.assert_array_equal(of_group.log_probs[:4], of_one.log_probs)
    assert ("group", "source", 64) == next(t.axes for t in model.manifest.decoder_step.inputs if t.name == "states")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_row_does_not_depend_on_padding(precision: Precision) -> None:
    """Beside a longer sentence, a row gives the same words at the same cost; sums may associate otherwise."""
    model = load(LARGE, precision)
    ids = np.random.default_rng(2).integers(4, 300, (2, 70))
    for length, padded in itertools.product((1, 6, 21), (22, 40, 70)):
        lengths = np.array([length, padded])
        wide = ids[:, :padded] * (np.arange(padded) < lengths[:, None])
        batch, alone = model.encode(wide, lengths), model.encode(ids[:1, :length].copy(), lengths[:1])
        together, single = batch.memory | batch.state, alone.memory | alone.state
        of_batch = model.step(np.array([2, 2]), together, 5, attention=False)
        of_one = model.step(np.array([2]), single, 5, attention=False)

        np.testing.assert_array_equal(of_one.ids, of_batch.ids[:1])
        np.testing.assert_allclose(of_one.log_probs, of_batch.log_probs[:1], atol=1e-5)


def test_halving_changes_nothing_where_weights_are_float16() -> None:
    """A checkpoint of float16 values is stored in half the space and computes the same bits."""
    model = random_model(LARGE).half().float()
    traced = graphs.trace(model)
    before = traced.decoder_step.ByteSize()
    halve(traced.decoder_step)
    onnx.checker.check_model(traced.decoder_step)

    assert traced.decoder_step.ByteSize() < 0.6 * before


def test_a_wrong_weight_is_named() -> None:
    """Where the graphs compute something else, the error names tensor, step and difference."""
    onnx_model, model = load(LARGE), random_model(LARGE)
    model.combine.bias.data[0] += 0.5
    with pytest.raises(
        verify.ParityError, match=r"log_probs of decoder step 0, 4 .* differs from PyTorch by 0\.\d+; at most 0\.0001"
    ):
        verify.check(list(verify.compare_batch(onnx_model, original(model), 4, 9)), verify.TOLERANCES["fp32"], "4 rows")
    model.encoder.get_parameter("forwards.0.bias_hh_l0").data[0] += 0.5
    with pytest.raises(verify.ParityError, match="states of the encoder, 4 rows, differs from PyTorch by"):
        verify.check(list(verify.compare_batch(onnx_model, original(model), 4, 9)), verify.TOLERANCES["fp32"], "4 rows")


@pytest.mark.parametrize(("sentences", "passes"), [(500, False), (125, True), (2000, False)])
def test_chrf_of_few_sentences_may_scatter(sentences: int, passes: bool) -> None:
    """A quarter of the sentences may differ by twice as much; more sentences by no less than the tolerance."""
    compared = Compared("greedily", sentences, (), 47.0, 0.5)
    with contextlib.nullcontext() if passes else pytest.raises(verify.ParityError, match=r"by \+0.50; at most 0.3"):
        verify.check_sentences(compared, 0.0, 0.3)
