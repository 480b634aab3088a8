"""Marian's vocabulary: SentencePiece cuts a text into pieces, and vocab.json, not SentencePiece, numbers them."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sentencepiece as spm

from export import vocabulary

SOURCE, TARGET, IDS = "source.spm", "target.spm", "vocab.json"
END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"


class MarianVocabulary(NamedTuple):
    """Both SentencePiece models, and the ids that they share."""

    source: spm.SentencePieceProcessor
    target: spm.SentencePieceProcessor
    ids: dict[str, int]

    @property
    def end_id(self) -> int:
        """Ends a source and a target."""
        return self.ids[END]

    @property
    def pad_id(self) -> int:
        """Pads, and starts the decoder."""
        return self.ids[PAD]

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode source texts, with their end symbol."""
        return self._encode(self.source, texts)

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts, with their end symbol."""
        return self._encode(self.target, texts)

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without padding and end symbol."""
        pieces = list(self.ids)
        text: str = self.target.decode_pieces([pieces[token] for token in ids])
        return text

    def _encode(self, model: spm.SentencePieceProcessor, texts: Sequence[str]) -> list[list[int]]:
        unknown = self.ids[UNKNOWN]
        numbers = np.array([self.ids.get(model.id_to_piece(own), unknown) for own in range(len(model))])
        encoded: list[list[int]] = model.encode(list(texts), add_eos=True, num_threads=2)
        return [numbers[own].tolist() for own in encoded]


def train(texts: Iterable[str], size: int, folder: Path) -> None:
    """Write one SentencePiece model for both languages, and `size` ids in Marian's order: end first, padding last."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.train(texts, size + 1, folder / SOURCE)  # One more: Marian has no start symbol.
    shutil.copyfile(folder / SOURCE, folder / TARGET)
    model = vocabulary.load(folder / SOURCE)
    words = [model.id_to_piece(own) for own in range(vocabulary.FIRST_WORD_ID, len(model))]
    ids = {piece: number for number, piece in enumerate([END, UNKNOWN, *words, PAD])}
    (folder / IDS).write_text(json.dumps(ids, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def load(folder: Path) -> MarianVocabulary:
    """Read the three files of a checkpoint; its ids count from 0, in the order of the file."""
    ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
    return MarianVocabulary(vocabulary.load(folder / SOURCE), vocabulary.load(folder / TARGET), ids)
