"""Recurrent layers with time in the second axis and no influence of padding, in a form that trains fast."""

import torch
from torch import Tensor, nn

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
STATE_NAMES: dict[str, tuple[str, ...]] = {"lstm": ("hidden", "cell"), "gru": ("hidden",)}


def reverse_within_lengths(inputs: Tensor, index: Tensor) -> Tensor:
    """Reorder `[row, time, size]` along time by `index` `[row, time]`."""
    return torch.gather(inputs, 1, index.unsqueeze(-1).expand(-1, -1, inputs.shape[2]))


class LockedDropout(nn.Module):
    """Dropout with one mask for all time steps of a row (Gal and Ghahramani 2016), and so one draw for all of them."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale or drop units of `[row, time, size]`; the identity outside training."""
        if not self.training or self.probability == 0.0:
            return inputs
        kept = torch.empty_like(inputs[:, :1]).bernoulli_(1 - self.probability).div_(1 - self.probability)
        return inputs * kept


class BidirectionalEncoder(nn.Module):
    """A stack of bidirectional layers.

    The backward direction runs over each row reversed within its own length, so that padding stays behind the words
    in both directions: what packed sequences compute, without their slow kernels. The exported graph says the same
    with one operator that honours lengths (`export/graphs.py`).
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (layers - 1)
        self.forwards = nn.ModuleList(CELLS[cell](size, hidden_size // 2, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(CELLS[cell](size, hidden_size // 2, batch_first=True) for size in sizes)
        self.dropout = LockedDropout(dropout)

    def forward(self, inputs: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return all states `[row, source, hidden]`, zero at padding, and the final ones `[row, hidden]`.

        The final state is the forward direction's at the last word and the backward direction's at the first.
        """
        positions = torch.arange(inputs.shape[1], device=inputs.device).unsqueeze(0)
        reverse = torch.where(mask, lengths.unsqueeze(1) - 1 - positions, positions)
        states = inputs
        for layer, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if layer:
                states = self.dropout(states)
            ahead, _ = forwards(states)
            back, _ = backwards(reverse_within_lengths(states, reverse))
            states = torch.cat((ahead, reverse_within_lengths(back, reverse)), dim=-1)
        states = states * mask.unsqueeze(-1).to(states.dtype)
        half = states.shape[2] // 2
        last = (lengths - 1).reshape(-1, 1, 1).expand(-1, 1, half)
        final = torch.cat((torch.gather(states[:, :, :half], 1, last).squeeze(1), states[:, 0, half:]), dim=-1)
        return states, final


class StackedDecoder(nn.Module):
    """A stack of unidirectional layers whose state is a tuple of `[row, layers, hidden]` tensors."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.state_names = STATE_NAMES[cell]
        self.rnn = CELLS[cell](
            input_size, hidden_size, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run over `[row, target, size]`; return hidden states `[row, target, hidden]` and the next state."""
        layer_first = tuple(part.transpose(0, 1).contiguous() for part in state)
        hidden, following = self.rnn(inputs, layer_first if len(layer_first) > 1 else layer_first[0])
        parts = following if isinstance(following, tuple) else (following,)
        return hidden, tuple(part.transpose(0, 1) for part in parts)
