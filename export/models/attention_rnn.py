"""The `attention-rnn` family: a bidirectional RNN encoder, all its hidden states kept, and an attention decoder."""

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from export.models.attention import ATTENTIONS, Attention
from export.models.recurrent import BidirectionalEncoder, LockedDropout, StackedDecoder

CellKind = Literal["lstm", "gru"]
AttentionKind = Literal["dot", "general", "concat", "none"]


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionRnnConfig:
    """The architecture; sizes are numbers of units."""

    source_vocabulary_size: int
    target_vocabulary_size: int
    cell: CellKind = "lstm"
    attention: AttentionKind = "dot"
    embedding_size: int = 256
    hidden_size: int = 512
    encoder_layers: int = 1
    decoder_layers: int = 1
    input_feeding: bool = False
    tie_output_embedding: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Reject shapes that cannot work, before any weight is allocated."""
        if self.cell not in ("lstm", "gru"):
            raise ValueError(f"cell is {self.cell!r}; use 'lstm' or 'gru'")
        if self.attention not in ("dot", "general", "concat", "none"):
            raise ValueError(f"attention is {self.attention!r}; use 'dot', 'general', 'concat' or 'none'")
        sizes = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name.endswith(("size", "layers"))}
        if too_small := [name for name, value in sizes.items() if not isinstance(value, int) or value < 1]:
            raise ValueError(f"{', '.join(too_small)} must be a whole number of at least 1")
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}; it must be even: half for each encoder direction")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")


class Memory(NamedTuple):
    """What the encoder leaves for the decoder; computed once per sentence.

    `states` and `keys` are `[row, source, hidden]`, `mask` is `[row, source]`, true at real positions. `keys` is what
    the decoder state is scored against: projected here, once, wherever the attention has a projection.
    """

    states: Tensor
    keys: Tensor
    mask: Tensor


class Decoded(NamedTuple):
    """One or more decoded positions.

    `features` is `[row, target, embedding]`, what the output layer turns into words; `attention` is
    `[row, target, source]`, or None for a model without attention; `state` is the state after the last position.
    """

    features: Tensor
    attention: Tensor | None
    state: tuple[Tensor, ...]


class AttentionRnn(nn.Module):
    """Encoder, attention decoder and output layer.

    The attention value is concatenated with the decoder state and goes through tanh, then softmax: equations 5 and 6
    of Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015). With
    attention `none` the decoder gets the encoder's final state and nothing else (Sutskever, Vinyals and Le, "Sequence
    to Sequence Learning with Neural Networks", 2014).
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        self.config = config
        hidden, embedding = config.hidden_size, config.embedding_size
        self.source_embedding = nn.Embedding(config.source_vocabulary_size, embedding, padding_idx=0)
        self.target_embedding = nn.Embedding(config.target_vocabulary_size, embedding, padding_idx=0)
        self.dropout = LockedDropout(config.dropout)
        self.encoder = BidirectionalEncoder(config.cell, embedding, hidden, config.encoder_layers, config.dropout)
        decoder_input = embedding + (embedding if config.input_feeding else 0)
        self.decoder = StackedDecoder(config.cell, decoder_input, hidden, config.decoder_layers, config.dropout)
        self.bridge = nn.ModuleList(nn.Linear(hidden, hidden * config.decoder_layers) for _ in self.decoder.state_names)
        self.attention: Attention | None = None
        if config.attention != "none":
            self.attention = ATTENTIONS[config.attention](hidden)
        self.combine = nn.Linear(hidden * (1 if self.attention is None else 2), embedding)
        self.output = nn.Linear(embedding, config.target_vocabulary_size)
        self._initialize()

    def _initialize(self) -> None:
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=self.config.embedding_size**-0.5)
            with torch.no_grad():
                embedding.weight[0].zero_()
        if self.config.tie_output_embedding:
            self.output.weight = self.target_embedding.weight

    def encode(self, source_ids: Tensor, source_lengths: Tensor) -> tuple[Memory, tuple[Tensor, ...]]:
        """Run the encoder once.

        `source_ids` is `[row, source]` int64, `source_lengths` `[row]` int64. Returns the memory and the decoder's
        initial state, each tensor `[row, layers, hidden]`.
        """
        positions = torch.arange(source_ids.shape[1], device=source_ids.device)
        mask = positions.unsqueeze(0) < source_lengths.unsqueeze(1)
        embedded = self.dropout(self.source_embedding(source_ids))
        states, final = self.encoder(embedded, source_lengths, mask)
        keys = states if self.attention is None else self.attention.keys(states)
        shape = (-1, self.config.decoder_layers, self.config.hidden_size)
        initial = tuple(torch.tanh(bridge(final)).reshape(shape) for bridge in self.bridge)
        if self.config.input_feeding:
            initial += (states.new_zeros(states.shape[0], 1, self.config.embedding_size),)
        return Memory(states, keys, mask), initial

    def decode(self, token_ids: Tensor, state: tuple[Tensor, ...], memory: Memory) -> Decoded:
        """Advance by the given tokens: `[row, target]` int64, one column for a step, all of them in training."""
        embedded = self.dropout(self.target_embedding(token_ids))
        if not self.config.input_feeding:
            return self._advance(embedded, state, memory)
        steps: list[Decoded] = []
        for position in range(token_ids.shape[1]):
            previous = state[-1]
            fed = torch.cat((embedded[:, position : position + 1], previous), dim=-1)
            step = self._advance(fed, state[:-1], memory)
            state = (*step.state, step.features)
            steps.append(step)
        weights = [step.attention for step in steps if step.attention is not None]
        features = torch.cat([step.features for step in steps], dim=1)
        return Decoded(features, torch.cat(weights, dim=1) if weights else None, state)

    def _advance(self, inputs: Tensor, state: tuple[Tensor, ...], memory: Memory) -> Decoded:
        hidden, state = self.decoder(inputs, state)
        if self.attention is None:
            return Decoded(torch.tanh(self.combine(self.dropout(hidden))), None, state)
        attention = self.attention(hidden, memory.keys, memory.mask)
        value = torch.bmm(attention.to(memory.states.dtype), memory.states)
        combined = self.combine(self.dropout(torch.cat((value, hidden.to(value.dtype)), dim=-1)))
        return Decoded(torch.tanh(combined), attention, state)

    def log_probs(self, features: Tensor) -> Tensor:
        """Return log-probabilities `[…, vocabulary]` of features `[…, embedding]`."""
        return torch.log_softmax(self.output(features).float(), dim=-1)
