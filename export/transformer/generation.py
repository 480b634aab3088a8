"""Decoding by Hugging Face's own `generate`: what exported bundles must agree with."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from export.decoding import DEFAULTS, GreedyOutput, GreedyRows, pad_sources
from service.bundle import Decoding


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
    ids, lengths = pad_sources(sources, rules.pad_id)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    config = GenerationConfig(
        max_length=limits.target_limit(int(lengths.max())) + 1, num_beams=1, do_sample=False,
        decoder_start_token_id=rules.start_id, pad_token_id=rules.pad_id, eos_token_id=rules.end_id,
        forced_bos_token_id=rules.first_id, suppress_tokens=list(rules.suppressed) or None,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    # Any: the library types `generate` for a protocol that its own models do not satisfy.
    found = cast("Any", model).generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config
    )  # fmt: skip
    rows = GreedyRows(sources, rules.end_id, limits)
    for tokens, scores in zip(found.sequences[:, 1:].T, found.scores, strict=True):
        best = scores.topk(2, dim=-1).values
        rows.append(tokens.tolist(), (best[:, 0] - best[:, 1]).tolist())
    return rows.outputs
