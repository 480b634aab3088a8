"""What the recipe asks of a model that it trains, and the attention RNN's answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from export import checkpoint, vocabulary
from export.models.attention_rnn import AttentionRnn
from export.training import evaluate
from export.training.batches import Batch


class Learner(Protocol):
    """A model in training: its module, and what differs between families."""

    pad_id: int
    """Stands behind the end of shorter rows."""
    start_id: int
    """Stands before the first target token."""

    @property
    def model(self) -> nn.Module:
        """The module whose parameters learn."""

    def logits(self, batch: Batch) -> Tensor:
        """Return `[token, vocabulary]`: one row for each label that is no padding, in the order of the labels."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate greedily."""

    def save(self) -> None:
        """Write the checkpoint."""


class AttentionRnnLearner:
    """An attention RNN, and the folder of its checkpoint and vocabularies."""

    pad_id, start_id = vocabulary.PAD_ID, vocabulary.START_ID

    def __init__(self, model: AttentionRnn, folder: Path) -> None:
        self.model = model
        self._folder = folder

    def logits(self, batch: Batch) -> Tensor:
        """Return `[token, vocabulary]` of the labels that are no padding."""
        memory, state = self.model.encode(batch.source, batch.source_lengths)
        decoded = self.model.decode(batch.inputs, state, memory)
        logits: Tensor = self.model.output(self.model.dropout(decoded.features)[batch.labels != self.pad_id])
        return logits

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate greedily."""
        return evaluate.translate(self.model, texts, self._folder)

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.model, self._folder)
