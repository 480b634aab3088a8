"""A Transformer of Hugging Face's library as the maker of bundles sees it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from export import decoding
from export.calibration import calibrate, nonsense
from export.decoding import Beam, BeamOutput, GreedyOutput
from export.graphs import Graphs
from export.half import narrow
from export.original import Advanced, Facts, Languages
from export.quantize import quantize
from export.storage import halve
from export.transformer import graphs, hugging_face
from export.transformer.alignment import best_layer
from export.transformer.blocks import MASKED, CachedSelfAttention, GroupedSelfAttention
from export.transformer.generation import Rules, generate, generate_beams
from export.transformer.graphs import Forced
from export.transformer.languages import Prepared, prepare
from export.transformer.parts import ARCHITECTURES, AttendedParts, Parts, linear
from service.bundle import Decoding, Precision


class TransformerRun:
    """A batch under way, by the library's own forward pass and cache."""

    def __init__(self, original: "TransformerOriginal", source_ids: Tensor, source_lengths: Tensor) -> None:
        self._original = original
        self._mask = torch.arange(source_ids.shape[1]) < source_lengths.unsqueeze(1)
        encoder = cast("Any", original.model).get_encoder()
        self._states: Tensor = encoder(input_ids=source_ids, attention_mask=self._mask.long()).last_hidden_state
        self._past: Any = None
        self.encoded = _memory(original.parts, self._states, self._mask)

    def step(self, token_ids: Tensor) -> Advanced:
        """Advance every row by `token_ids` `[row]`."""
        first = self._past is None
        out = self._original.model(
            decoder_input_ids=token_ids.unsqueeze(1), attention_mask=self._mask.long(), use_cache=True,
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states), past_key_values=self._past,
            output_attentions=True,
        )  # fmt: skip
        self._past = out.past_key_values
        rules, logits = self._original.rules, out.logits[:, 0].float()
        logits[:, list(rules.suppressed)] = MASKED
        log_probs = torch.log_softmax(logits, dim=-1)
        if first and rules.first_id is not None:
            log_probs = torch.full_like(log_probs, -math.inf)
            log_probs[:, rules.first_id] = 0.0
        attention = out.cross_attentions[self._original.facts.attention_layer or 0][:, :, 0].mean(dim=1)
        return Advanced(log_probs, attention)


CALIBRATED = 64
"""Sentences that ranges are found with; as many of random words."""


class TransformerOriginal:
    """A checkpoint of one of the architectures, from one language into one other."""

    def __init__(
        self, model: PreTrainedModel, parts: Parts, prepared: Prepared, facts: Facts, sample: Sequence[Sequence[int]]
    ) -> None:
        """Take a model and some source ids, to see what ranges its values have."""
        self.model, self.parts, self.facts = model, parts, facts
        self._sample = sample
        self.rules = rules_of(model, prepared)
        # What else the checkpoint asks for, such as several beams, would be in force wherever `generate` is not told.
        model.generation_config = GenerationConfig()
        self._prepared = prepared

    @classmethod
    def load(
        cls, folder: Path, languages: Languages, sample: Sequence[tuple[str, str]], attention_layer: int | None = None
    ) -> "TransformerOriginal":
        """Read a checkpoint; unless told, its bundle shows the attention of the layer that aligns the sample best."""
        loaded = hugging_face.load(folder)
        prepared = prepare(loaded, languages)
        parts = ARCHITECTURES[loaded.model.config.model_type](loaded.model)
        if attention_layer is None:
            pairs = [(prepared.source_ids(source), prepared.target_ids(target)) for source, target in sample]
            attention_layer = best_layer(loaded.model, prepared.tokenizer, pairs)
        special = {*prepared.tokenizer.special_ids, prepared.tokenizer.pad_id, prepared.tokenizer.unknown_id}
        facts = Facts(
            family=loaded.model.config.model_type,
            limits=_limits(parts),
            tokenizer=prepared.tokenizer,
            tokenizer_files=prepared.contents,
            weights=hugging_face.weights_files(folder),
            words=[token for token in range(prepared.words) if token not in special],
            attention_layer=attention_layer,
        )
        sources = [prepared.source_ids(source) for source, _ in sample[:CALIBRATED]]
        longest = facts.limits.max_source_tokens
        return cls(loaded.model, parts, prepared, facts, [ids for ids in sources if len(ids) <= longest])

    def graphs(self, precision: Precision, opset: int) -> Graphs:  # noqa: ARG002 # Caches need the one they need.
        """Trace both graphs and store their weights in a precision."""
        bias = self.parts.output.bias.detach().clone()
        bias[list(self.rules.suppressed)] = MASKED
        parts = dataclasses.replace(self.parts, output=linear(self.parts.output.weight, bias))
        forced = Forced(self.facts.attention_layer or 0, self.rules.first_id)
        traced = graphs.trace(parts, forced, own_attention(parts, precision))
        if precision == "fp16":
            narrow(traced)
            return traced
        if precision == "fp32":
            halve(traced.encoder)
            halve(traced.decoder_step)
            return traced
        sources = [*self._sample, *nonsense(self.facts.words, CALIBRATED)]
        ranges = calibrate(traced, sources, self.facts.tokenizer.start_id)
        for graph, known in zip((traced.encoder, traced.decoder_step), ranges, strict=True):
            quantize(graph, ranges=known)
        return traced

    def begin(self, source_ids: Tensor, source_lengths: Tensor) -> TransformerRun:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`."""
        return TransformerRun(self, source_ids, source_lengths)

    @torch.inference_mode()
    def greedy(self, sources: Sequence[Sequence[int]]) -> list[GreedyOutput]:
        """Decode any number of sentences with `generate`; results in the order of the sources."""

        def decode(batch: Sequence[Sequence[int]]) -> list[GreedyOutput]:
            return generate(self.model, batch, self.rules, self.facts.limits)

        return decoding.in_sorted_batches(decode, sources)

    @torch.inference_mode()
    def beam(self, sources: Sequence[Sequence[int]], beam: Beam) -> list[BeamOutput] | None:
        """Decode any number of sentences with `generate`; results in the order of the sources."""
        return generate_beams(self.model, sources, (self.rules, self.facts.limits), beam)

    def source_ids(self, text: str) -> list[int]:
        """Encode a source text with all that belongs around it."""
        return self._prepared.source_ids(text)

    def target_ids(self, text: str) -> list[int]:
        """Encode a target text, without start and end."""
        return self._prepared.target_ids(text)

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without start and end symbol."""
        return self._prepared.target_text(ids)


def rules_of(model: PreTrainedModel, prepared: Prepared) -> Rules:
    """Return what restricts the choice of words: padding, single bad words, suppressed ids and ids without a word."""
    config: Any = model.generation_config
    bad = [words[0] for words in config.bad_words_ids or [] if len(words) == 1]
    vocabulary = len(cast("Any", model).lm_head.weight)
    nameless = range(prepared.target_words, vocabulary)
    suppressed = {prepared.tokenizer.pad_id, *bad, *(config.suppress_tokens or []), *nameless} & set(range(vocabulary))
    special = prepared.tokenizer
    return Rules(special.pad_id, special.start_id, special.end_id, prepared.first_id,
                 tuple(sorted(suppressed - {special.end_id})))  # fmt: skip


def own_attention(parts: Parts, precision: Precision) -> type[CachedSelfAttention]:
    """Return how a step attends to a row's own past: int8 is for CPUs, and distances are a bias over the capacity."""
    return GroupedSelfAttention if precision == "int8" and parts.decoder.distances is None else CachedSelfAttention


def _limits(parts: Parts) -> Decoding:
    """Return the usual limits, within the positions that the model knows."""
    known = [len(stack.positions) for stack in (parts.encoder, parts.decoder) if stack.positions is not None]
    usual = decoding.DEFAULTS
    return Decoding(
        max_source_tokens=min([usual.max_source_tokens, *known]),
        max_target_tokens=min([usual.max_target_tokens, *known]),
        target_ratio=usual.target_ratio,
        target_offset=usual.target_offset,
        length_penalty=usual.length_penalty,
    )


def _memory(parts: Parts, states: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
    memory: dict[str, Tensor] = {"mask": mask}
    for number, layer in enumerate(parts.decoder.layers):
        attention = cast("AttendedParts", layer.cross).attention
        for what, project in (("keys", attention.key), ("values", attention.value)):
            split = project(states).reshape(*states.shape[:2], attention.heads, -1).transpose(1, 2)
            memory[f"cross_{what}_{number}"] = split * mask[:, None, :, None]
    return memory
