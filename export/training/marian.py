"""A MarianMT model of Hugging Face's library, trained from nothing by this recipe."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, MarianConfig, MarianMTModel
from transformers.utils import logging

from export import decoding
from export.training.batches import Batch
from export.transformer.generation import Rules, generate
from export.transformer.marian_vocabulary import MarianVocabulary

LONGEST = 512
"""Positions that have an embedding."""
RESIDUAL_GAIN = 0.2
"""Size of what a layer of the encoder adds at first, against the usual."""


class MarianLearner:
    """A MarianMT model, and the folder of its checkpoint and vocabulary."""

    def __init__(self, model: MarianMTModel, vocabulary: MarianVocabulary, folder: Path) -> None:
        self.model = model
        self.pad_id = self.start_id = vocabulary.pad_id
        self._vocabulary = vocabulary
        self._rules = Rules(self.pad_id, self.start_id, vocabulary.end_id, None, (self.pad_id,))
        self._folder = folder

    def logits(self, batch: Batch) -> Tensor:
        """Return `[token, vocabulary]` of the labels that are no padding."""
        hidden = self.model.model(
            input_ids=batch.source, attention_mask=(batch.source != self.pad_id).long(),
            decoder_input_ids=batch.inputs, use_cache=False,
        ).last_hidden_state  # fmt: skip
        logits: Tensor = self.model.lm_head(hidden[batch.labels != self.pad_id])
        return logits

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate greedily."""
        outputs = decoding.in_sorted_batches(self._greedy, self._vocabulary.encode_sources(texts))
        return [self._vocabulary.target_text(output.target_ids) for output in outputs]

    def save(self) -> None:
        """Write the checkpoint as Hugging Face's `from_pretrained` reads it."""
        logging.disable_progress_bar()
        self.model.save_pretrained(self._folder)

    def _greedy(self, sources: Sequence[Sequence[int]]) -> list[decoding.GreedyOutput]:
        return generate(self.model, sources, self._rules)


def new_model(vocabulary: MarianVocabulary, sizes: MarianConfig) -> MarianMTModel:
    """Make an untrained model of the given sizes, whose special ids are the vocabulary's.

    Its output never is padding: padding's logit is lowered out of reach, as in Marian's own converted checkpoints.
    """
    sizes.update({
        "vocab_size": len(vocabulary.ids), "decoder_vocab_size": len(vocabulary.ids),
        "pad_token_id": vocabulary.pad_id, "decoder_start_token_id": vocabulary.pad_id,
        "eos_token_id": vocabulary.end_id, "forced_eos_token_id": None, "bos_token_id": None,
    })  # fmt: skip
    model = MarianMTModel(sizes)
    _calm(model)
    model.set_attn_implementation("eager")  # Sentences are short: the fused attention takes three times as long.
    model.generation_config = GenerationConfig(
        decoder_start_token_id=vocabulary.pad_id, pad_token_id=vocabulary.pad_id, eos_token_id=vocabulary.end_id,
        bad_words_ids=[[vocabulary.pad_id]], max_length=LONGEST, num_beams=1,
    )  # fmt: skip
    return model


def _calm(model: MarianMTModel) -> None:
    """Let the encoder's layers begin as almost nothing: with a norm behind every residual, they forget words otherwise.

    Six full-size layers make all positions alike (a mean cosine of 0.96, against 0.25), and training does not get over
    it (the idea of T-Fixup: Huang et al., "Improving Transformer Optimization Through Better Initialization", 2020).
    The decoder's stay as they are: without them its output, tied to its input, says every word again.
    """
    with torch.no_grad():
        for name, weight in model.model.encoder.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                weight.mul_(RESIDUAL_GAIN)


def sizes(width: int, encoder_layers: int, decoder_layers: int, dropout: float) -> MarianConfig:
    """Describe a model of a width: four times as wide inside, heads of 32, weights drawn as Glorot and Bengio do."""
    return MarianConfig(
        d_model=width, encoder_layers=encoder_layers, decoder_layers=decoder_layers,
        encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, encoder_attention_heads=width // 32,
        decoder_attention_heads=width // 32, dropout=dropout, activation_function="swish", scale_embedding=True,
        init_std=width**-0.5, max_position_embeddings=LONGEST,
    )  # fmt: skip
