"""Long text: the segments that are decoded each on its own, such that every character is in one or between two."""

import asyncio
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sentencex

from service.subwords import Span
from service.tokenizer import Source, Tokenizer

LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
"""What str.splitlines takes for a line."""
SURELY_ONE = re.compile(r"[\w ,'\"()\[\]{}<>/%&+*=@#$^`~|·-]*[.!?。！？…]*['\")\]]*\s*")
"""A text in which nothing ends a sentence in any language but its own end: most texts. The segmenter's rules for 300
languages do not stay in the processor's caches while models run, so asking it costs more than all else here."""
CLAUSE = re.compile(r"(?<=[,;:)\]])\s+|(?<=[、，；：。」』…—])\s*")
SPACE = re.compile(r"\s+")
WORD = re.compile(r"\w")
UNSPACED = {"bo", "ja", "km", "lo", "my", "th", "yue", "zh"}
"""Languages written without spaces between sentences."""
TURN = 8
"""Segments tokenized before the event loop serves others."""


class Segment(NamedTuple):
    """A part of a text, and what the engine gets of it."""

    span: Span
    text: str
    source: Source


class UnsplittableError(Exception):
    """One character takes more tokens than the model accepts."""


async def segment(tokenizer: Tokenizer, text: str, spans: Sequence[Span], limit: int) -> list[Segment]:
    """Tokenize these parts of a text; split those of more than `limit` tokens, leave out those of none.

    Raises UnsplittableError.
    """
    segments: list[Segment] = []
    for index, span in enumerate(spans):
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
        segments += _fitting(tokenizer, text, span, limit)
    return segments


def sentences(text: str, language: str) -> list[Span]:
    """Return the sentences of a text, line by line, without the white space around them."""
    if SURELY_ONE.fullmatch(text):
        whole = _stripped(text, (0, len(text)))
        return [whole] if whole else []
    return segmented(text, language)


def segmented(text: str, language: str) -> list[Span]:
    """Return what the segmenter takes for sentences; what has no letter or digit belongs to the one before it."""
    spans: list[Span] = []
    for line in LINE.finditer(text):
        start, written = line.start(), line.group()
        found = sentencex.get_sentence_boundaries(language.lower(), written)
        cuts = [cut["start_index"] for cut in found[1:] if WORD.search(cut["text"])]
        bounds = [0, *cuts, len(written)]
        parts = [_stripped(text, (start + first, start + last)) for first, last in itertools.pairwise(bounds)]
        spans += [part for part in parts if part]
    return spans


def joint(text: str, before: Span, after: Span, language: str) -> str:
    """Return what stands between two segments: their white space or, where they touch, what `language` puts there."""
    gap = text[before[1] : after[0]]
    return gap or ("" if language.lower().partition("-")[0] in UNSPACED else " ")


def _fitting(tokenizer: Tokenizer, text: str, span: Span, limit: int) -> Iterator[Segment]:
    """Yield a part of a text whole, or in pieces that fit."""
    part = text[span[0] : span[1]]
    source = tokenizer.encode(part)
    if len(source.ids) <= limit:
        if len(source.ids) > tokenizer.added:
            yield Segment(span, part, source)
        return
    cut = span[0] + _cut(part, tokenizer)
    for half in ((span[0], cut), (cut, span[1])):
        if inner := _stripped(text, half):
            yield from _fitting(tokenizer, text, inner, limit)


def _cut(part: str, tokenizer: Tokenizer) -> int:
    """Return where to cut a part in two, as near to its middle as a clause, a space or at least a token ends.

    An end in the outer quarters counts for less than any within: it would leave a scrap without its context.
    """
    middle = len(part) // 2
    for ends in (CLAUSE, SPACE):
        cuts = [found.end() for found in ends.finditer(part)]
        cut = min(cuts, key=lambda cut: abs(cut - middle), default=0)
        if abs(cut - middle) <= len(part) // 4 and 0 < cut < len(part):
            return cut
    cuts = [span[0] for span in tokenizer.source_spans(part) if span is not None]
    cut = min((cut for cut in cuts if 0 < cut < len(part)), key=lambda cut: abs(cut - middle), default=middle)
    if not 0 < cut < len(part):
        raise UnsplittableError
    return cut


def _stripped(text: str, span: Span) -> Span | None:
    """Return a part without the white space around it; None where there is nothing else."""
    part = text[span[0] : span[1]]
    inner = part.strip()
    if not inner:
        return None
    start = span[0] + len(part) - len(part.lstrip())
    return start, start + len(inner)
