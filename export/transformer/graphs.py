"""The two ONNX graphs of a Transformer: the encoder with what cross-attention reads, and one step with its caches.

The step is made for caches that stay where they are. Each cache is `[row, head, target, size]`, of a capacity that its
owner chooses; `lengths` `[row]` says how many tokens of each row it holds. A step writes its token's column there and
attends to columns up to it and no others. Output and input may share one buffer; then nothing else is copied. A row
that joins begins at length 0, and nobody need clear what an earlier one left, as long as it is finite.
"""

import math
from typing import NamedTuple, cast

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from export.graphs import STATE_PREFIX, Graphs, Signature
from export.selection import select
from export.tracing import Axes, trace_module
from export.transformer.blocks import (
    CachedSelfAttention,
    CrossAttention,
    Layer,
    SelfAttention,
    Stack,
    mask_bias,
)
from export.transformer.operators import CONTRIB_DOMAIN, TRACED_DOMAIN
from export.transformer.parts import Parts
from service.bundle import Axis

OPSET = 24
"""TensorScatter and Attention are not older."""
TRACED_OPSET = 20
IR_VERSION = 10
MASK, LENGTHS, ATTENTION = "mask", "lengths", "attention"
TRACED_ROWS, TRACED_GROUP, TRACED_SOURCE, TRACED_CAPACITY, TRACED_CANDIDATES = 3, 2, 5, 7, 2


class Forced(NamedTuple):
    """What the graph itself sees to: the attended layer, and the word that every target begins with."""

    attention_layer: int
    first_id: int | None


def signature(parts: Parts) -> Signature:
    """Name what the graphs exchange: per decoder layer its keys and values, of the memory and of the cache."""
    layers = range(len(parts.decoder.layers))
    memory = tuple(f"cross_{what}_{layer}" for layer in layers for what in ("keys", "values"))
    state = tuple(f"{what}_{layer}" for layer in layers for what in ("keys", "values"))
    return Signature((*memory, MASK), state, ATTENTION)


class EncoderGraph(nn.Module):
    """`source_ids` `[row, source]`, `source_lengths` `[row]` to the memory: all decoder layers' keys and values."""

    def __init__(self, parts: Parts, stack: Stack, decoder: Stack) -> None:
        super().__init__()
        self.stack = stack
        self.readers = nn.ModuleList(layer.cross_attention for layer in cast("list[Layer]", decoder.layers))
        self.reach = 0 if parts.encoder.distances is None else (len(parts.encoder.distances) - 1) // 2

    def forward(self, source_ids: Tensor, source_lengths: Tensor) -> tuple[Tensor, ...]:
        """Run the encoder once."""
        rows, positions = source_ids.shape[0], torch.arange(source_ids.shape[1])
        mask = positions.unsqueeze(0) < source_lengths.unsqueeze(1)
        bias = mask_bias(mask[:, None, None]).expand(-1, -1, source_ids.shape[1], -1)
        if self.stack.distances is not None:
            bias = bias + self.stack.distance_bias(positions.unsqueeze(0) - positions.unsqueeze(1), self.reach)
        hidden = self.stack.embed(source_ids, positions).flatten(0, 1)
        for layer in cast("list[Layer]", self.stack.layers):
            hidden = _encode(layer, hidden, rows, bias)
        states = self.stack.final_norm(hidden)
        real = mask[:, None, :, None].float()  # Padding is written as zeros.
        memory = [
            part * real for reader in cast("list[CrossAttention]", self.readers) for part in reader.memory(states, rows)
        ]
        return *memory, mask


class StepGraph(nn.Module):
    """`token_ids` `[row]`, `k` `[1]`, `lengths` `[row]`, memory and caches to the selection, caches and attention."""

    def __init__(self, parts: Parts, stack: Stack, forced: Forced) -> None:
        super().__init__()
        self.stack, self.output, self.forced = stack, parts.output, forced
        self.reach = 0 if parts.decoder.distances is None else len(parts.decoder.distances) - 1

    def forward(self, token_ids: Tensor, k: Tensor, lengths: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
        """Advance every row by one token; `carried` is the memory, its mask, then the caches."""
        layers = self.stack.layers
        memory, mask, caches = carried[: 2 * len(layers)], carried[2 * len(layers)], carried[2 * len(layers) + 1 :]
        places = torch.arange(caches[0].shape[2])
        bias = mask_bias(places <= lengths.reshape(-1, 1, 1, 1))
        if self.stack.distances is not None:
            bias = bias + self.stack.distance_bias(places - lengths.reshape(-1, 1, 1), self.reach)
        unseen = mask_bias(mask[:, None, None])
        hidden = self.stack.embed(token_ids, lengths)
        written: list[Tensor] = []
        weights: list[Tensor] = []
        for number, layer in enumerate(cast("list[Layer]", layers)):
            at = slice(2 * number, 2 * number + 2)
            hidden, cache = _attend_to_itself(layer, hidden, caches[at], lengths, bias)
            hidden, attention = _attend_to_source(layer, hidden, memory[at], unseen)
            hidden = layer.feed(hidden)
            written += cache
            weights.append(attention)
        chosen = self._select(self.output(self.stack.final_norm(hidden)), k, lengths)
        attention = weights[self.forced.attention_layer].mean(dim=1).flatten(0, 1)
        return *chosen, *written, attention

    def _select(self, logits: Tensor, k: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and ids `[row, k]`; of a row's first word, perhaps the forced one."""
        log_probs, ids = select(logits, k)
        if self.forced.first_id is None:
            return log_probs, ids
        only = (torch.arange(ids.shape[1]) == 0).unsqueeze(0)
        first = (lengths == 0).unsqueeze(1)
        log_probs = torch.where(first, torch.where(only, 0.0, -math.inf), log_probs)
        # The best word takes the forced one's place, so that none stands there twice.
        others = torch.where(ids == self.forced.first_id, ids[:, :1], ids)
        return log_probs, torch.where(first, torch.where(only, self.forced.first_id, others), ids)


def _encode(layer: Layer, hidden: Tensor, rows: int, bias: Tensor) -> Tensor:
    change = layer.self_attention(layer.enter(hidden, layer.self_norm), rows, bias)
    fed: Tensor = layer.feed(layer.leave(hidden, change, layer.self_norm))
    return fed


def _attend_to_itself(
    layer: Layer, hidden: Tensor, cache: tuple[Tensor, ...], lengths: Tensor, bias: Tensor
) -> tuple[Tensor, list[Tensor]]:
    change, cache_after = layer.self_attention(layer.enter(hidden, layer.self_norm), cache, lengths, bias)
    return layer.leave(hidden, change, layer.self_norm), cache_after


def _attend_to_source(
    layer: Layer, hidden: Tensor, memory: tuple[Tensor, ...], bias: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    change, weights = layer.cross_attention(layer.enter(hidden, layer.cross_norm), *memory, bias)
    return layer.leave(hidden, change, layer.cross_norm), weights


def trace(parts: Parts, forced: Forced, own: type[CachedSelfAttention] = CachedSelfAttention) -> Graphs:
    """Trace both graphs; every axis but the sizes of layers is dynamic. `own` reads a row's past in the step."""
    names = signature(parts)
    encoder_stack, decoder_stack = Stack(parts.encoder, SelfAttention), Stack(parts.decoder, own)
    encoder = EncoderGraph(parts, encoder_stack, decoder_stack)
    sources = {"source_ids": torch.ones(TRACED_ROWS, TRACED_SOURCE, dtype=torch.int64),
               "source_lengths": torch.arange(TRACED_SOURCE, TRACED_SOURCE - TRACED_ROWS, -1)}  # fmt: skip
    with torch.no_grad():
        memory = dict(zip(names.memory, encoder(*sources.values()), strict=True))
    rows = TRACED_ROWS * TRACED_GROUP
    size = memory["cross_keys_0"].shape[3]
    heads = memory["cross_keys_0"].shape[1]
    cache = torch.zeros(rows, heads, TRACED_CAPACITY, size)
    steps = {"token_ids": torch.ones(rows, dtype=torch.int64), "k": torch.tensor([TRACED_CANDIDATES]),
             LENGTHS: torch.arange(rows) % TRACED_CAPACITY, **memory, **dict.fromkeys(names.state, cache)}  # fmt: skip

    def remembered(row: Axis) -> dict[str, tuple[Axis, ...]]:
        return {name: (row, "source") if name == MASK else (row, heads, "source", size) for name in names.memory}

    column: tuple[Axis, ...] = ("row", heads, "target", size)
    reads: Axes = {"token_ids": ("row",), "k": (1,), LENGTHS: ("row",), **remembered("group"),
             **dict.fromkeys(names.state, column)}  # fmt: skip
    writes: Axes = {"log_probs": ("row", "candidate"), "ids": ("row", "candidate"),
              **{STATE_PREFIX + name: column for name in names.state}, ATTENTION: ("row", "source")}  # fmt: skip
    encoded = trace_module(encoder, sources, remembered("row"), {"source_ids": ("row", "source"),
                           "source_lengths": ("row",)}, TRACED_OPSET)  # fmt: skip
    step = trace_module(StepGraph(parts, decoder_stack, forced), steps, writes, reads, TRACED_OPSET)
    return Graphs(names, _raised(encoded), _raised(step))


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a graph to the opset of operators that the tracer does not know; others only gained types since."""
    for node in model.graph.node:
        if node.domain == TRACED_DOMAIN:
            node.domain = ""
    del model.opset_import[:]
    contrib = {node.domain for node in model.graph.node} & {CONTRIB_DOMAIN}
    model.opset_import.extend(helper.make_opsetid(domain, 1 if domain else OPSET) for domain in ("", *contrib))
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model
