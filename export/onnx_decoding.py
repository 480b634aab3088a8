"""Greedy decoding of a bundle through ONNX Runtime, without the engine's search: what the bundle itself says."""

from collections.abc import Sequence

from export.decoding import GreedyOutput, GreedyRows, in_sorted_batches, pad_sources
from service.engine.lane import Lane
from service.engine.layout import Layout
from service.engine.session import OnnxModel


def greedy(model: OnnxModel, sources: Sequence[Sequence[int]]) -> list[GreedyOutput]:
    """Decode one batch to its end."""
    special = model.manifest.tokenizer
    ids, lengths = pad_sources(sources, special.pad_id)
    encoded = model.encode(ids.numpy(), lengths.numpy())
    lane = Lane(model, Layout.of(model.manifest), 1)
    lane.insert(encoded, lengths.numpy(), range(len(sources)), special.start_id)
    rows = GreedyRows(sources, special.end_id, model.manifest.decoding)
    while not rows.finished:
        stepped = lane.advance(2, attention=False)
        lane.tokens = stepped.ids[:, 0].copy()
        rows.append(lane.tokens.tolist(), (stepped.log_probs[:, 0] - stepped.log_probs[:, 1]).tolist())
    return rows.outputs


def greedy_sorted(model: OnnxModel, sources: Sequence[Sequence[int]], rows: int = 64) -> list[GreedyOutput]:
    """Decode any number of sentences; results in the order of the sources."""
    return in_sorted_batches(lambda batch: greedy(model, batch), sources, rows)
