"""Who waits and who runs. It decides, and touches no tensor; time comes in as an argument."""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from service.engine.buffer import capacity
from service.engine.queue import FairQueue
from service.engine.sequence import Sequence

RUN_ROWS = 2
"""What a time step of the encoder costs beside its rows, in rows (measured: 60 us and 29 us on one core)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine."""

    max_rows: int = 64
    """Rows of the decoder batch."""
    max_join_tokens: int = 1024
    """Padded source tokens encoded between two steps: how long the running rows may be kept waiting by joiners."""
    join_share: int = 8
    """While there are fewer joiners than one for so many running rows, they wait for company: the encoder's
    recurrence takes little longer for eight sources than for one."""
    join_patience: int = 2
    """Steps that joiners wait for company at most."""
    max_cache_tokens: int | None = None
    """Tokens that caches may hold, counting each row as long as the longest of all may become; None: no bound."""

    def fit(self, rows: int, longest: int) -> bool:
        """Return whether so many rows may run, the longest of which may become so many tokens long."""
        cached = rows * capacity(longest) <= self.max_cache_tokens if self.max_cache_tokens is not None else True
        return rows <= self.max_rows and cached


class Scheduler:
    """Two lists: waiting (fair between clients) and running (in order of rows)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting = FairQueue()
        self._waiting_rows = 0
        self._deadlines: list[tuple[float, str]] = []
        self._rows = 0
        self._patience = limits.join_patience
        self.running: list[Sequence] = []

    def __repr__(self) -> str:
        """Show both lists by their sizes."""
        return f"<Scheduler waiting={len(self._waiting)} running={len(self.running)} rows={self._rows}>"

    @property
    def waiting(self) -> int:
        """Number of sequences that wait."""
        return len(self._waiting)

    @property
    def rows(self) -> int:
        """Rows that the running sequences take."""
        return self._rows

    @property
    def waiting_rows(self) -> int:
        """Rows that the waiting sequences will take."""
        return self._waiting_rows

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the waiting list."""
        request = sequence.request
        self._waiting.add(sequence)
        self._waiting_rows += sequence.rows
        if request.deadline is not None:
            heapq.heappush(self._deadlines, (request.deadline, request.request_id))

    def expired(self, now: float) -> list[str]:
        """Return, once, the ids whose deadline has passed; some may have ended already."""
        ids = []
        while self._deadlines and self._deadlines[0][0] <= now:
            ids.append(heapq.heappop(self._deadlines)[1])
        return ids

    def withdraw(self, request_id: str) -> Sequence | None:
        """Take a sequence out of the waiting list; None if it does not wait."""
        sequence = self._waiting.withdraw(request_id)
        self._waiting_rows -= sequence.rows if sequence is not None else 0
        return sequence

    def join(self) -> list[Sequence]:
        """Move from waiting to running what fits, each in its turn; return it with the longest sources first.

        The first that does not fit stops all behind it, so that a wide beam is not overtaken for ever. One sequence
        joins however long it is; further ones as long as their padded tokens stay within the bound.
        """
        ready = min(len(self._waiting), self._limits.max_rows - self._rows)
        if not ready:
            return []
        if ready < self._rows // self._limits.join_share and self._patience:
            self._patience -= 1
            return []
        self._patience = self._limits.join_patience
        joining: list[Sequence] = []
        longest, limit = 0, max((one.request.params.max_target_tokens for one in self.running), default=0)
        while sequence := self._waiting.next():
            longest, limit = max(longest, sequence.source_length), max(limit, sequence.request.params.max_target_tokens)
            fits = self._limits.fit(self._rows + sequence.rows, limit)
            if not fits or (joining and longest * (len(joining) + 1) > self._limits.max_join_tokens):
                break
            joining.append(sequence)
            self._waiting.start(sequence)
            self._waiting_rows -= sequence.rows
            self._rows += sequence.rows
        joining.sort(key=lambda sequence: -sequence.source_length)
        self.running.extend(joining)
        return joining

    def leave(self, leaving: Iterable[int]) -> tuple[list[int], list[int]]:
        """Drop the running sequences at these indices.

        Returns, for each sequence that stays, the index it had before and, for each row that stays, the row it was.
        """
        gone = set(leaving)
        for index in gone:
            self._waiting.end(self.running[index])
        if self._rows == len(self.running):
            order = kept = _fill_from_tail(len(self.running), gone)
        else:  # groups of several rows: they close ranks
            order = [index for index in range(len(self.running)) if index not in gone]
            ends = list(itertools.accumulate(sequence.rows for sequence in self.running))
            kept = [row for index in order for row in range(ends[index] - self.running[index].rows, ends[index])]
        self.running = [self.running[index] for index in order]
        self._rows = len(kept)
        return order, kept

    def clear(self) -> list[Sequence]:
        """Drop all sequences and return them."""
        dropped = [*self.running, *self._waiting.clear()]
        self.running, self._rows, self._waiting_rows = [], 0, 0
        self._deadlines.clear()
        return dropped


def similar_lengths(joining: list[Sequence]) -> list[list[Sequence]]:
    """Cut sequences, longest sources first, into groups to encode together.

    A run of the encoder over n sources of up to t tokens costs about t · (RUN_ROWS + n). A new group begins where what
    the remaining sources save by a shorter t is more than what its own run adds.
    """
    groups: list[list[Sequence]] = []
    for index, sequence in enumerate(joining):
        length, remaining = sequence.source_length, len(joining) - index
        if not groups or remaining * (groups[-1][0].source_length - length) > RUN_ROWS * length:
            groups.append([])
        groups[-1].append(sequence)
    return groups


def _fill_from_tail(count: int, gone: set[int]) -> list[int]:
    """Order the survivors so that only as many move as left: the last ones move into the holes."""
    staying = count - len(gone)
    tail = (index for index in range(count - 1, staying - 1, -1) if index not in gone)
    return [next(tail) if index in gone else index for index in range(staying)]
