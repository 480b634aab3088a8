"""Which layer's attention says best what each target word was translated from."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from service.bundle import Tokenizer

Pair = tuple[Sequence[int], Sequence[int]]
Float64 = NDArray[np.float64]

ROUNDS = 5
SAMPLED = 200
"""Pairs that are compared; the others only help to find out which words go together."""


def best_layer(model: PreTrainedModel, special: Tokenizer, pairs: Sequence[Pair]) -> int:
    """Return the decoder layer whose cross-attention, in the mean of its heads, agrees most with the alignments.

    `pairs` are source ids with all that belongs around them, and target ids without start and end.
    """
    pairs = [pair for pair in pairs if pair[1]]
    alignments = align(pairs)
    agreement: dict[int, float] = defaultdict(float)
    for (source, target), alignment in list(zip(pairs, alignments, strict=False))[:SAMPLED]:
        with torch.inference_mode():
            found = cast("Any", model)(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[special.start_id, *target[:-1]]]),
                output_attentions=True,
            )  # fmt: skip
        for layer, weights in enumerate(found.cross_attentions):
            agreement[layer] += float((weights[0].mean(dim=0).double().numpy() * alignment).sum()) / len(target)
    return max(agreement, key=agreement.__getitem__, default=0)


def align(pairs: Sequence[Pair]) -> list[Float64]:
    """Return for each pair the probability that target word t comes from source word s, `[target, source]`.

    Model 1 of Brown et al., "The Mathematics of Statistical Machine Translation" (1993), section 4.2, without the
    empty source word.
    """
    likely: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    found: list[Float64] = []
    for _ in range(ROUNDS):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        totals: dict[int, float] = defaultdict(float)
        found = [_posterior(likely, source, target) for source, target in pairs]
        for (source, target), shares in zip(pairs, found, strict=True):
            for at, word in enumerate(target):
                for of, origin in enumerate(source):
                    counts[origin, word] += shares[at, of]
                    totals[origin] += shares[at, of]
        likely = defaultdict(float, {key: count / totals[key[0]] for key, count in counts.items()})
    return found


def _posterior(likely: dict[tuple[int, int], float], source: Sequence[int], target: Sequence[int]) -> Float64:
    shares: Float64 = np.array([[likely[origin, word] for origin in source] for word in target])
    normed: Float64 = shares / shares.sum(axis=1, keepdims=True)
    return normed
