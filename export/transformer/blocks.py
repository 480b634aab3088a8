"""Layers of a Transformer in the form that is traced.

The encoder attends by ONNX's Attention, whose queries, keys and values are products of their own and lie as these leave
them. One position per row is another matter: plain products over the memory take no longer, and give attention weights.
A row's own past is read in one of two ways: by plain products over the caches, or by an operator that reads no more
than the row has.
"""

import torch
from torch import Tensor, nn

from export.transformer.operators import AttendToAll, AttendToPast, WriteColumn
from export.transformer.parts import AttentionParts, LayerParts, StackParts, linear

MASKED = -1e9
"""Added to a score that must not count; not minus infinity, because a row without any key must not become NaN."""


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, sections 3.2.1 and 3.2.2)."""

    def __init__(self, parts: AttentionParts) -> None:
        super().__init__()
        self.heads = parts.heads
        self.size = parts.query.out_features // parts.heads
        self.out = parts.out

    def split(self, values: Tensor, rows: int) -> Tensor:
        """Return `[row, head, position, size]` of `[row · position, head · size]`."""
        return values.reshape(rows, -1, self.heads, self.size).transpose(1, 2)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[row, head, query, size]` and the weights `[row, head, query, key]`."""
        weights = torch.softmax(queries @ keys.transpose(2, 3) + bias, dim=-1)
        return weights @ values, weights

    def join(self, mixed: Tensor) -> Tensor:
        """Return `[row · query, width]` of `[row, query, head, size]`, its last two axes in one or not."""
        out: Tensor = self.out(mixed.reshape(-1, self.heads * self.size))
        return out


class SelfAttention(Attention):
    """Attention of a whole sequence to itself."""

    def __init__(self, parts: AttentionParts) -> None:
        super().__init__(parts)
        self.query, self.key, self.value = fused((parts.query, parts.scale)), parts.key, parts.value

    def forward(self, hidden: Tensor, rows: int, bias: Tensor) -> Tensor:
        """Attend from all positions to all, `[row · position, width]` to the same."""
        parts = [
            project(hidden).reshape(rows, -1, self.heads * self.size) for project in (self.query, self.key, self.value)
        ]
        mixed: Tensor = AttendToAll.apply(*parts, bias, self.heads)  # type: ignore[no-untyped-call] # torch leaves it so
        return self.join(mixed)


class CachedSelfAttention(Attention):
    """Attention of a sequence's last position to itself and those in its cache: one product for all three parts."""

    def __init__(self, parts: AttentionParts) -> None:
        super().__init__(parts)
        self.project = fused((parts.query, parts.scale), (parts.key, 1.0), (parts.value, 1.0))

    def forward(self, hidden: Tensor, cache: tuple[Tensor, ...], lengths: Tensor, bias: Tensor
             ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Attend from one position per row, `[row, width]`, to the cache and itself; return it with the next cache."""
        # One position needs no transposition, and reshaping by constants no look at the number of rows.
        heads = self.project(hidden).reshape(-1, 3 * self.heads, 1, self.size)
        queries, *columns = torch.split(heads, self.heads, dim=1)
        keys, values = (write_column(old, new, lengths) for old, new in zip(cache, columns, strict=True))
        mixed, _ = self.mix(queries, keys, values, bias)
        return self.join(mixed), [keys, values]


class GroupedSelfAttention(CachedSelfAttention):
    """The same by one operator, which reads each row's own past instead of the capacity: for the CPU, in float32."""

    def forward(self, hidden: Tensor, cache: tuple[Tensor, ...], lengths: Tensor, _: Tensor
             ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Attend from one position per row, `[row, width]`; what lies behind a row's length needs no bias."""
        parts = self.project(hidden).unsqueeze(1)
        mixed, *written = AttendToPast.apply(parts, *cache, lengths, self.heads)  # type: ignore[no-untyped-call] # torch leaves it so
        return self.join(mixed), written


class CrossAttention(Attention):
    """Attention to the memory: keys and values are projected once per source."""

    def __init__(self, parts: AttentionParts) -> None:
        super().__init__(parts)
        self.query = fused((parts.query, parts.scale))
        self.key, self.value = parts.key, parts.value

    def memory(self, states: Tensor, rows: int) -> tuple[Tensor, ...]:
        """Return keys and values `[row, head, source, size]` of the encoder's states `[row · source, width]`."""
        return tuple(self.split(project(states), rows) for project in (self.key, self.value))

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from `[row, width]`; the rows of one source lie together and share its memory `[group, …]`.

        The weights are `[group, head, row of the group, source]`.
        """
        queries = self.split(self.query(hidden), bias.shape[0])
        mixed, weights = self.mix(queries, keys, values, bias)
        return self.join(mixed.transpose(1, 2)), weights


class Layer(nn.Module):
    """One layer of either stack."""

    def __init__(self, parts: LayerParts, own: type[Attention], *, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attention, self.self_norm = own(parts.own.attention), parts.own.norm
        if parts.cross is not None:
            self.cross_attention, self.cross_norm = CrossAttention(parts.cross.attention), parts.cross.norm
        self.feed_forward, self.feed_forward_norm = parts.feed_forward, parts.feed_forward_norm

    def enter(self, hidden: Tensor, norm: nn.Module) -> Tensor:
        """Return what a part of the layer reads."""
        read: Tensor = norm(hidden) if self.norm_first else hidden
        return read

    def leave(self, hidden: Tensor, change: Tensor, norm: nn.Module) -> Tensor:
        """Return the hidden state after a part of the layer."""
        left: Tensor = hidden + change if self.norm_first else norm(hidden + change)
        return left

    def feed(self, hidden: Tensor) -> Tensor:
        """Go through the feed-forward part."""
        change = self.feed_forward(self.enter(hidden, self.feed_forward_norm))
        return self.leave(hidden, change, self.feed_forward_norm)


class Stack(nn.Module):
    """Embeddings and layers of the encoder or the decoder; `own` is how they attend to the sequence itself."""

    def __init__(self, parts: StackParts, own: type[Attention]) -> None:
        super().__init__()
        self.embedding, self.scale = parts.embedding, parts.embedding_scale
        self.positions = None if parts.positions is None else nn.Embedding.from_pretrained(parts.positions)
        self.distances = None if parts.distances is None else nn.Embedding.from_pretrained(parts.distances)
        self.embedding_norm, self.final_norm = parts.embedding_norm, parts.final_norm
        self.layers = nn.ModuleList(Layer(layer, own, norm_first=parts.norm_first) for layer in parts.layers)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return `[…, width]` of ids `[…]` at positions that broadcast to them."""
        # Not the embedding's own call: some scale in it, some do not.
        embedded = nn.functional.embedding(ids, self.embedding.weight)
        if self.scale != 1.0:
            embedded = embedded * self.scale
        if self.positions is not None:
            embedded = embedded + self.positions(positions)
        normed: Tensor = self.embedding_norm(embedded)
        return normed

    def distance_bias(self, distances: Tensor, behind: int) -> Tensor:
        """Return `[…, head, query, key]` for key minus query positions `[…, query, key]`; `behind` is the reach."""
        if self.distances is None:
            raise TypeError("this stack has no distances: this is a bug")
        places = torch.clamp(distances + behind, 0, self.distances.num_embeddings - 1)
        bias: Tensor = self.distances(places)
        return bias.transpose(-1, -2).transpose(-2, -3)


def write_column(cache: Tensor, column: Tensor, lengths: Tensor) -> Tensor:
    """Return the cache `[row, head, target, size]` with `column` `[row, head, 1, size]` at `lengths` `[row]`."""
    written: Tensor = WriteColumn.apply(cache, column, lengths)  # type: ignore[no-untyped-call] # torch leaves it so
    return written


def fused(*scaled: tuple[nn.Linear, float]) -> nn.Linear:
    """Make one product of several of the same input, each multiplied by its factor."""
    weight = torch.cat([part.weight.detach() * factor for part, factor in scaled])
    if scaled[0][0].bias is None:  # Typed as always there.
        return linear(weight, None)  # type: ignore[unreachable]
    return linear(weight, torch.cat([part.bias.detach() * factor for part, factor in scaled]))


def mask_bias(mask: Tensor) -> Tensor:
    """Return 0 where the mask is true and a very low score elsewhere."""
    return torch.where(mask, 0.0, MASKED)
