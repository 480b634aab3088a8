"""Batches of similar lengths, bounded in padded tokens, in an order that a seed fixes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int32]


class Example(NamedTuple):
    """One pair as ids; the target without its start symbol, both with their end symbol."""

    source: Ids
    target: Ids
    weight: float


class Batch(NamedTuple):
    """Padded ids `[row, source]` and `[row, target]`; `inputs` are the labels shifted behind the start symbol."""

    source: Tensor
    source_lengths: Tensor
    inputs: Tensor
    labels: Tensor


def pad(sequences: Sequence[Ids], pad_id: int) -> Tensor:
    """Stack sequences into `[row, longest]` int64."""
    longest = max(len(sequence) for sequence in sequences)
    padded = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return torch.from_numpy(padded)


def collate(examples: Sequence[Example], pad_id: int, start_id: int) -> Batch:
    """Make one batch."""
    labels = pad([example.target for example in examples], pad_id)
    inputs = torch.cat((torch.full((len(examples), 1), start_id), labels[:, :-1]), dim=1)
    lengths = torch.tensor([len(example.source) for example in examples])
    return Batch(pad([example.source for example in examples], pad_id), lengths, inputs, labels)


class Batches:
    """The batches of pass after pass; pass n depends on (examples, seed, n) alone, so that training can resume."""

    def __init__(self, examples: Sequence[Example], max_tokens: int, seed: int) -> None:
        self._examples = examples
        self._weights = np.array([example.weight for example in examples])
        self._lengths = np.array([(len(example.target), len(example.source)) for example in examples])
        self._max_tokens = max_tokens
        self._seed = seed

    def of_pass(self, number: int) -> list[list[Example]]:
        """Draw, sort by length, cut and shuffle the batches of one pass."""
        rng = np.random.default_rng((self._seed, number))
        copies = np.floor(self._weights + rng.random(len(self._weights))).astype(np.int64)
        drawn = np.repeat(np.arange(len(self._examples)), copies)
        targets, sources = self._lengths[drawn].T
        drawn = drawn[np.lexsort((rng.random(len(drawn)), sources, targets))]
        batches = self._cut(drawn)
        return [[self._examples[index] for index in batches[at]] for at in rng.permutation(len(batches))]

    def _cut(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        batches, start, longest = [], 0, 0
        for end, lengths in enumerate(self._lengths[order].max(axis=1)):
            longest = max(longest, lengths)
            if (end + 1 - start) * longest > self._max_tokens and end > start:
                batches.append(order[start:end])
                start, longest = end, lengths
        batches.append(order[start:])
        return batches
