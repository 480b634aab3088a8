"""The best words of a row and what they cost: the part of a step that is as wide as the vocabulary.

Every pass over all logits shows in a step's time, so there are two: log-probabilities, which ONNX Runtime writes where
the logits were, row after row, and their maxima by block.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

BLOCK, MIN_BLOCKS = 64, 32
"""Words in a block of the vocabulary, and the blocks from which on they pay."""


def select(logits: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and ids `[row, k]` of the best k words, best first, of logits `[row, vocabulary]`."""
    return best_candidates(torch.log_softmax(logits, dim=-1), k)


def best_candidates(scores: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best k values and ids, both `[row, k]`, of `[row, vocabulary]`.

    The best k lie in the k blocks with the best maxima, so of a large vocabulary only these are searched: reading a
    row once for its maxima is several times faster than TopK over it. k may be as large as the number of blocks.
    """
    count = cast("int", k)
    if scores.shape[1] < BLOCK * MIN_BLOCKS:
        best = torch.topk(scores, count, dim=-1)
        return best.values, best.indices
    padded = _padded(scores)
    blocks = torch.arange(int(padded.shape[1])).reshape(-1, BLOCK)
    maxima = padded.reshape(-1, *blocks.shape).amax(dim=-1)
    words = functional.embedding(torch.topk(maxima, count, dim=-1).indices, blocks).flatten(1)
    best = torch.topk(torch.gather(padded, 1, words), count, dim=-1)
    return best.values, torch.gather(words, 1, best.indices)


def _padded(scores: Tensor) -> Tensor:
    """Lengthen rows to whole blocks by words that are never chosen."""
    missing = -int(scores.shape[1]) % BLOCK
    return functional.pad(scores, (0, missing), value=-torch.inf) if missing else scores
