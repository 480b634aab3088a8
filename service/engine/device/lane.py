"""The rows of a lane in slots of an arena: who leaves costs nothing, and who joins takes a slot that is free.

A slot that nobody has goes on with what it held: a source of somebody who was there, so that all it computes is finite.
Nothing that it computes is read.
"""

from collections.abc import Sequence

import numpy as np

from service.engine.device.arena import Arena
from service.engine.device.shapes import Buckets, Shape
from service.engine.lane import Load, Move
from service.engine.session import Encoded, Stepped
from service.request import Int64


class DeviceLane:
    """Groups of `group_rows` rows each, as `lane.Lane` holds them, whose tensors never leave the device."""

    def __init__(self, arena: Arena, buckets: Buckets, group_rows: int) -> None:
        self.arena = arena
        self._buckets = buckets
        self.group_rows = group_rows
        self._slots = self._rows = np.empty(0, np.int64)
        self._lengths = self._ages = np.empty(0, np.int64)
        self._idle_token = 0
        self._sent: Int64 | None = None
        """The token of each slot that the device has for the next step; None: others than those that were chosen."""
        self._launched = False
        self.tokens: Int64 = np.empty(0, np.int64)
        """The tokens `[row]` that the next step reads."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @property
    def load(self) -> Load:
        """What it holds."""
        width = self.arena.shape.width if len(self._slots) else 0
        return Load(self.group_rows, len(self._lengths), width, int(self._lengths.sum()))

    def insert(self, encoded: Encoded, lengths: Int64, sources: Sequence[int], start_id: int) -> None:
        """Append a group for each of these encoded sources, in ascending order, at the start symbol."""
        staying, joining = len(self._slots), len(sources)
        self._lengths = np.concatenate((self._lengths, lengths[sources]))
        self._ages = np.concatenate((self._ages, np.zeros(joining * self.group_rows, np.int64)))
        self.tokens = np.concatenate((self.tokens, np.full(joining * self.group_rows, start_id)))
        self._idle_token = start_id
        self._fit(staying + joining)
        free = np.setdiff1d(np.arange(self.arena.shape.groups), self._slots)
        self._take(np.concatenate((self._slots, free[:joining])))
        if not staying:  # whoever is the first fills all slots: none may hold what never was a source
            sources = [*sources, *[sources[0]] * (len(free) - joining)]
        self.arena.join(encoded, free[: len(sources)], np.array(sources))
        self._sent = None

    def launch(self, k: int, attention: bool) -> None:
        """Let the device begin a step over all slots; nothing else may be asked of this lane before `advance`."""
        self._fit(len(self._slots))
        rows = self.arena.shape.rows
        if self._sent is None or (self._sent[self._rows] != self.tokens).any():
            sent = np.full(rows, self._idle_token)
            sent[self._rows] = self.tokens
            self.arena.feed(sent)
        if self.arena.shape.capacity:
            lengths = np.zeros(rows, np.int64)
            lengths[self._rows] = self._ages
            self.arena.age(lengths)
        self.arena.launch(k, attention)
        self._ages = self._ages + 1
        self._launched = True

    def advance(self, k: int, attention: bool) -> Stepped:
        """Return what the slots gave that somebody has, in the step that was launched, or is now."""
        if not self._launched:
            self.launch(k, attention)
        self._launched = False
        left = self.arena.collect()
        self._sent = left.ids[:, 0].copy() if k == 1 else None
        weights = None if left.attention is None else left.attention[self._rows].astype(np.float32, copy=False)
        return Stepped(left.log_probs[self._rows].astype(np.float32, copy=False), left.ids[self._rows], weights, {})

    def reorder(self, moves: Sequence[Move]) -> None:
        """Let rows continue others of their groups, which stay: memory stays where it is."""
        rows, parents = np.array(moves).T
        self.arena.move(self._rows[rows], self._rows[parents])

    def keep(self, groups: Sequence[int]) -> None:
        """Drop all groups but these; group j becomes what group `groups[j]` was. On the device nothing happens."""
        kept = np.array(groups)
        rows = (kept[:, None] * self.group_rows + np.arange(self.group_rows)).ravel()
        self._lengths, self._ages, self.tokens = self._lengths[kept], self._ages[rows], self.tokens[rows]
        self._take(self._slots[kept])

    def _fit(self, groups: int) -> None:
        """Take the bucket that so many groups need; who is there already is brought together in it."""
        caches = bool(self._buckets.max_capacity)
        oldest = int(self._ages.max()) + 1 if caches else 0
        needed = Shape(groups, self.group_rows, int(self._lengths.max()), oldest)
        now = self.arena.shape if self.arena.shape.group_rows == self.group_rows else None
        shape = self._buckets.fit(needed, now)
        if shape == self.arena.shape:
            return
        self._sent = None
        if not len(self._slots):
            self.arena.clear(shape)
            return
        others = np.full(max(0, shape.groups - len(self._slots)), self._slots[0])
        self.arena.reshape(shape, np.concatenate((self._slots, others)))
        self._take(np.arange(len(self._slots)))

    def _take(self, slots: Int64) -> None:
        self._slots = slots
        self._rows = (slots[:, None] * self.group_rows + np.arange(self.group_rows)).ravel()
