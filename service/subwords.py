"""The vocabulary of one side of a model: text to ids, ids to text, and which characters each id stands for."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from sentencepiece import SentencePieceProcessor

from service.errors import BundleError

if TYPE_CHECKING:
    import tokenizers

Span = tuple[int, int]
"""The first character of a part of a text (a Unicode code point), and the one behind its last."""


class Subwords(Protocol):
    """What a tokenizer needs of a side, whichever library cuts the text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""

    def cut(self, text: str) -> tuple[list[str], list[Span]]:
        """Return the parts of a text that its ids stand for, as they were written, and their characters."""

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces of ids."""

    def id_of(self, piece: str) -> int | None:
        """Return the id of a piece; None where there is no such piece."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""

    def spans(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """Return the text of ids, and the characters that each stands for."""


class SentencePieces:
    """A SentencePiece model whose pieces have numbers of their own, or those of a list."""

    def __init__(
        self, model: SentencePieceProcessor, names: list[str], written: dict[str, int] | None, unknown_id: int
    ) -> None:
        self._model = model
        self._unknown_id = unknown_id
        self._names = names
        """The piece of each id."""
        self._written = written
        """The id of each piece that a text can hold; None where ids are the model's own."""
        self._ids = {name: number for number, name in enumerate(names)}

    @classmethod
    def load(cls, content: bytes, ids: bytes | None, unknown_id: int, special: Collection[int] = ()
             ) -> "SentencePieces":  # fmt: skip
        """Read a model, and the ids of its pieces if they are not its own; raise ValueError where a file is none.

        No text holds the pieces of `special` ids, whatever it looks like.
        """
        model = SentencePieceProcessor()
        try:
            model.LoadFromSerializedProto(content)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        own: list[str] = model.IdToPiece(list(range(len(model))))
        if ids is None:
            return cls(model, own, None, unknown_id)
        numbers = _numbers(ids)
        names = [""] * (max(numbers.values()) + 1)
        for piece, number in numbers.items():
            names[number] = piece
        written = {piece: number for piece, number in numbers.items() if number not in special}
        return cls(model, names, written, unknown_id)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        if self._written is None:
            own: list[int] = self._model.Encode(text, out_type=int)
            return own
        return [self._written.get(piece, self._unknown_id) for piece in self._model.Encode(text, out_type=str)]

    def cut(self, text: str) -> tuple[list[str], list[Span]]:
        """Return the parts of a text that its ids stand for, as they were written, and their characters."""
        found = self._model.Encode(text, return_type="offset_mapping")
        return found["pieces"], found["offsets"]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces of ids."""
        return [self._names[token] for token in ids]

    def id_of(self, piece: str) -> int | None:
        """Return the id of a piece; None where there is no such piece."""
        return self._ids.get(piece)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        text: str = self._model.Decode(list(ids) if self._written is None else self.pieces(ids))
        return text

    def spans(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """Return the text of ids, and the characters that each stands for."""
        found = self._model.Decode(self.pieces(ids), return_type="offset_mapping")
        return found["text"], found["offsets"]


class TokenizerFile:
    """A `tokenizer.json` of Hugging Face's tokenizers library; what a user writes is never a special token."""

    def __init__(self, tokenizer: "tokenizers.Tokenizer") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, content: bytes) -> "TokenizerFile":
        """Read a file; raise ValueError where it is none, BundleError where the library is missing."""
        try:
            import tokenizers  # noqa: PLC0415 # Few bundles need it.
        except ImportError as error:
            raise BundleError(
                "the bundle's tokenizer is a tokenizer.json, which needs a library that is not installed; "
                "pip install 'dragoman[tokenizers]'"
            ) from error
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # The library raises nothing narrower.
            raise ValueError(str(error)) from error
        tokenizer.encode_special_tokens = True
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def cut(self, text: str) -> tuple[list[str], list[Span]]:
        """Return the parts of a text that its ids stand for, as they were written, and their characters."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return [text[start:end] for start, end in found.offsets], found.offsets

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces of ids."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def id_of(self, piece: str) -> int | None:
        """Return the id of a piece; None where there is no such piece."""
        return self._tokenizer.token_to_id(piece)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return self._tokenizer.decode(ids)

    def spans(self, ids: Sequence[int]) -> tuple[str, list[Span]]:
        """Return the text of ids, and the characters that each adds to it."""
        ends = [len(self.decode(ids[: count + 1])) for count in range(len(ids))]
        return self.decode(ids), list(zip([0, *ends], ends, strict=False))


def _numbers(content: bytes) -> dict[str, int]:
    numbers = json.loads(content)
    if not isinstance(numbers, dict) or not all(isinstance(number, int) for number in numbers.values()) or not numbers:
        raise ValueError("it must be a JSON object of pieces and their ids")
    return numbers
