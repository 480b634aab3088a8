"""The best words of a row and what they cost: the part of a step that is as wide as the vocabulary.

Every pass over all logits shows in a step's time, so there are three: their maxima by block, their exponentials, and
the sum of these. Log-probabilities are written for the chosen words alone.
"""

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK, MIN_BLOCKS = 64, 32
"""Words in a block of the vocabulary, and the blocks from which on they pay."""
SAFE_REACH = 70.0
"""Logits up to this size, of either sign, can be exponentiated and summed in float32 as they are."""


def reach_of(output: nn.Linear) -> float:
    """Return the largest size that a logit can have, given features in [-1, 1]."""
    return (output.weight.abs().sum(dim=1) + output.bias.abs()).max().item()


def reach_behind(norm: nn.Module, output: nn.Linear, ignored: float) -> float:
    """Return the same, given features that a norm gives out; words whose bias is `ignored` are never chosen.

    What a norm scales and shifts is as long as the root of its size at most (Cauchy and Schwarz do the rest).
    """
    factor = float(getattr(norm, "factor", 1.0))
    inner = getattr(norm, "norm", norm)
    scale, shift = getattr(inner, "weight", None), getattr(inner, "bias", None)
    if scale is None:
        return math.inf
    largest = (output.weight * scale).norm(dim=1) * math.sqrt(len(scale))
    middle = output.bias if shift is None else output.weight @ shift * factor + output.bias
    reached: Tensor = largest * abs(factor) + middle.abs()
    return reached[output.bias > ignored].max().item()


def select(logits: Tensor, k: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and ids of the best k words, best first, both `[row, k]`, of logits `[row, vocabulary]`.

    `reach` bounds the size of a logit: where it is small, the exponentials need no shift by the largest logit.
    """
    if reach > SAFE_REACH or logits.shape[1] < BLOCK * MIN_BLOCKS:
        return best_candidates(torch.log_softmax(logits, dim=-1), k)
    padded = _padded(logits)
    values, ids = best_candidates(padded, k)
    log_sum: Tensor = _LogOfSum.apply(torch.exp(padded))  # type: ignore[no-untyped-call] # torch leaves it untyped
    return values - log_sum, ids


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


class _OnnxGraph(Protocol):
    """What the tracer hands to `symbolic`."""

    def op(self, operator: str, *inputs: object, **attributes: object) -> object:
        """Add a node and return its output."""


class _LogOfSum(torch.autograd.Function):
    """Logarithm of the sum of each row, `[row, words]` to `[row, 1]`, the same whichever rows stand beside it.

    ONNX Runtime's Log computes most of a tensor in packets and the rest one by one, which rounds otherwise: a row's
    value would depend on its place. ReduceLogSum, here of one number a row, takes every row by itself.
    """

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        """Compute it."""
        return values.sum(dim=-1, keepdim=True).log()

    @staticmethod
    def symbolic(graph: _OnnxGraph, values: object) -> object:
        """Say it in ONNX."""
        last = graph.op("Constant", value_t=torch.tensor([-1]))
        return graph.op("ReduceLogSum", graph.op("ReduceSum", values, last), last)
