"""Where two translations of a sentence part, and how near a tie the choice was."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.benchmark.report import Figure, Goal


class Reference(NamedTuple):
    """A translation; `margins` has the log-probability gap to the runner-up at each step, the end symbol's too."""

    text: str
    tokens: Sequence[object]
    margins: Sequence[float]


class Difference(NamedTuple):
    """The first token that differs, and the reference's margin there."""

    source: str
    position: int
    margin: float

    def __str__(self) -> str:
        """Show it on one line."""
        return f"margin {self.margin:.2e} at target token {self.position}: {self.source}"


def first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    """Return the position of the first token that differs; the shorter one's end counts as a token."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def compare(sources: Sequence[str], expected: Sequence[Reference], texts: Sequence[str],
            tokens: Sequence[Sequence[object]]) -> list[Difference]:  # fmt: skip
    """List the sentences whose translations are not the same string."""
    found = []
    for source, reference, text, pieces in zip(sources, expected, texts, tokens, strict=True):
        if reference.text != text:
            position = first_difference(reference.tokens, pieces)
            margin = reference.margins[min(position, len(reference.margins) - 1)]
            found.append(Difference(source, position, margin))
    return found


def identical(name: str, differences: Sequence[Difference], total: int, goal: Goal | None) -> Figure:
    """Return the share of identical strings, in per cent."""
    return Figure(name, 100 * (1 - len(differences) / total), "%", goal=goal)


def largest_margin(name: str, differences: Sequence[Difference], goal: Goal | None) -> Figure:
    """Return the largest margin at a first difference; 0 where nothing differs."""
    return Figure(name, max((difference.margin for difference in differences), default=0.0), goal=goal)
