"""The two ONNX graphs of a bundle: the encoder, and one step of the decoder, traced from the PyTorch model.

Both are rewritten for inference before they are traced; the weights are the model's own.

- Encoder: the two directions of a layer become one packed bidirectional RNN. The exporter turns it into one ONNX
  operator that honours lengths, instead of two operators and two gathers.
- Step: the recurrent cells become matrix products, and the words are chosen inside the graph.
"""

from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from export.models.attention_rnn import AttentionRnn, Memory
from export.models.recurrent import CELLS
from export.selection import select
from export.step_cells import CELL_STEPS
from export.tracing import trace_module
from service.bundle import Axis

DEFAULT_OPSET = 20
STATE_PREFIX = "next_"
"""The state that a step reads as `x` it writes as `next_x`."""
FED = "fed"
MEMORY = ("states", "keys", "mask")
TRACED_ROWS, TRACED_SOURCE, TRACED_CANDIDATES = 3, 5, 2
TRACED_GROUP = 2
"""Rows that share a source's memory in the traced step."""


class Signature(NamedTuple):
    """Names of the tensors that the two graphs exchange; the order is the graphs'."""

    memory: tuple[str, ...]
    state: tuple[str, ...]
    attention: str | None
    bounded: tuple[str, ...] = ()
    """Those of memory and state that lie in [-1, 1] whatever the source."""


class Graphs(NamedTuple):
    """Both graphs of one model."""

    signature: Signature
    encoder: onnx.ModelProto
    decoder_step: onnx.ModelProto


def signature(model: AttentionRnn) -> Signature:
    """Say what this model's graphs exchange. Where keys and states are one tensor, memory holds it once.

    What an LSTM or GRU puts out lies in [-1, 1], an LSTM's cell does not.
    """
    state = model.decoder.state_names + ((FED,) if model.config.input_feeding else ())
    bounded = tuple(name for name in ("states", *state) if name != "cell")
    if model.attention is None:
        return Signature((), state, None, bounded)
    keys = ("keys",) if model.attention.projects_keys else ()
    return Signature(("states", *keys, "mask"), state, "attention", bounded)


class EncoderGraph(nn.Module):
    """`source_ids` `[row, source]`, `source_lengths` `[row]` to the memory tensors and the initial state."""

    def __init__(self, model: AttentionRnn) -> None:
        super().__init__()
        config = model.config
        self.model = model
        self.signature = signature(model)
        rnn = CELLS[config.cell](
            config.embedding_size, config.hidden_size // 2, config.encoder_layers, bidirectional=True
        )
        for layer in range(config.encoder_layers):
            for suffix, directions in (("", model.encoder.forwards), ("_reverse", model.encoder.backwards)):
                for name, weight in directions[layer].named_parameters():
                    rnn.get_parameter(name.replace("_l0", f"_l{layer}") + suffix).data = weight.data
        self.rnn = rnn

    def forward(self, source_ids: Tensor, source_lengths: Tensor) -> tuple[Tensor, ...]:
        """Run the encoder once."""
        embedded = self.model.source_embedding(source_ids.t())
        outputs, final = self.rnn(pack_padded_sequence(embedded, source_lengths))
        states = pad_packed_sequence(outputs)[0].transpose(0, 1)
        last = (final[0] if isinstance(final, tuple) else final)[-2:]
        memory = self._memory(source_ids, source_lengths, states)
        # Without attention nobody reads the states, but the exporter cannot trace a packed RNN whose outputs are
        # unused; `trace` drops the output again.
        return tuple(memory[name] for name in self.signature.memory or ("states",)) + self._initial_state(last)

    def _memory(self, source_ids: Tensor, source_lengths: Tensor, states: Tensor) -> dict[str, Tensor]:
        if self.model.attention is None:
            return {"states": states}
        positions = torch.arange(source_ids.shape[1])
        mask = positions.unsqueeze(0) < source_lengths.unsqueeze(1)
        return {"states": states, "keys": self.model.attention.keys(states), "mask": mask}

    def _initial_state(self, last: Tensor) -> tuple[Tensor, ...]:
        config = self.model.config
        final = torch.cat((last[0], last[1]), dim=-1)
        shape = (-1, config.decoder_layers, config.hidden_size)
        state = tuple(torch.tanh(bridge(final)).reshape(shape) for bridge in self.model.bridge)
        if config.input_feeding:
            state += ((final[:, : config.embedding_size] * 0.0).unsqueeze(1),)
        return state


class StepGraph(nn.Module):
    """`token_ids` `[row]`, `k` `[1]`, memory and state to `log_probs` and `ids` `[row, k]`, state and attention.

    The rows of a group lie together and share its memory `[group, source, …]`: one product serves all of them.
    """

    def __init__(self, model: AttentionRnn) -> None:
        super().__init__()
        self.model = model
        self.signature = signature(model)
        self.cell = CELL_STEPS[model.config.cell](model.decoder.rnn)

    def forward(self, token_ids: Tensor, k: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
        """Advance every row by one token; `carried` is the memory, then the state, in the signature's order."""
        memory = dict(zip(self.signature.memory, carried, strict=False))
        state = carried[len(memory) :]
        inputs = self.model.target_embedding(token_ids)
        if self.model.config.input_feeding:
            inputs = torch.cat((inputs, state[-1].squeeze(1)), dim=-1)
            state = state[:-1]
        hidden, state = self.cell(inputs, state)
        features, attention = self._attend(hidden, memory)
        if self.model.config.input_feeding:
            state += (features.unsqueeze(1),)
        return *select(self.model.output(features), k), *state, *attention

    def _attend(self, hidden: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.model.attention is None:
            return torch.tanh(self.model.combine(hidden)), ()
        recalled = Memory(memory["states"], memory.get("keys", memory["states"]), memory["mask"])
        queries = hidden.reshape(recalled.states.shape[0], -1, self.model.config.hidden_size)
        weights = self.model.attention(queries, recalled.keys, recalled.mask)
        value = torch.matmul(weights, recalled.states).flatten(0, -2)
        features = torch.tanh(self.model.combine(torch.cat((value, hidden), dim=-1)))
        return features, (weights.flatten(0, -2),)


def trace(model: AttentionRnn, opset: int = DEFAULT_OPSET) -> Graphs:
    """Trace both graphs; every axis but the sizes of layers is dynamic."""
    names = signature(model)
    ids = torch.ones(TRACED_ROWS, TRACED_SOURCE, dtype=torch.int64)
    lengths = torch.arange(TRACED_SOURCE, TRACED_SOURCE - TRACED_ROWS, -1)
    writes = (*(names.memory or ("states",)), *names.state)
    encoder, encoded = _export(EncoderGraph(model), {"source_ids": ids, "source_lengths": lengths}, writes, opset)
    _keep_outputs(encoder, (*names.memory, *names.state))
    tokens = torch.ones(TRACED_ROWS * TRACED_GROUP, dtype=torch.int64)
    reads = {"token_ids": tokens, "k": torch.tensor([TRACED_CANDIDATES])}
    reads |= {name: encoded[name] for name in names.memory}
    reads |= {name: encoded[name].repeat_interleave(TRACED_GROUP, dim=0) for name in names.state}
    writes = ("log_probs", "ids", *(STATE_PREFIX + name for name in names.state), *filter(None, (names.attention,)))
    step, _ = _export(StepGraph(model), reads, writes, opset)
    return Graphs(names, encoder, step)


def axes_of(name: str, tensor: Tensor) -> tuple[Axis, ...]:
    """Name the dynamic axes of a tensor of either graph; the others have the size that they have."""
    if name == "k":
        return (1,)
    axes: list[Axis] = ["row", *tensor.shape[1:]]
    if name in ("log_probs", "ids"):
        axes[1] = "candidate"
    elif name in ("source_ids", "attention", *MEMORY):
        axes[1] = "source"
    return tuple(axes)


def _export(module: nn.Module, inputs: dict[str, Tensor], writes: tuple[str, ...], opset: int
            ) -> tuple[onnx.ModelProto, dict[str, Tensor]]:  # fmt: skip
    """Trace one module; return its graph and what it made of the inputs."""
    module.eval()
    with torch.no_grad():
        outputs = dict(zip(writes, module(*inputs.values()), strict=True))
    reads = {name: axes_of(name, tensor) for name, tensor in inputs.items()}
    reads |= {name: ("group", *reads[name][1:]) for name in inputs if name in MEMORY}
    written = {name: axes_of(name, tensor) for name, tensor in outputs.items()}
    graph = trace_module(module, inputs, written, reads, opset)
    onnx.checker.check_model(graph)
    return graph, outputs


def _keep_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Drop the other outputs; ONNX Runtime drops the nodes that only they needed."""
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
