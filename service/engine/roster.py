"""Running sequences in the order of their rows."""

import itertools
from collections.abc import Iterable

from service.engine.buffer import fill_from_tail
from service.engine.sequence import Sequence


class Roster:
    """Who runs, in the order of rows; who leaves is replaced from the tail, so that as few rows move as may be."""

    def __init__(self) -> None:
        self.running: list[Sequence] = []
        self.rows = 0
        """Rows that the running sequences take."""

    def join(self, sequences: list[Sequence]) -> None:
        """Append sequences."""
        self.running += sequences
        self.rows += sum(sequence.rows for sequence in sequences)

    def leave(self, leaving: Iterable[int]) -> tuple[list[Sequence], list[int], list[int]]:
        """Drop the running sequences at these indices, and return them.

        Returns as well, for each sequence that stays, the index it had and, for each row that stays, the row it was.
        """
        gone = set(leaving)
        left = [self.running[index] for index in sorted(gone)]
        if self.rows == len(self.running):
            order = kept = fill_from_tail(len(self.running), gone)
        else:  # groups of several rows: they close ranks
            order = [index for index in range(len(self.running)) if index not in gone]
            ends = list(itertools.accumulate(sequence.rows for sequence in self.running))
            kept = [row for index in order for row in range(ends[index] - self.running[index].rows, ends[index])]
        self.running = [self.running[index] for index in order]
        self.rows = len(kept)
        return left, order, kept
