"""Text to token ids and back, with the tokenizer files of a bundle."""

from collections.abc import Sequence

import msgspec

from service.bundle import Bundle
from service.bundle import Tokenizer as TokenizerSpec
from service.errors import BundleError
from service.subwords import SentencePieces, Span, Subwords, TokenizerFile


class Source(msgspec.Struct, frozen=True):
    """A tokenized text: its ids and the piece that each stands for, those of prefix and suffix among them."""

    ids: tuple[int, ...]
    pieces: list[str]


class Tokenizer:
    """The source and target vocabularies of one model."""

    def __init__(self, source: Subwords, target: Subwords, spec: TokenizerSpec) -> None:
        self._source = source
        self._target = target
        self._spec = spec
        self._special = frozenset(spec.special_ids)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> "Tokenizer":
        """Load both vocabularies from a verified bundle; raise BundleError where a file is none."""
        spec = bundle.manifest.tokenizer
        files = spec.source_file, spec.ids_file
        target_files = spec.target_file, spec.target_ids_file or spec.ids_file
        source = _load(bundle, *files)
        target = source if target_files == files else _load(bundle, *target_files)
        return cls(source, target, spec)

    @property
    def added(self) -> int:
        """Ids that every encoded text has besides its own."""
        return len(self._spec.source_prefix) + len(self._spec.source_suffix)

    def encode(self, text: str) -> Source:
        """Return the ids and pieces of a text."""
        ids = self._source.encode(text)
        # The parts of the text show what was unknown, not that it was.
        pieces = self._source.cut(text)[0] if self._spec.unknown_id in ids else self._source.pieces(ids)
        before, behind = self._spec.source_prefix, self._spec.source_suffix
        return Source((*before, *ids, *behind),
                      [*self._source.pieces(before), *pieces, *self._source.pieces(behind)])  # fmt: skip

    def source_spans(self, text: str) -> list[Span | None]:
        """Return the characters that each id of an encoded text stands for; None for those of prefix and suffix."""
        offsets = _spans(text, self._source.cut(text)[1])
        return [*[None] * len(self._spec.source_prefix), *offsets, *[None] * len(self._spec.source_suffix)]

    def encode_target(self, text: str) -> tuple[int, ...]:
        """Return the target ids of a text, such as a prefix that a translation must begin with."""
        return tuple(self._target.encode(text))

    def target_id(self, piece: str) -> int | None:
        """Return the target id of a piece; None where the vocabulary has no such piece."""
        return self._target.id_of(piece)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of target ids."""
        return self._target.decode([token for token in ids if token not in self._special])

    def target_spans(self, ids: Sequence[int]) -> list[Span]:
        """Return the characters of the decoded text that each target id stands for: none for a special one."""
        text, offsets = self._target.spans([token for token in ids if token not in self._special])
        spans = iter(_spans(text, offsets))
        found: list[Span] = []
        for token in ids:
            end = found[-1][1] if found else 0
            found.append((end, end) if token in self._special else next(spans))
        return found

    def target_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of target ids."""
        return self._target.pieces(ids)


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


def _load(bundle: Bundle, file: str, ids_file: str | None) -> Subwords:
    spec, content = bundle.manifest.tokenizer, bundle.contents[file]
    kind = "SentencePiece model" if spec.kind == "sentencepiece" else "tokenizer.json"
    ids = None if ids_file is None else bundle.contents[ids_file]
    try:
        if spec.kind == "tokenizers":
            return TokenizerFile.load(content)
        return SentencePieces.load(content, ids, spec.unknown_id, spec.special_ids)
    except ValueError as error:
        of = f", or {ids_file} holds no ids for it" if ids else ""
        raise BundleError(f"{file} of {bundle.name} is no {kind}{of} ({error}); export it again") from error
