"""The parts of an encoder-decoder Transformer by the same names, whatever Hugging Face's module calls them.

The architectures differ in where they normalize, in what tells positions apart, and in the names of their modules;
`of_model` settles all that, so that there is one encoder graph and one step graph. The weights are the library's own.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Library = Any
"""A module of the library, which does not type its modules' attributes."""


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionParts:
    """Projections of one attention; scores are multiplied by `scale`."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    heads: int
    scale: float


@dataclasses.dataclass(frozen=True, slots=True)
class AttendedParts:
    """An attention and the norm before or behind it."""

    attention: AttentionParts
    norm: nn.Module


@dataclasses.dataclass(frozen=True, slots=True)
class LayerParts:
    """One layer: attention to the sequence itself, to the source (in the decoder alone), and what follows them."""

    own: AttendedParts
    cross: AttendedParts | None
    feed_forward: nn.Module
    feed_forward_norm: nn.Module


@dataclasses.dataclass(frozen=True, slots=True)
class StackParts:
    """The encoder or the decoder.

    `positions` is `[position, width]`, added to the embeddings; `distances` is `[distance, head]`, added to the scores
    of self-attention. Index 0 of the latter is the farthest key behind the query, and both ends hold beyond them.
    """

    embedding: nn.Embedding
    embedding_scale: float
    positions: Tensor | None
    distances: Tensor | None
    embedding_norm: nn.Module
    layers: Sequence[LayerParts]
    final_norm: nn.Module
    norm_first: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """A whole model; `output` turns the decoder's last hidden state into logits."""

    encoder: StackParts
    decoder: StackParts
    output: nn.Linear


class PartsOf(Protocol):
    """Reads the parts of one architecture's modules."""

    def __call__(self, model: PreTrainedModel) -> Parts:
        """Return the parts; they share the model's weights."""


class FeedForward(nn.Module):
    """Two products and what stands between them."""

    def __init__(self, enter: nn.Linear, activation: nn.Module, leave: nn.Linear) -> None:
        super().__init__()
        self.enter, self.activation, self.leave = enter, activation, leave

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `[…, width]` of `[…, width]`."""
        left: Tensor = self.leave(self.activation(self.enter(hidden)))
        return left


class Scaled(nn.Module):
    """A norm whose result is multiplied by a constant."""

    def __init__(self, norm: nn.Module, factor: float) -> None:
        super().__init__()
        self.norm, self.factor = norm, factor

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `[…, width]` of `[…, width]`."""
        scaled: Tensor = self.norm(hidden) * self.factor
        return scaled


def of_bart_like(model: PreTrainedModel) -> Parts:
    """Read BART and its descendants: Marian, mBART, M2M100 and NLLB. Those with a last norm normalize first."""
    whole = cast("Library", model)

    def stack(part: Library) -> StackParts:
        final = getattr(part, "layer_norm", None)
        return StackParts(
            embedding=part.embed_tokens,
            embedding_scale=model.config.d_model**0.5 if model.config.scale_embedding else 1.0,
            positions=_positions(part.embed_positions),
            distances=None,
            embedding_norm=getattr(part, "layernorm_embedding", nn.Identity()),
            layers=[_bart_layer(layer) for layer in part.layers],
            final_norm=final or nn.Identity(),
            norm_first=final is not None,
        )

    output = _output(whole.lm_head.weight, getattr(model, "final_logits_bias", None))
    return Parts(stack(whole.model.encoder), stack(whole.model.decoder), output)


def of_t5(model: PreTrainedModel) -> Parts:
    """Read T5: normalized first, without biases, positions only as distances between query and key."""
    whole = cast("Library", model)
    decoder = _t5_stack(whole.decoder, bidirectional=False)
    if model.config.scale_decoder_outputs:
        final = Scaled(decoder.final_norm, model.config.d_model**-0.5)
        decoder = dataclasses.replace(decoder, final_norm=final)
    return Parts(_t5_stack(whole.encoder, bidirectional=True), decoder, _output(whole.lm_head.weight, None))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Make a product of given weights `[out, in]`; a parameter stays the very same one, so that it is stored once."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


def _output(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Make the last product; with a bias, be it of zeros, the tracer leaves a matrix that is the embedding's as is."""
    return linear(weight, torch.zeros(len(weight)) if bias is None else bias.reshape(-1).clone())


def _positions(module: Library) -> Tensor:
    """Return `[position, width]`, from position 0: two architectures begin their tables with rows for padding."""
    table: Tensor = module.weights if hasattr(module, "weights") else module.weight
    return table[getattr(module, "offset", 0) :].detach()


def _bart_layer(layer: Library) -> LayerParts:
    cross = getattr(layer, "encoder_attn", None)
    return LayerParts(
        AttendedParts(_bart_attention(layer.self_attn), layer.self_attn_layer_norm),
        None if cross is None else AttendedParts(_bart_attention(cross), layer.encoder_attn_layer_norm),
        FeedForward(layer.fc1, layer.activation_fn, layer.fc2),
        layer.final_layer_norm,
    )


def _bart_attention(module: Library) -> AttentionParts:
    return AttentionParts(
        module.q_proj, module.k_proj, module.v_proj, module.out_proj, module.num_heads, module.scaling
    )  # fmt: skip


def _t5_stack(part: Library, *, bidirectional: bool) -> StackParts:
    return StackParts(
        embedding=part.embed_tokens,
        embedding_scale=1.0,
        positions=None,
        distances=_t5_distances(part.block[0].layer[0].SelfAttention, bidirectional=bidirectional),
        embedding_norm=nn.Identity(),
        layers=[_t5_layer(block.layer) for block in part.block],
        final_norm=part.final_layer_norm,
        norm_first=True,
    )


def _t5_layer(layers: Library) -> LayerParts:
    own, *cross, last = layers
    return LayerParts(
        AttendedParts(_t5_attention(own.SelfAttention), own.layer_norm),
        AttendedParts(_t5_attention(cross[0].EncDecAttention), cross[0].layer_norm) if cross else None,
        last.DenseReluDense,
        last.layer_norm,
    )


def _t5_attention(module: Library) -> AttentionParts:
    return AttentionParts(module.q, module.k, module.v, module.o, module.n_heads, 1.0)


def _t5_distances(module: Library, *, bidirectional: bool) -> Tensor:
    """Return `[distance, head]` for keys from `reach` behind the query up to it, or up to `reach` ahead of it."""
    reach = module.relative_attention_max_distance
    distances = torch.arange(-reach, reach + 1 if bidirectional else 1)
    buckets = module._relative_position_bucket(  # noqa: SLF001 # The library offers no other way to its buckets.
        distances, bidirectional, module.relative_attention_num_buckets, reach
    )
    table: Tensor = module.relative_attention_bias(buckets)
    return table.detach()


ARCHITECTURES: dict[str, PartsOf] = {
    "marian": of_bart_like,
    "m2m_100": of_bart_like,
    "mbart": of_bart_like,
    "bart": of_bart_like,
    "t5": of_t5,
}
"""By the `model_type` of config.json; NLLB's is m2m_100."""
