"""Text to token ids and back, with the SentencePiece files of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass

from sentencepiece import SentencePieceProcessor

from service.bundle import Bundle
from service.errors import BundleError

Span = tuple[int, int]
"""The first character of a part of a text (a Unicode code point), and the one behind its last."""


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

    @property
    def added(self) -> int:
        """Ids that every encoded text has besides its own."""
        return len(self._suffix)

    def encode(self, text: str) -> Source:
        """Return the ids and pieces of a text."""
        ids: list[int] = self._source.Encode(text, out_type=int)
        suffix = [self._source_pieces[token] for token in self._suffix]
        if self._unknown_id in ids:
            pieces = self._source.Encode(text, out_type=str)  # shows what was unknown, not that it was
        else:
            pieces = [self._source_pieces[token] for token in ids]
        return Source((*ids, *self._suffix), pieces + suffix)

    def source_spans(self, text: str) -> list[Span | None]:
        """Return the characters that each id of an encoded text stands for; None for those of the suffix."""
        found = self._source.Encode(text, return_type="offset_mapping")
        return [*_spans(text, found["offsets"]), *[None] * len(self._suffix)]

    def encode_target(self, text: str) -> tuple[int, ...]:
        """Return the target ids of a text, such as a prefix that a translation must begin with."""
        return tuple(self._target.Encode(text, out_type=int))

    def target_id(self, piece: str) -> int | None:
        """Return the target id of a piece; None where the vocabulary has no such piece."""
        token: int = self._target.PieceToId(piece)
        return token if self._target_pieces[token] == piece else None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of target ids."""
        text: str = self._target.Decode(list(ids), out_type=str)
        return text

    def target_spans(self, ids: Sequence[int]) -> list[Span]:
        """Return the characters of the decoded text that each target id stands for."""
        found = self._target.Decode(list(ids), return_type="offset_mapping")
        return _spans(found["text"], found["offsets"])

    def target_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of target ids."""
        pieces = self._target_pieces
        return [pieces[token] for token in ids]


def _spans(text: str, offsets: Sequence[Span]) -> list[Span]:
    """Leave out the white space around each piece; all bytes of a character get its span, not the last one alone."""
    spans: list[Span] = []
    following = (len(text), len(text))
    for start, end in reversed(offsets):
        if start < end:
            piece = text[start:end]
            inner = piece.strip()
            first = start + len(piece) - len(piece.lstrip()) if inner else start
            following = (first, first + len(inner) if inner else end)
        elif following[0] != start:
            following = (start, start)
        spans.append(following)
    return spans[::-1]


def _load(bundle: Bundle, file: str) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(bundle.contents[file])
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{file} of {bundle.name} is no SentencePiece model ({error}); export it again") from error
    return processor
