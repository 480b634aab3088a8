"""Who waits and who runs. It decides, and touches no tensor; time comes in as an argument."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from service.engine.buffer import capacity
from service.engine.queue import FairQueue
from service.engine.roster import Roster
from service.engine.sequence import Sequence
from service.request import Request

CROWD_ROWS = 16
"""Rows of clients with many texts from which on others get a roster of their own."""
EXPRESS_SHARE = 2.0
"""What those get of the engine's time for each second of the crowd's."""
RUN_ROWS = 2
"""What a time step of the encoder costs beside its rows, in rows: 2.1 fits an int8 LSTM, 0.8 a float one."""
RUN_TOKENS = 35
"""What a run of the encoder costs beside its time steps, in padded tokens: 34 and 28 (by processor time)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine."""

    max_rows: int = 64
    """Rows of the decoder batch."""
    max_join_tokens: int = 1024
    """Padded source tokens encoded between two steps: how long the running rows may be kept waiting by joiners."""
    company_tokens: int = 256
    """The same bound where some who wait are encoded with joiners, because it is cheaper together."""
    join_share: int = 8
    """While fewer join than one for so many running rows, they wait for company: encoding them together is cheaper."""
    full_join_share: int = 2
    """The same where more wait than there are rows for, who would not all join at once anyway."""
    join_patience: int = 2
    """Steps that joiners wait for company at most."""
    max_cache_tokens: int | None = None
    """Tokens that caches may hold, counting each row as long as the longest of all may become; None: no bound."""

    @property
    def express_rows(self) -> int:
        """Rows that clients with many texts leave to those with few."""
        return self.max_rows // 8

    def fit(self, rows: int, longest: int) -> bool:
        """Return whether so many rows may run, the longest of which may become so many tokens long."""
        cached = rows * capacity(longest) <= self.max_cache_tokens if self.max_cache_tokens is not None else True
        return rows <= self.max_rows and cached


class Scheduler:
    """Two lists: waiting (fair between clients) and running (in order of rows).

    Usually all that runs is one roster. Where clients with many texts fill the batch, what others ask for runs in a
    small roster of its own, which the engine advances more often: it does not wait for 64 rows at each token.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting = FairQueue()
        self._deadlines: list[tuple[float, str]] = []
        self._patience = limits.join_patience
        self.bulk, self.express = self.rosters = Roster(), Roster()
        self._express_seconds = 0.0
        """Time that the express roster may still take before the other has its turn."""

    def __repr__(self) -> str:
        """Show both lists by their sizes."""
        return f"<Scheduler waiting={len(self._waiting)} running={self.running} rows={self.rows}>"

    @property
    def waiting(self) -> int:
        """Number of sequences that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of sequences that run."""
        return len(self.bulk.running) + len(self.express.running)

    @property
    def rows(self) -> int:
        """Rows that the running sequences take."""
        return self.bulk.rows + self.express.rows

    @property
    def turn(self) -> Roster:
        """Who steps next. While both have rows, the express roster has its share: many light steps for a heavy one."""
        return self.express if self._favours_express(self.express.rows) else self.bulk

    def note_turn(self, roster: Roster, seconds: float) -> None:
        """Note how long a turn took, with the encoding of those who joined for it."""
        is_express = roster is self.express
        self._express_seconds = self._express_seconds - seconds if is_express else EXPRESS_SHARE * seconds

    def ahead_of(self, request: Request) -> int:
        """Return about how many rows run, or join before a request that would come now. For any thread."""
        return self.rows + self._waiting.turns_before(request)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the waiting list."""
        request = sequence.request
        self._waiting.add(sequence)
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
        return self._waiting.withdraw(request_id)

    def join(self) -> bool:
        """Let run what fits, each in its turn; return whether anybody joined.

        Before a turn of the express roster nobody joins the other, unless that is empty: what joining costs is part of
        its own turn.

        The first that does not fit stops all behind it, so that a wide beam is not overtaken for ever. One sequence
        joins however long it is; further ones as long as their padded tokens stay within the bound.
        """
        if not self._waiting or self.rows >= self._limits.max_rows:
            return False
        joining: dict[Roster, list[Sequence]] = {roster: [] for roster in self.rosters}
        longest, limit, rows = 0, self._longest(), self.rows
        waits = self._waits_for_company()
        while sequence := self._waiting.next():
            self._part(sequence, rows)
            express_rows = self.express.rows + sum(one.rows for one in joining[self.express])
            roster = self._roster_of(sequence, express_rows)
            longest, limit = max(longest, sequence.source_length), max(limit, sequence.request.params.max_target_tokens)
            joiners = sum(map(len, joining.values()))
            if roster is self.bulk and (waits or (self.bulk.rows and self._favours_express(express_rows))):
                break
            if not self._limits.fit(rows + sequence.rows + self._reserved(sequence), limit) or (
                joiners and longest * (joiners + 1) > self._limits.max_join_tokens
            ):
                break
            joining[roster].append(sequence)
            rows += sequence.rows
            self._waiting.start(sequence)
        for roster, sequences in joining.items():
            roster.join(sequences)
        return any(joining.values())

    def company(self, joining: list[Sequence]) -> list[Sequence]:
        """Return who waits and is likely to join next, to be encoded with those who join now; nobody beside a crowd."""
        company: list[Sequence] = []
        longest = max((sequence.source_length for sequence in joining), default=0)
        if not longest or self.express.rows:
            return company
        for sequence in self._waiting.upcoming(self._limits.max_rows - len(joining)):
            longest = max(longest, sequence.source_length)
            if longest * (len(joining) + len(company) + 1) > self._limits.company_tokens:
                break
            if sequence.source is None:
                company.append(sequence)
        return company

    def leave(self, sequences: Iterable[Sequence]) -> None:
        """Note that sequences have left their roster."""
        for sequence in sequences:
            self._waiting.end(sequence)

    def _waits_for_company(self) -> bool:
        """Decide whether joiners of a busy batch wait one more step."""
        waiting, room = len(self._waiting), self._limits.max_rows - self.rows
        share = self._limits.full_join_share if waiting > room else self._limits.join_share
        if 0 < min(waiting, room) < self.bulk.rows // share and self._patience:
            self._patience -= 1
            return True
        self._patience = self._limits.join_patience
        return False

    def _favours_express(self, rows: int) -> bool:
        """Decide whether the express roster would step next if it had so many rows."""
        return rows > 0 and (self._express_seconds > 0.0 or not self.bulk.rows)

    def _part(self, sequence: Sequence, rows: int) -> None:
        """Give a crowd that comes while few others run, on so many rows, the other roster: they go on without it."""
        few = self._waiting.crowd_rows < rows <= self._limits.express_rows and not self.express.rows
        if few and self._waiting.is_large(sequence):
            self.bulk, self.express = self.express, self.bulk

    def _roster_of(self, sequence: Sequence, express_rows: int) -> Roster:
        """Decide with whom a sequence steps, where so many rows run or are about to in the express roster."""
        crowded = self._waiting.crowd_rows >= CROWD_ROWS and not self._waiting.is_crowd(sequence)
        room = express_rows + sequence.rows <= self._limits.express_rows
        return self.express if crowded and room else self.bulk

    def _longest(self) -> int:
        """Return the most tokens that a running sequence may come to, where that bounds who joins."""
        if self._limits.max_cache_tokens is None:
            return 0
        running = (sequence for roster in self.rosters for sequence in roster.running)
        return max((sequence.request.params.max_target_tokens for sequence in running), default=0)

    def _reserved(self, sequence: Sequence) -> int:
        """Return the rows that a sequence may not take because they are kept for clients that have none."""
        return max(0, self._limits.express_rows - self.express.rows) if self._waiting.is_crowd(sequence) else 0

    def clear(self) -> list[Sequence]:
        """Drop all sequences and return them."""
        dropped = [sequence for roster in self.rosters for sequence in roster.leave(range(len(roster.running)))[0]]
        dropped += self._waiting.clear()
        self._deadlines.clear()
        return dropped


def similar_lengths(joining: list[Sequence]) -> list[list[Sequence]]:
    """Cut sequences, longest sources first, into groups to encode together.

    A run of the encoder over n sources of up to t tokens costs about RUN_TOKENS + t · (RUN_ROWS + n). A new group
    begins where what the remaining sources save by a shorter t is more than what its own run adds.
    """
    groups: list[list[Sequence]] = []
    for index, sequence in enumerate(joining):
        length, remaining = sequence.source_length, len(joining) - index
        if not groups or remaining * (groups[-1][0].source_length - length) > RUN_TOKENS + RUN_ROWS * length:
            groups.append([])
        groups[-1].append(sequence)
    return groups
