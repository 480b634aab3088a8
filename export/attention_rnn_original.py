"""The attention RNN as the maker of bundles sees it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from export import checkpoint, decoding, graphs, vocabulary
from export.decoding import Beam, BeamOutput, GreedyOutput
from export.graphs import Graphs
from export.half import narrow
from export.models.attention_rnn import AttentionRnn, Memory
from export.original import Advanced, Facts
from export.quantize import quantize
from export.storage import halve
from export.vocabulary import Vocabularies
from service.bundle import Precision, Tokenizer

TOKENIZER = Tokenizer(
    "sentencepiece", checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY,
    vocabulary.PAD_ID, vocabulary.UNKNOWN_ID, vocabulary.START_ID, vocabulary.END_ID, (vocabulary.END_ID,),
)  # fmt: skip


class AttentionRnnRun:
    """A batch under way."""

    def __init__(self, model: AttentionRnn, memory: Memory, state: tuple[Tensor, ...]) -> None:
        self._model = model
        self._memory = memory
        self._state = state
        names = graphs.signature(model)
        self.encoded = {name: getattr(memory, name) for name in names.memory} | dict(
            zip(names.state, state, strict=True)
        )

    def step(self, token_ids: Tensor) -> Advanced:
        """Advance every row by `token_ids` `[row]`."""
        decoded = self._model.decode(token_ids.unsqueeze(1), self._state, self._memory)
        self._state = decoded.state
        attention = None if decoded.attention is None else decoded.attention[:, 0]
        return Advanced(self._model.log_probs(decoded.features[:, 0]), attention)


class AttentionRnnOriginal:
    """A trained attention RNN with its vocabularies."""

    def __init__(self, model: AttentionRnn, vocabularies: Vocabularies, facts: Facts) -> None:
        self.model = model
        self.facts = facts
        self._vocabularies = vocabularies

    @classmethod
    def load(cls, folder: Path) -> "AttentionRnnOriginal":
        """Read a checkpoint; raise ValueError that says what is wrong with it."""
        model, vocabularies = checkpoint.load(folder), checkpoint.load_vocabularies(folder)
        check_vocabularies(model, vocabularies)
        names = (checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY)
        facts = Facts(
            family=checkpoint.FAMILY,
            limits=decoding.DEFAULTS,
            tokenizer=TOKENIZER,
            tokenizer_files={name: (folder / name).read_bytes() for name in names},
            weights=[checkpoint.weights_file(folder)],
            words=range(vocabulary.FIRST_WORD_ID, model.config.source_vocabulary_size),
            attention_layer=None,
        )
        return cls(model, vocabularies, facts)

    def graphs(self, precision: Precision, opset: int) -> Graphs:
        """Trace both graphs and store their weights in a precision."""
        traced = graphs.trace(self.model, opset)
        if precision == "int8":
            quantize(traced.encoder)
            quantize(traced.decoder_step, bounded=traced.signature.bounded)
        elif precision == "fp16":
            narrow(traced)
        else:
            halve(traced.encoder)
            halve(traced.decoder_step)
        return traced

    def begin(self, source_ids: Tensor, source_lengths: Tensor) -> AttentionRnnRun:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`."""
        return AttentionRnnRun(self.model, *self.model.encode(source_ids, source_lengths))

    @torch.inference_mode()
    def greedy(self, sources: Sequence[Sequence[int]]) -> list[GreedyOutput]:
        """Decode any number of sentences; results in the order of the sources."""
        return decoding.greedy_sorted(self.model, sources, vocabulary.START_ID, vocabulary.END_ID)

    def beam(self, sources: Sequence[Sequence[int]], beam: Beam) -> list[BeamOutput] | None:  # noqa: ARG002 # None.
        """Decode by beam search, which the family has none of in PyTorch."""
        return None

    def source_ids(self, text: str) -> list[int]:
        """Encode a source text with all that belongs around it."""
        return self._vocabularies.source_ids(text)

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without start and end symbol."""
        return self._vocabularies.target_text(ids)


def check_vocabularies(model: AttentionRnn, vocabularies: Vocabularies) -> None:
    """Raise ValueError where a SentencePiece model knows more words than the network."""
    config = model.config
    for side, size in (("source", config.source_vocabulary_size), ("target", config.target_vocabulary_size)):
        words = getattr(vocabularies, side).get_piece_size()
        if words > size:
            raise ValueError(f"the {side} vocabulary has {words} subwords, the network {size}: they do not belong "
                             "together")  # fmt: skip
