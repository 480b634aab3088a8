"""Who joins next: by priority and, within one, evenly between clients, however much each of them asks for."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.engine.sequence import Sequence
from service.request import Priority, Request

CROWD = 2
"""A client with more texts running than this is one of many, however many rows each of them takes,"""
MANY = 16
"""and so is one that has as many waiting and running."""
Key = tuple[Priority, str]


@dataclass(slots=True)
class Client:
    """What one client has waiting, in order of arrival, what it has running, and when it last had its turn."""

    waiting: dict[str, Sequence] = field(default_factory=dict)
    running: int = 0
    rows: int = 0
    crowd_rows: int = 0
    """Its rows, if it is one of many texts."""
    turn: int = 0


class FairQueue:
    """The waiting sequences.

    The next one is of the client with the fewest running rows; among these, of the one that has waited longest for its
    turn. So a client with a thousand texts costs one with a single text the wait for a free row, and no more.
    """

    def __init__(self) -> None:
        self._clients: dict[Key, Client] = {}
        self._of: dict[str, Key] = {}
        self._idle: dict[Priority, dict[Key, None]] = {priority: {} for priority in sorted(Priority, reverse=True)}
        """Clients that wait and have nothing running, in the order of their turns; the highest priority first."""
        self._busy: dict[Priority, dict[Key, None]] = {priority: {} for priority in Priority}
        """Clients that wait and have rows running: never more than there are rows."""
        self._turns = itertools.count(1)
        self.crowd_rows = 0
        """Rows that run for clients of many texts."""

    def __len__(self) -> int:
        """Count the sequences that wait."""
        return len(self._of)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence behind the others of its client."""
        key = _key(sequence.request)
        client = self._clients.setdefault(key, Client())
        client.waiting[sequence.request.request_id] = sequence
        self._of[sequence.request.request_id] = key
        self._place(key, client)

    def next(self) -> Sequence | None:
        """Return whose turn it is; it stays in the queue."""
        keys = itertools.chain.from_iterable(map(self._in_turn, self._idle))
        return next((next(iter(self._clients[key].waiting.values())) for key in keys), None)

    def upcoming(self, count: int) -> Iterator[Sequence]:
        """Yield so many of those that wait, in about the order of their turns."""
        turns = (self._turns_of(priority, count) for priority in self._idle)
        return itertools.islice(itertools.chain.from_iterable(turns), count)

    def _turns_of(self, priority: Priority, clients: int) -> Iterator[Sequence]:
        waiting = [self._clients[key].waiting.values() for key in itertools.islice(self._in_turn(priority), clients)]
        return filter(None, itertools.chain.from_iterable(itertools.zip_longest(*waiting)))

    def start(self, sequence: Sequence) -> None:
        """Take out a sequence that begins to run; its client has had its turn."""
        key = self._of[sequence.request.request_id]
        client = self._clients[key]
        client.running, client.rows = client.running + 1, client.rows + sequence.rows
        client.turn = next(self._turns)
        self._remove(sequence.request.request_id)

    def end(self, sequence: Sequence) -> None:
        """Note that a sequence runs no more."""
        key = _key(sequence.request)
        client = self._clients[key]
        client.running, client.rows = client.running - 1, client.rows - sequence.rows
        self._place(key, client)

    def turns_before(self, request: Request) -> int:
        """Return about how many sequences join before a request that would come now; may be called from any thread.

        Between two texts of one client, each of the others gets a turn.
        """
        if not self._of:
            return 0
        client = self._clients.get(_key(request))
        own = len(client.waiting) if client is not None else 0
        clients = sum(len(places) for part in (self._idle, self._busy) for places in part.values())
        return min(len(self), (own + 1) * clients)

    def is_crowd(self, sequence: Sequence) -> bool:
        """Whether a waiting sequence is of a client that, with it, is one of many texts."""
        return self._clients[_key(sequence.request)].running >= CROWD or self.is_large(sequence)

    def is_large(self, sequence: Sequence) -> bool:
        """Whether a waiting sequence is of a client that has many texts, waiting and running."""
        client = self._clients[_key(sequence.request)]
        return len(client.waiting) + client.running >= MANY

    def withdraw(self, request_id: str) -> Sequence | None:
        """Take out a sequence that will not run; None if it does not wait."""
        return self._remove(request_id) if request_id in self._of else None

    def clear(self) -> list[Sequence]:
        """Forget all that waits, and return it; nothing runs any more either."""
        self.crowd_rows = 0
        dropped = [sequence for client in self._clients.values() for sequence in client.waiting.values()]
        self._clients.clear()
        self._of.clear()
        for places in (*self._idle.values(), *self._busy.values()):
            places.clear()
        return dropped

    def _remove(self, request_id: str) -> Sequence:
        key = self._of.pop(request_id)
        client = self._clients[key]
        sequence = client.waiting.pop(request_id)
        self._place(key, client)
        return sequence

    def _place(self, key: Key, client: Client) -> None:
        """Note where a client stands now."""
        is_crowd = client.running > CROWD or len(client.waiting) + client.running >= MANY
        before, client.crowd_rows = client.crowd_rows, client.rows if is_crowd else 0
        self.crowd_rows += client.crowd_rows - before
        idle, busy = self._idle[key[0]], self._busy[key[0]]
        if not client.waiting or client.rows:
            idle.pop(key, None)
        elif key not in idle:
            idle[key] = None
        if client.waiting and client.rows:
            busy[key] = None
        else:
            busy.pop(key, None)
        if not client.waiting and not client.rows:
            del self._clients[key]

    def _in_turn(self, priority: Priority) -> Iterator[Key]:
        """Yield the clients that wait, those with nothing running first."""
        yield from self._idle[priority]
        yield from sorted(self._busy[priority], key=self._claim)

    def _claim(self, key: Key) -> tuple[int, int]:
        client = self._clients[key]
        return client.rows, client.turn


def _key(request: Request) -> Key:
    """Return whom a request belongs to: within each priority a client counts anew."""
    return request.priority, request.client or request.request_id
