"""Decoding by Hugging Face's own `generate`: what exported bundles must agree with."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from export.decoding import DEFAULTS, pad_sources


def generate(model: PreTrainedModel, sources: Sequence[Sequence[int]], beams: int = 1) -> list[list[int]]:
    """Decode one batch; return each row's target ids without start, end and padding, best hypothesis only."""
    config = model.config
    ids, lengths = pad_sources(sources, config.pad_token_id)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    # Any: the library types `generate` for a protocol that its own models do not satisfy.
    rows = cast("Any", model).generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), num_beams=beams, do_sample=False,
        max_length=DEFAULTS.target_limit(int(lengths.max())) + 1,
    )  # fmt: skip
    special = {config.pad_token_id, config.eos_token_id, config.decoder_start_token_id}
    return [[token for token in row if token not in special] for row in rows.tolist()]
