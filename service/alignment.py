"""Hard alignments: for each target token the source token that it attends to most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.request import Float32
from service.subwords import Span


class Link(NamedTuple):
    """A target token and where it came from, as indices of tokens and as characters of both texts."""

    target_token: int
    source_token: int
    target: Span
    source: Span

    def shifted(self, tokens: Span, characters: Span) -> "Link":
        """Return it with so many (target, source) tokens and characters before it."""
        (target, source), (target_start, source_start) = tokens, characters
        return Link(
            self.target_token + target,
            self.source_token + source,
            (self.target[0] + target_start, self.target[1] + target_start),
            (self.source[0] + source_start, self.source[1] + source_start),
        )


def align(weights: Float32, source_spans: Sequence[Span | None], target_spans: Sequence[Span]) -> list[Link]:
    """Link the tokens of attention `[target, source]`; source tokens without characters get no link."""
    columns = [column for column, span in enumerate(source_spans) if span is not None]
    if not columns or not len(weights):
        return []
    best = np.asarray(columns)[weights[:, columns].argmax(axis=1)].tolist()
    links = []
    for row, column in enumerate(best):
        source = source_spans[column]
        if source is not None:
            links.append(Link(row, column, target_spans[row], source))
    return links
