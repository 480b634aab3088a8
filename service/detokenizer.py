"""Text that grows with its tokens: what was given out is never taken back, and no character comes in halves."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"
"""What stands for bytes that are no character, or not yet."""
WINDOW = 16
"""Ids that are decoded again with new ones; the ids before them cannot change any more."""


class Detokenizer:
    """Decodes the ids of one text as they come.

    Decoding some ids gives the beginning of what decoding more of them gives, but for an end in the middle of a
    character. So the ids are decoded anew with each that comes, and of the text only what is behind the text so far is
    new. A window keeps that from growing with the square of the length: it is cut where the rest still decodes to
    some text, so that a space at its beginning is treated as it is in the middle of a text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._given = 0
        """Characters of the window's text that were given out."""
        self.length = 0
        """Characters that were given out in all."""

    def push(self, ids: Sequence[int]) -> str:
        """Take the next ids; return the text that is certain by them."""
        self._ids += ids
        text = self._decode(self._ids)
        certain = text.rstrip(INCOMPLETE)
        delta = certain[self._given :]
        self._given = max(self._given, len(certain))
        self.length += len(delta)
        if len(self._ids) > 2 * WINDOW and len(certain) == len(text):
            self._slide()
        return delta

    def _slide(self) -> None:
        """Forget the ids before the window, where the text of those in it is not empty."""
        text = self._decode(self._ids[-WINDOW:])
        if text:
            self._ids = self._ids[-WINDOW:]
            self._given = len(text)
