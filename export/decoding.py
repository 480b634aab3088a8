"""Plain greedy decoding in PyTorch: what quality is measured with, and what exported bundles must agree with."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from export.models.attention_rnn import AttentionRnn
from service.bundle import Decoding

DEFAULTS = Decoding(
    max_source_tokens=200, max_target_tokens=200, target_ratio=2.0, target_offset=20, length_penalty=0.0
)
"""Limits of decoding, here and in the bundles that are made of these models."""


class GreedyOutput(NamedTuple):
    """One row's target ids, without start and end symbol, and at each step the log-probability gap to the runner-up."""

    target_ids: list[int]
    margins: list[float]


class Beam(NamedTuple):
    """Beam search as Hugging Face's library does it: the sum of log-probabilities over length ** `length_penalty`."""

    size: int
    length_penalty: float


class BeamOutput(NamedTuple):
    """The best hypothesis of a row, without start and end symbol, and its score."""

    target_ids: list[int]
    score: float


DecodeBatch = Callable[[Sequence[Sequence[int]]], list[GreedyOutput]]


def pad_sources(sources: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Return ids `[row, source]` and lengths `[row]`, both int64."""
    lengths = torch.tensor([len(source) for source in sources])
    ids = torch.full((len(sources), int(lengths.max())), pad_id)
    for row, source in enumerate(sources):
        ids[row, : len(source)] = torch.as_tensor(source)
    return ids, lengths


class GreedyRows:
    """The rows of a batch as they grow: each ends at its end symbol, or at the limit that its length gives it."""

    def __init__(self, sources: Sequence[Sequence[int]], end_id: int, limits: Decoding = DEFAULTS) -> None:
        self.outputs = [GreedyOutput([], []) for _ in sources]
        self._end_id = end_id
        self._limits = [limits.target_limit(len(source)) for source in sources]
        self._running = set(range(len(sources)))

    @property
    def finished(self) -> bool:
        """Whether no row is left to advance."""
        return not self._running

    def append(self, tokens: Sequence[int], margins: Sequence[float]) -> None:
        """Give each row its next token; rows that have ended ignore it."""
        for row in list(self._running):
            self.outputs[row].margins.append(margins[row])
            if tokens[row] != self._end_id:
                self.outputs[row].target_ids.append(tokens[row])
            if tokens[row] == self._end_id or len(self.outputs[row].target_ids) >= self._limits[row]:
                self._running.remove(row)


@torch.inference_mode()
def greedy(
    model: AttentionRnn, sources: Sequence[Sequence[int]], start_id: int, end_id: int, limits: Decoding = DEFAULTS
) -> list[GreedyOutput]:
    """Decode one batch to its end; the longest row decides how long all of them run."""
    device = model.output.weight.device
    ids, lengths = pad_sources(sources)
    memory, state = model.encode(ids.to(device), lengths.to(device))
    tokens = torch.full((len(sources), 1), start_id, device=device)
    rows = GreedyRows(sources, end_id, limits)
    while not rows.finished:
        decoded = model.decode(tokens, state, memory)
        state = decoded.state
        best = model.log_probs(decoded.features[:, 0]).topk(2, dim=-1)
        tokens = best.indices[:, :1]
        rows.append(tokens[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist())
    return rows.outputs


def in_sorted_batches(
    decode: DecodeBatch, sources: Sequence[Sequence[int]], rows: int = 64
) -> list[GreedyOutput]:  # fmt: skip
    """Decode any number of sentences in batches of similar length; results in the order of the sources."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    outputs: dict[int, GreedyOutput] = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        outputs.update(zip(chosen, decode([sources[index] for index in chosen]), strict=True))
    return [outputs[index] for index in range(len(sources))]


def greedy_sorted(
    model: AttentionRnn, sources: Sequence[Sequence[int]], start_id: int, end_id: int, rows: int = 64
) -> list[GreedyOutput]:
    """Decode any number of sentences with the PyTorch model; results in the order of the sources."""
    return in_sorted_batches(lambda batch: greedy(model, batch, start_id, end_id), sources, rows)
