"""Text to token ids and back, with the SentencePiece files of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass

from sentencepiece import SentencePieceProcessor

from service.bundle import Bundle
from service.errors import BundleError


@dataclass(frozen=True, slots=True)
class Source:
    """A tokenized text: its ids, and the piece that each stands for; the suffix (the end symbol) is among them."""

    ids: tuple[int, ...]
    pieces: list[str]


class Tokenizer:
    """The source and target vocabularies of one model."""

    def __init__(
        self,
        source: SentencePieceProcessor,
        target: SentencePieceProcessor,
        suffix: tuple[int, ...],
        unknown_id: int,
    ) -> None:
        self._source = source
        self._target = target
        self._suffix = suffix
        self._unknown_id = unknown_id
        self._source_pieces = source.IdToPiece(list(range(len(source))))
        self._target_pieces = target.IdToPiece(list(range(len(target))))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> "Tokenizer":
        """Load both vocabularies from a verified bundle; raise BundleError where a file is none."""
        spec = bundle.manifest.tokenizer
        source = _load(bundle, spec.source_file)
        target = source if spec.target_file == spec.source_file else _load(bundle, spec.target_file)
        return cls(source, target, spec.source_suffix, spec.unknown_id)

    def encode(self, text: str) -> Source:
        """Return the ids and pieces of a text."""
        ids: list[int] = self._source.Encode(text, out_type=int)
        suffix = [self._source_pieces[token] for token in self._suffix]
        if self._unknown_id in ids:
            pieces = self._source.Encode(text, out_type=str)  # shows what was unknown, not that it was
        else:
            pieces = [self._source_pieces[token] for token in ids]
        return Source((*ids, *self._suffix), pieces + suffix)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of target ids."""
        text: str = self._target.Decode(list(ids), out_type=str)
        return text

    def target_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of target ids."""
        pieces = self._target_pieces
        return [pieces[token] for token in ids]


def _load(bundle: Bundle, file: str) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(bundle.contents[file])
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{file} of {bundle.name} is no SentencePiece model ({error}); export it again") from error
    return processor
