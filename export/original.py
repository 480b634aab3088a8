"""What the making of a bundle asks of a trained model in PyTorch, whatever its family."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from export.decoding import Beam, BeamOutput, GreedyOutput
from export.graphs import Graphs
from service.bundle import Decoding, Precision, Tokenizer


class Advanced(NamedTuple):
    """One step: log-probabilities `[row, vocabulary]`, and attention `[row, source]` where the model has one."""

    log_probs: Tensor
    attention: Tensor | None


class Languages(NamedTuple):
    """What a model of many languages or tasks is to do: BCP-47 codes or the model's own, and text before a source."""

    source: str
    target: str
    task: str = ""


class Facts(NamedTuple):
    """What the manifest says of a model, and what it is proved with."""

    family: str
    limits: Decoding
    tokenizer: Tokenizer
    tokenizer_files: Mapping[str, bytes]
    weights: Sequence[Path]
    """The files that its weights were read from."""
    words: Sequence[int]
    """Source ids that stand for parts of a text."""
    attention_layer: int | None
    """The decoder layer, from 0, whose heads' mean the attention is, where there are several."""


class Run(Protocol):
    """A batch under way."""

    @property
    def encoded(self) -> Mapping[str, Tensor]:
        """Memory and initial state by the graphs' names."""

    def step(self, token_ids: Tensor) -> Advanced:
        """Advance every row by `token_ids` `[row]`."""


class Original(Protocol):
    """The model that a bundle is made from, and that it must agree with."""

    @property
    def facts(self) -> Facts:
        """What there is to say of it."""

    def graphs(self, precision: Precision, opset: int) -> Graphs:
        """Trace both graphs and store their weights in a precision."""

    def begin(self, source_ids: Tensor, source_lengths: Tensor) -> Run:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`."""

    def greedy(self, sources: Sequence[Sequence[int]]) -> list[GreedyOutput]:
        """Decode any number of sentences; results in the order of the sources."""

    def beam(self, sources: Sequence[Sequence[int]], beam: Beam) -> list[BeamOutput] | None:
        """Decode by the beam search of the model's library; None where it has none."""

    def source_ids(self, text: str) -> list[int]:
        """Encode a source text with all that belongs around it."""

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without start and end symbol."""
