"""SentencePiece subwords: trained here, read by the service from the bundle."""

from collections.abc import Iterable
from pathlib import Path

import sentencepiece as spm

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3


def train(texts: Iterable[str], size: int, model: Path) -> None:
    """Train a unigram model with byte fallback (no text is ever unknown) and write it to `model`."""
    with model.open("wb") as stream:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=stream, vocab_size=size, model_type="unigram",
            byte_fallback=True, character_coverage=0.9995, num_threads=2, minloglevel=2,
            pad_id=PAD_ID, unk_id=UNKNOWN_ID, bos_id=START_ID, eos_id=END_ID,
        )  # fmt: skip


def load(model: Path) -> spm.SentencePieceProcessor:
    """Load a model file."""
    processor = spm.SentencePieceProcessor()
    processor.load(str(model))
    return processor
