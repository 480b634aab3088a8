"""The same loop in PyTorch eager mode, and PyTorch's own answers to compare with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from export import checkpoint, decoding, vocabulary
from export.decoding import DEFAULTS, pad_sources
from service.request import Int64
from tests.benchmark.differences import Reference
from tests.benchmark.load import Run
from tests.benchmark.offline import Offline


class Order(NamedTuple):
    """What to translate, in batches of how many rows."""

    texts: Sequence[str]
    rows: int


class TorchBatches:
    """The checkpoint's model in eager mode and float32; the best token needs no log-probabilities, so none are made."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self._model = checkpoint.load(folder)

    @torch.inference_mode()
    def __call__(self, sources: Sequence[Sequence[int]]) -> Int64:
        """Decode until all rows have ended."""
        ids, lengths = pad_sources(sources)
        memory, state = self._model.encode(ids, lengths)
        limits = torch.tensor([DEFAULTS.target_limit(len(source)) for source in sources])
        tokens = torch.full((len(sources), 1), vocabulary.START_ID)
        running = torch.ones(len(sources), dtype=torch.bool)
        produced: list[torch.Tensor] = []
        while bool(running.any()):
            decoded = self._model.decode(tokens, state, memory)
            state = decoded.state
            tokens = self._model.output(decoded.features[:, 0]).argmax(dim=-1, keepdim=True)
            produced.append(tokens)
            running &= (tokens[:, 0] != vocabulary.END_ID) & (limits > len(produced))
        found: Int64 = torch.cat(produced, dim=1).numpy()
        return found


class Eager:
    """Both loops over a checkpoint: in batches, and one by one."""

    def __init__(self, folder: Path) -> None:
        self._vocabularies = checkpoint.load_vocabularies(folder)
        self._batches = TorchBatches(folder)

    def __call__(self, order: Order) -> Run:
        """Translate all texts in batches of so many rows."""
        return Offline(self._vocabularies, DEFAULTS, self._batches, order.rows)(order.texts)


class TorchGreedy:
    """Greedy decoding of a checkpoint: what the server must agree with."""

    def __init__(self, folder: Path) -> None:
        self._model = checkpoint.load(folder)
        self._vocabularies = checkpoint.load_vocabularies(folder)

    def __call__(self, texts: Sequence[str]) -> list[Reference]:
        """Translate texts."""
        vocabularies = self._vocabularies
        sources = [vocabularies.source_ids(text) for text in texts]
        outputs = decoding.greedy_sorted(self._model, sources, vocabulary.START_ID, vocabulary.END_ID)
        return [
            Reference(
                vocabularies.target_text(output.target_ids),
                [vocabularies.target.id_to_piece(token) for token in output.target_ids],
                output.margins,
            )
            for output in outputs
        ]
