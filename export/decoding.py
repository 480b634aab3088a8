"""Plain greedy decoding in PyTorch: what quality is measured with, and what exported bundles must agree with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from export.models.attention_rnn import AttentionRnn


class GreedyOutput(NamedTuple):
    """One row's target ids, without start and end symbol, and the smallest gap of log-probability to the runner-up."""

    target_ids: list[int]
    margins: list[float]


def pad_sources(sources: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Return ids `[row, source]` and lengths `[row]`, both int64."""
    lengths = torch.tensor([len(source) for source in sources])
    ids = torch.full((len(sources), int(lengths.max())), pad_id)
    for row, source in enumerate(sources):
        ids[row, : len(source)] = torch.as_tensor(source)
    return ids, lengths


@torch.inference_mode()
def greedy(
    model: AttentionRnn, sources: Sequence[Sequence[int]], start_id: int, end_id: int, max_target_tokens: int
) -> list[GreedyOutput]:
    """Decode one batch to its end; the longest row decides how long all of them run."""
    device = model.output.weight.device
    ids, lengths = pad_sources(sources)
    memory, state = model.encode(ids.to(device), lengths.to(device))
    tokens = torch.full((len(sources), 1), start_id, device=device)
    outputs: list[GreedyOutput] = [GreedyOutput([], []) for _ in sources]
    running = torch.ones(len(sources), dtype=torch.bool, device=device)
    for _ in range(max_target_tokens):
        decoded = model.decode(tokens, state, memory)
        state = decoded.state
        best = model.log_probs(decoded.features[:, 0]).topk(2, dim=-1)
        tokens = best.indices[:, :1]
        gaps = (best.values[:, 0] - best.values[:, 1]).tolist()
        for row, (token, alive) in enumerate(zip(tokens[:, 0].tolist(), running.tolist(), strict=True)):
            if alive:
                outputs[row].margins.append(gaps[row])
                if token != end_id:
                    outputs[row].target_ids.append(token)
        running &= tokens[:, 0] != end_id
        if not running.any():
            break
    return outputs


def greedy_sorted(
    model: AttentionRnn, sources: Sequence[Sequence[int]], start_id: int, end_id: int, rows: int = 64
) -> list[GreedyOutput]:
    """Decode any number of sentences in batches of similar length; results in the order of the sources."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    outputs: dict[int, GreedyOutput] = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        longest = max(len(sources[index]) for index in chosen)
        batch = greedy(model, [sources[index] for index in chosen], start_id, end_id, 2 * longest + 20)
        outputs.update(zip(chosen, batch, strict=True))
    return [outputs[index] for index in range(len(sources))]
