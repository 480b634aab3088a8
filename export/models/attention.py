"""How a decoder state is scored against the encoder's hidden states."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax of masked scores; the score is what the kinds differ in (Luong 2015, section 3.1)."""

    projects_keys: ClassVar[bool] = False
    """Whether keys are a tensor of their own; otherwise the encoder states serve as keys."""

    def keys(self, states: Tensor) -> Tensor:
        """Project encoder states `[row, source, hidden]` once per sentence; the identity unless a kind says else."""
        return states

    def scores(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """Score decoder states `[row, target, hidden]` against keys: `[row, target, source]`."""
        return torch.bmm(hidden.to(keys.dtype), keys.transpose(1, 2))

    def forward(self, hidden: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return weights `[row, target, source]` that are zero at padding and sum to one."""
        scores = self.scores(hidden, keys).float()
        return torch.softmax(torch.where(mask.unsqueeze(1), scores, -1e9), dim=-1)


class DotAttention(Attention):
    """score = hᵗ·s (Luong 2015, equation 8, `dot`)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size


class GeneralAttention(Attention):
    """score = hᵗ·W·s (Luong 2015, equation 8, `general`)."""

    projects_keys = True

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, hidden_size, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Return W·s: the product with h is all that is left to a step."""
        projected: Tensor = self.project(states)
        return projected


class ConcatAttention(Attention):
    """score = vᵗ·tanh(W·h + U·s) (Bahdanau, Cho and Bengio 2015, appendix A.1.2)."""

    projects_keys = True

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.energy = nn.Linear(hidden_size, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Return U·s."""
        projected: Tensor = self.project(states)
        return projected

    def scores(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """Score by a one-layer network; `[row, target, source, hidden]` lives for the moment of the call."""
        mixed = torch.tanh(self.query(hidden).unsqueeze(2) + keys.unsqueeze(1))
        energies: Tensor = self.energy(mixed).squeeze(-1)
        return energies


ATTENTIONS: dict[str, Callable[[int], Attention]] = {
    "dot": DotAttention,
    "general": GeneralAttention,
    "concat": ConcatAttention,
}
