"""The two models that are measured: the embedded one, and a Transformer of the usual size with random weights.

How long a step takes does not depend on what the weights are.
"""

from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel

from export import bundle_writer, decoding
from export.attention_rnn_original import AttentionRnnOriginal
from export.bundle_writer import Order
from export.graphs import Graphs
from export.half import narrow
from export.original import Facts
from export.storage import halve
from export.transformer import graphs
from export.transformer.graphs import Forced
from export.transformer.parts import ARCHITECTURES, Parts
from service.bundle import ModelCard, Precision
from tests.gpu.notebook import Notebook
from tests.gpu.plan import FAMILIES, PRECISIONS, Plan

OPSET = 20
SEED = 7
FORCED = Forced(attention_layer=0, first_id=None)


def rnn(plan: Plan) -> AttentionRnnOriginal:
    """Read the attention RNN."""
    return AttentionRnnOriginal.load(plan.checkpoint)


def transformer_parts(plan: Plan) -> Parts:
    """Make a Transformer that knows as many words as the other model."""
    width, layers, heads = plan.sizes.transformer
    words = rnn(plan).model.config.target_vocabulary_size
    torch.manual_seed(SEED)
    config: Any = MarianConfig(
        vocab_size=words, decoder_vocab_size=words, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, max_position_embeddings=512, scale_embedding=True, activation_function="swish",
        pad_token_id=0, eos_token_id=3, decoder_start_token_id=2,
    )  # fmt: skip
    return ARCHITECTURES["marian"](MarianMTModel(config).eval())


class RandomTransformer:
    """What a bundle is assembled from: the other model's vocabularies, random weights."""

    def __init__(self, plan: Plan) -> None:
        self._parts = transformer_parts(plan)
        given = rnn(plan).facts
        self.facts = Facts("marian", decoding.DEFAULTS, given.tokenizer, given.tokenizer_files, [], given.words, 0)

    def graphs(self, precision: Precision, opset: int) -> Graphs:
        """Trace both graphs and store their weights in a precision."""
        traced = graphs.trace(self._parts, FORCED)
        if precision == "fp16":
            narrow(traced)
        else:
            halve(traced.encoder)
            halve(traced.decoder_step)
        return traced


def measure(plan: Plan, book: Notebook) -> None:
    """Write all bundles; nothing is proved, since speed alone is measured."""
    makers: dict[str, Any] = dict(zip(FAMILIES, (rnn, RandomTransformer), strict=True))
    for family in FAMILIES:
        original = makers[family](plan)
        for precision in PRECISIONS:
            folder = plan.bundle(family, precision)
            card = ModelCard(folder.parent.name, original.facts.family, "ko", "en", "LicenseRef-ko-en", precision, "")  # type: ignore[arg-type] # one of Precision's
            made = bundle_writer.assemble(original, Order(card, folder.name, OPSET, (), ()))
            bundle_writer.write(made, folder.parents[1], replace=True)
    width, layers, heads = plan.sizes.transformer
    book.note("attention-rnn: the embedded model's checkpoint. transformer: random weights, as many words, "
              f"width {width}, {layers} + {layers} layers, {heads} heads.")  # fmt: skip
