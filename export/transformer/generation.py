"""Decoding by Hugging Face's own `generate`: what exported bundles must agree with."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from export.decoding import DEFAULTS, Beam, BeamOutput, GreedyOutput, GreedyRows, pad_sources
from service.bundle import Decoding

LibraryOutput = Any
"""What `generate` returns: the library types it for a protocol that its own models do not satisfy."""
BEAM_SOURCES = 16
"""Sentences that are decoded by beam search at once."""


class Rules(NamedTuple):
    """What restricts the choice of words, besides their probabilities."""

    pad_id: int
    start_id: int
    end_id: int
    first_id: int | None
    """The word that every target begins with, such as its language."""
    suppressed: tuple[int, ...]
    """Words that are never chosen."""


def generate(
    model: PreTrainedModel, sources: Sequence[Sequence[int]], rules: Rules, limits: Decoding = DEFAULTS
) -> list[GreedyOutput]:
    """Decode one batch greedily; each row ends where its own limit is, as in a bundle."""
    found = _run(model, sources, rules, _config(rules, limits.target_limit(max(map(len, sources)))))
    rows = GreedyRows(sources, rules.end_id, limits)
    for tokens, scores in zip(found.sequences[:, 1:].T, found.scores, strict=True):
        best = scores.topk(2, dim=-1).values
        rows.append(tokens.tolist(), (best[:, 0] - best[:, 1]).tolist())
    return rows.outputs


def generate_beams(
    model: PreTrainedModel, sources: Sequence[Sequence[int]], rules: tuple[Rules, Decoding], beam: Beam
) -> list[BeamOutput]:
    """Decode any number of sentences by beam search; results in the order of the sources.

    Two settings of the library are not its defaults. `early_stopping="never"` ends a search when nothing can win any
    more, which is exact; the default guesses at it from the length so far. And probabilities are normalized after
    words were suppressed, as they are when it decodes greedily.
    """
    restricting, limits = rules
    by_limit: dict[int, list[int]] = defaultdict(list)
    for index, source in enumerate(sources):
        by_limit[limits.target_limit(len(source))].append(index)
    outputs: dict[int, BeamOutput] = {}
    for limit, members in by_limit.items():
        config = _config(restricting, limit)
        config.update(num_beams=beam.size, length_penalty=beam.length_penalty, early_stopping="never",
                      renormalize_logits=True)  # fmt: skip
        for start in range(0, len(members), BEAM_SOURCES):
            chosen = members[start : start + BEAM_SOURCES]
            found = _run(model, [sources[index] for index in chosen], restricting, config)
            for index, tokens, score in zip(chosen, found.sequences.tolist(), found.sequences_scores, strict=True):
                words = list(itertools.takewhile(lambda token: token != restricting.end_id, tokens[1:]))
                outputs[index] = BeamOutput(words, float(score))
    return [outputs[index] for index in range(len(sources))]


def _config(rules: Rules, longest: int) -> GenerationConfig:
    """Say how to decode up to so many tokens, greedily until more is said."""
    return GenerationConfig(
        max_length=longest + 1, num_beams=1, do_sample=False, decoder_start_token_id=rules.start_id,
        pad_token_id=rules.pad_id, eos_token_id=rules.end_id, forced_bos_token_id=rules.first_id,
        suppress_tokens=list(rules.suppressed) or None, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip


def _run(model: PreTrainedModel, sources: Sequence[Sequence[int]], rules: Rules, config: GenerationConfig
         ) -> LibraryOutput:  # fmt: skip
    ids, lengths = pad_sources(sources, rules.pad_id)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return cast("Any", model).generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config
    )
