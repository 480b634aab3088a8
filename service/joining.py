"""What a text's translation is made of: the outputs of its segments, detokenized, and joined into one."""

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np

from service.alignment import Link, align
from service.options import Options
from service.request import FinishReason, Float32, Hypothesis, Output
from service.segments import Segment
from service.subwords import Span
from service.tokenizer import Tokenizer

WORST_FIRST = (FinishReason.LENGTH, FinishReason.REPETITION, FinishReason.END)


class Candidate(msgspec.Struct, frozen=True):
    """A hypothesis and its text; `tokens` are the pieces of its ids, the rows of `attention` `[target, source]`."""

    text: str
    tokens: list[str]
    hypothesis: Hypothesis
    attention: Float32 | None = None
    """Where it was asked for."""
    links: Sequence[Link] = ()


class Translation(msgspec.Struct, frozen=True):
    """The candidates for one text, best first; `source_tokens` are the columns of their attention."""

    source_tokens: list[str]
    candidates: list[Candidate]
    segments: list[tuple[Span, Span]]
    """The characters of each segment in the text, and in the best candidate's."""


def translation(tokenizer: Tokenizer, segment: Segment, output: Output, options: Options) -> Translation:
    """Detokenize the output of one segment."""
    candidates = []
    for found in output.hypotheses:
        ids, weights = found.token_ids, found.attention
        links: Sequence[Link] = ()
        if options.return_alignments and weights is not None:
            links = align(weights, tokenizer.source_spans(segment.text), tokenizer.target_spans(ids))
            links = [link.shifted((0, 0), (0, segment.span[0])) for link in links] if segment.span[0] else links
        attention = weights if options.return_attention else None
        candidates.append(Candidate(tokenizer.decode(ids), tokenizer.target_pieces(ids), found, attention, links))
    return Translation(segment.source.pieces, candidates, [(segment.span, (0, len(candidates[0].text)))])


def joined(parts: Sequence[Translation], joints: Sequence[str]) -> Translation:
    """Join the translations of a text's segments, with `joints` between them; candidate n joins the n-th of each."""
    if len(parts) == 1:
        return parts[0]
    ranks = min(len(part.candidates) for part in parts)
    candidates = [_joined_candidate(parts, joints, rank) for rank in range(ranks)]
    starts = _starts([len(part.candidates[0].text) for part in parts], [len(joint) for joint in joints])
    segments = []
    for part, start in zip(parts, starts, strict=True):
        ((source, (_, length)),) = part.segments
        segments.append((source, (start, start + length)))
    return Translation([piece for part in parts for piece in part.source_tokens], candidates, segments)


def _joined_candidate(parts: Sequence[Translation], joints: Sequence[str], rank: int) -> Candidate:
    chosen = [part.candidates[rank] for part in parts]
    found = [candidate.hypothesis for candidate in chosen]
    columns = [len(part.source_tokens) for part in parts]
    reasons = {hypothesis.finish_reason for hypothesis in found}
    targets = _starts([len(candidate.tokens) for candidate in chosen], [0] * len(joints))
    sources = _starts(columns, [0] * len(joints))
    characters = _starts([len(candidate.text) for candidate in chosen], [len(joint) for joint in joints])
    texts = [text for pair in itertools.zip_longest((c.text for c in chosen), joints, fillvalue="") for text in pair]
    return Candidate(
        text="".join(texts),
        tokens=[piece for candidate in chosen for piece in candidate.tokens],
        hypothesis=Hypothesis(
            token_ids=tuple(token for hypothesis in found for token in hypothesis.token_ids),
            log_probs=tuple(value for hypothesis in found for value in hypothesis.log_probs),
            score=sum(hypothesis.score for hypothesis in found),
            finish_reason=next(reason for reason in WORST_FIRST if reason in reasons),
        ),
        attention=_blocks([candidate.attention for candidate in chosen], columns),
        links=[
            link.shifted((target, source), (character, 0))
            for candidate, target, source, character in zip(chosen, targets, sources, characters, strict=True)
            for link in candidate.links
        ],
    )


def _blocks(weights: Sequence[Float32 | None], columns: Sequence[int]) -> Float32 | None:
    """Put attentions `[target, source]` into one, each in its own rows and columns; zero elsewhere."""
    given = [block for block in weights if block is not None]
    if len(given) < len(weights):
        return None
    whole = np.zeros((sum(map(len, given)), sum(columns)), np.float32)
    row = column = 0
    for block, width in zip(given, columns, strict=True):
        whole[row : row + len(block), column : column + width] = block
        row, column = row + len(block), column + width
    return whole


def _starts(lengths: Sequence[int], gaps: Sequence[int]) -> list[int]:
    """Return where each of some parts begins, with gaps between them."""
    steps = [length + gap for length, gap in itertools.zip_longest(lengths, gaps, fillvalue=0)]
    return list(itertools.accumulate(steps[:-1], initial=0))
