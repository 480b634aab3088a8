"""SentencePiece subwords: trained here, read by the service from the bundle."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import sentencepiece as spm

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3
FIRST_WORD_ID = END_ID + 1


class Vocabularies(NamedTuple):
    """The two sides of a model."""

    source: spm.SentencePieceProcessor
    target: spm.SentencePieceProcessor

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode source texts, with their end symbol."""
        ids: list[list[int]] = self.source.encode(list(texts), add_eos=True, num_threads=2)
        return ids

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts, with their end symbol."""
        ids: list[list[int]] = self.target.encode(list(texts), add_eos=True, num_threads=2)
        return ids

    def source_ids(self, text: str) -> list[int]:
        """Encode a source text, with its end symbol."""
        ids: list[int] = self.source.encode(text, add_eos=True)
        return ids

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without start and end symbol."""
        text: str = self.target.decode(list(ids))
        return text


def train(texts: Iterable[str], size: int, model: Path) -> None:
    """Train a unigram model with byte fallback (no text is ever unknown) and write it to `model`."""
    content = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=content, vocab_size=size, model_type="unigram",
            byte_fallback=True, character_coverage=0.9995, num_threads=2, minloglevel=2,
            pad_id=PAD_ID, unk_id=UNKNOWN_ID, bos_id=START_ID, eos_id=END_ID,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(f"no vocabulary of {size} subwords can be made of this corpus: {error}") from error
    model.write_bytes(content.getvalue())


def load(model: Path) -> spm.SentencePieceProcessor:
    """Load a model file; raise ValueError that names it."""
    processor = spm.SentencePieceProcessor()
    try:
        processor.load(str(model))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{model} is missing or is no SentencePiece model; a checkpoint needs it") from error
    return processor


def load_both(source: Path, target: Path) -> Vocabularies:
    """Load the two model files of a checkpoint."""
    return Vocabularies(load(source), load(target))
