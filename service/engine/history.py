"""What the rows chose, step by step, and a way back through it.

Plain lists: whoever ends reads a number of each step, and a NumPy scalar costs ten times as much as a list's element.
"""

import itertools
from typing import NamedTuple

from service.request import Float32


class Place(NamedTuple):
    """A row at a step: where a way back begins. Rows are numbered as they were right after that step."""

    step: int
    row: int


class Trail(NamedTuple):
    """What a row chose on its way, oldest first; `attention` holds a `[source]` for each token, or nothing."""

    tokens: list[int]
    log_probs: list[float]
    attention: list[Float32]


class StepRecord(NamedTuple):
    """What each row chose at one step; `attention` is `[row, source]` where it was asked for.

    `parents[i]` is the row, as rows were numbered at the step before, that row i continues; None: itself.
    """

    tokens: list[int]
    log_probs: list[float]
    attention: Float32 | None
    parents: list[int] | None


class History:
    """The latest steps. A row's past is read once, when it ends, and never copied; reordering it costs nothing."""

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._steps: list[StepRecord] = []
        self._dropped = 0
        self._moves: list[int] | None = None
        """Where the rows stood at the end of the last step, after those that left and joined since; None: as now."""

    @property
    def step(self) -> int:
        """Number of the last step, counted from 1; 0 before the first."""
        return self._dropped + len(self._steps)

    def append(
        self, tokens: list[int], log_probs: list[float], attention: Float32 | None, parents: list[int] | None
    ) -> None:
        """Take note of a step: what each row chose, and which row, as rows stand now, it continues."""
        if attention is not None and parents is not None:
            attention = attention[parents]  # a token was chosen by the row that it continues
        if self._moves is not None:
            parents = self._moves if parents is None else [self._moves[parent] for parent in parents]
            self._moves = None
        self._steps.append(StepRecord(tokens, log_probs, attention, parents))
        if len(self._steps) >= 2 * self._max_steps:
            self._dropped += len(self._steps) - self._max_steps
            del self._steps[: -self._max_steps]

    def join(self, rows: int) -> None:
        """Take note that so many rows were appended."""
        if self._moves is not None:
            self._moves = [*self._moves, *itertools.repeat(-1, rows)]

    def keep(self, kept: list[int]) -> None:
        """Take note that row j is what row `kept[j]` was."""
        if not kept:
            self._dropped += len(self._steps)
            self._steps, self._moves = [], None
        else:
            self._moves = kept if self._moves is None else [self._moves[row] for row in kept]

    def before(self, row: int) -> Place:
        """Return where a row, as rows stand before the step that is about to be noted, was after the last one."""
        return Place(self.step, row if self._moves is None else self._moves[row])

    def trace(self, place: Place, count: int) -> Trail:
        """Return what led to a place over its last `count` steps."""
        trail = Trail([], [], [])
        row, end = place.row, place.step - self._dropped
        for step in reversed(self._steps[end - count : end]):
            trail.tokens.append(step.tokens[row])
            trail.log_probs.append(step.log_probs[row])
            if step.attention is not None:
                trail.attention.append(step.attention[row])
            if step.parents is not None:
                row = step.parents[row]
        for part in trail:
            part.reverse()
        return trail
