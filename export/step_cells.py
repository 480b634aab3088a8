"""One step of a recurrent stack as plain matrix products: for one position, faster than an ONNX RNN operator."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

State = tuple[Tensor, ...]


class StackStep(nn.Module):
    """A stack of cells; the state's tensors are `[row, layers, hidden]`."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def cell(self, layer: int, inputs: Tensor, state: State) -> State:
        """Advance one layer: inputs `[row, size]`, state `[row, 1, hidden]`; the next state's first is the output."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance all layers; return the last one's hidden state `[row, hidden]` and the next state."""
        layers = self.rnn.num_layers
        before = [torch.split(part, 1, dim=1) if layers > 1 else (part,) for part in state]
        after: list[State] = []
        for layer in range(layers):
            after.append(self.cell(layer, inputs, tuple(part[layer] for part in before)))
            inputs = after[-1][0].squeeze(1)
        return inputs, tuple(_joined(parts) for parts in zip(*after, strict=True))

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ends = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ih, hh, bias_ih, bias_hh = (self.rnn.get_parameter(f"{end}_l{layer}") for end in ends)
        return ih, hh, bias_ih, bias_hh


class LstmStep(StackStep):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates); PyTorch's gate order i, f, g, o."""

    def cell(self, layer: int, inputs: Tensor, state: State) -> State:
        """Advance one layer: the gates of input and state are one product."""
        hidden, cell = state
        ih, hh, bias_ih, bias_hh = self._weights(layer)
        both = torch.cat((inputs, hidden.squeeze(1)), dim=-1)
        gates = functional.linear(both, torch.cat((ih, hh), dim=1), bias_ih + bias_hh).unsqueeze(1)
        enter, forget, value, leave = torch.split(gates, self.rnn.hidden_size, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(value)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class GruStep(StackStep):
    """Gated recurrent unit (Cho et al. 2014) in PyTorch's form: the reset gate applies after the product."""

    def cell(self, layer: int, inputs: Tensor, state: State) -> State:
        """Advance one layer."""
        (hidden,) = state
        ih, hh, bias_ih, bias_hh = self._weights(layer)
        read = torch.split(functional.linear(inputs, ih, bias_ih).unsqueeze(1), self.rnn.hidden_size, dim=-1)
        kept = torch.split(functional.linear(hidden.squeeze(1), hh, bias_hh).unsqueeze(1), self.rnn.hidden_size, dim=-1)
        reset, update = torch.sigmoid(read[0] + kept[0]), torch.sigmoid(read[1] + kept[1])
        candidate = torch.tanh(read[2] + reset * kept[2])
        return ((1 - update) * candidate + update * hidden,)


def _joined(parts: State) -> Tensor:
    """Put one tensor `[row, 1, hidden]` per layer into `[row, layers, hidden]`; for one layer, without a copy."""
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


CELL_STEPS: dict[str, Callable[[nn.RNNBase], StackStep]] = {"lstm": LstmStep, "gru": GruStep}
