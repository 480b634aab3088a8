"""Rows that run together: dense, in one memory of one width, so that a run computes nothing that nobody waits for.

The rows of one source are a group and read one memory, whatever the beam is wide. Memory lies in one buffer per tensor,
`[groups, width]` and what follows, packed from the start. A joiner's is written behind the last one and a leaver's hole
is filled from the tail, so both cost what changes and not what stays.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine.session import Arrays, Encoded, Model, Stepped
from service.request import Int64

WIDTH_STEP = 8
"""The width, in source tokens, is a multiple of this."""

SHRINK_BELOW = 0.75
"""The width shrinks when less than this share of it is needed: changing it moves every row, padding costs little."""


def rounded_width(longest: int) -> int:
    """Return the width that sources up to this length get."""
    return -(-longest // WIDTH_STEP) * WIDTH_STEP


class MemoryBuffer:
    """One memory tensor of all groups; its storage grows by doubling and is bounded by max_rows × the longest source.

    A row of it is a group.
    """

    def __init__(self, like: NDArray[Any]) -> None:
        self._tail = like.shape[2:]
        self._storage: NDArray[Any] = np.empty(0, like.dtype)
        self.view = self._shaped(self._storage, 0, 0)

    def insert(self, values: NDArray[Any], width: int) -> None:
        """Append rows `[joining, source, …]` and bring all rows to `width`; what lies behind a source is zero."""
        rows = self.view.shape[0]
        longest = min(width, values.shape[1])
        self._reshape(rows + len(values), width)
        self.view[rows:, :longest] = values[:, :longest]
        self.view[rows:, longest:] = 0

    def keep(self, rows: Int64, moved: Int64) -> None:
        """Let row j hold what row `rows[j]` held; `moved` are the j for which the two differ, ascending."""
        for row in moved:
            self.view[row] = self.view[rows[row]]
        self.view = self.view[: len(rows)]

    def _reshape(self, rows: int, width: int) -> None:
        old = self.view
        size = rows * width * math.prod(self._tail)
        if len(old) and (width != old.shape[1] or size > self._storage.size):
            storage = np.empty(max(self._storage.size, _doubled(size)), old.dtype)
            self.view = self._shaped(storage, rows, width)
            kept = min(width, old.shape[1])
            self.view[: len(old), :kept] = old[:, :kept]
            self.view[: len(old), kept:] = 0
            self._storage = storage
            return
        if size > self._storage.size:
            self._storage = np.empty(_doubled(size), old.dtype)
        self.view = self._shaped(self._storage, rows, width)

    def _shaped(self, storage: NDArray[Any], rows: int, width: int) -> NDArray[Any]:
        return storage[: rows * width * math.prod(self._tail)].reshape(rows, width, *self._tail)


def _doubled(size: int) -> int:
    return 1 << (size - 1).bit_length()


class Load(NamedTuple):
    """What a lane holds: rows of each group, groups, width, and source tokens over all groups."""

    group_rows: int
    groups: int
    width: int
    tokens: int

    @property
    def padding(self) -> int:
        """Padded positions that each step attends to in vain."""
        return self.group_rows * (self.groups * self.width - self.tokens)

    def plus(self, length: int) -> "Load":
        """Return what it would be with one more group of this source length."""
        width = max(self.width, rounded_width(length))
        return self._replace(groups=self.groups + 1, width=width, tokens=self.tokens + length)


class Lane:
    """Memory, state and next tokens of some groups of `group_rows` rows each."""

    def __init__(self, group_rows: int) -> None:
        self.group_rows = group_rows
        self._memory: dict[str, MemoryBuffer] = {}
        self._carried: Arrays = {}
        self._state: Arrays = {}
        self._lengths: Int64 = np.empty(0, np.int64)
        self._total = 0
        self.tokens: Int64 = np.empty(0, np.int64)
        """The tokens `[row]` that the next step reads."""
        self._width = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.tokens)

    @property
    def load(self) -> Load:
        """What it holds."""
        return Load(self.group_rows, len(self._lengths), self._width, self._total)

    def insert(self, encoded: Encoded, lengths: Int64, sources: Int64, start_id: int) -> None:
        """Append a group for each of `sources` `[group]`, indices of encoded sources, at the start symbol."""
        self._lengths = np.concatenate((self._lengths, lengths[sources]))
        self._total = int(self._lengths.sum())
        needed = rounded_width(int(self._lengths.max()))
        if not self._width * SHRINK_BELOW <= needed <= self._width:
            self._width = needed
        self.tokens = np.concatenate((self.tokens, np.full(len(sources) * self.group_rows, start_id)))
        for name, values in encoded.memory.items():
            buffer = self._memory.setdefault(name, MemoryBuffer(values))
            buffer.insert(values[sources], self._width)
            self._carried[name] = buffer.view
        for name, values in encoded.state.items():
            joining = values[sources.repeat(self.group_rows)]
            self._state[name] = np.concatenate((self._state[name], joining)) if name in self._state else joining

    def advance(self, model: Model, k: int, attention: bool) -> Stepped:
        """Run one step over all rows; the new state stands in for the old."""
        self._carried.update(self._state)
        stepped = model.step(self.tokens, self._carried, k, attention)
        self._state = stepped.state
        return stepped

    def reorder(self, parents: Int64) -> None:
        """Let each row continue row `parents[row]`, of the same source: memory stays where it is."""
        self._state = {name: values[parents] for name, values in self._state.items()}

    def keep(self, groups: Int64) -> None:
        """Drop all groups but these; group j becomes what group `groups[j]` was, with `groups[j] >= j`."""
        moved = np.nonzero(groups != np.arange(len(groups)))[0]
        for name, buffer in self._memory.items():
            buffer.keep(groups, moved)
            self._carried[name] = buffer.view
        size = self.group_rows
        rows = groups if size == 1 else (groups[:, None] * size + np.arange(size)).ravel()
        self._state = {name: values[rows] for name, values in self._state.items()}
        self.tokens, self._lengths = self.tokens[rows], self._lengths[groups]
        self._total = int(self._lengths.sum())
