"""Rows that run together: dense, in one memory of one width, so that a run computes nothing that nobody waits for.

The rows of one source are a group and read one memory, however wide the beam is. Caches belong to rows: a step writes
its column into them where they are, and their capacity follows the oldest row.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from service.engine.buffer import Buffer, capacity, close_ranks
from service.engine.layout import LENGTHS, Layout
from service.engine.session import Arrays, Encoded, Model, Stepped
from service.request import Int64

WIDTH_STEP = 8
"""The width, in source tokens, is a multiple of this."""
SHRINK_BELOW = 0.75
"""The width shrinks when less than this share of it is needed: changing it moves every row, padding costs little."""


def rounded_width(longest: int) -> int:
    """Return the width that sources up to this length get."""
    return -(-longest // WIDTH_STEP) * WIDTH_STEP


Move = tuple[int, int]
"""A row, and another of its group, which it continues; that one continues itself."""


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
        return Load(self.group_rows, self.groups + 1, width, self.tokens + length)


class Rows(Protocol):
    """A lane as the batch sees it, wherever its tensors lie."""

    group_rows: int
    tokens: Int64

    def __len__(self) -> int:
        """Return the number of rows."""

    @property
    def load(self) -> Load:
        """What it holds."""

    def insert(self, encoded: Encoded, lengths: Int64, sources: Sequence[int], start_id: int) -> None:
        """Append a group for each of these encoded sources, in ascending order, at the start symbol."""

    def advance(self, k: int, attention: bool) -> Stepped:
        """Run one step over all rows."""

    def reorder(self, moves: Sequence[Move]) -> None:
        """Let rows continue others of their groups, which stay: memory stays where it is."""

    def keep(self, groups: Sequence[int]) -> None:
        """Drop all groups but these; group j becomes what group `groups[j]` was, with `groups[j] >= j`."""


class Lane:
    """Memory, caches, state and next tokens of some groups of `group_rows` rows each."""

    def __init__(self, model: Model, layout: Layout, group_rows: int) -> None:
        self._model = model
        self._layout = layout
        self.group_rows = group_rows
        self._memory: dict[str, Buffer] = {}
        self._caches = layout.cache_buffers()
        self._carried: Arrays = {}
        self._state: Arrays = {}
        self._lengths: list[int] = []
        self.tokens: Int64 = np.empty(0, np.int64)
        """The tokens `[row]` that the next step reads."""
        self._ages: Int64 = np.empty(0, np.int64)
        """Steps that each row has made: the tokens in its caches."""
        self._oldest = 0
        """The most of them."""
        self._capacity = 0
        """Tokens that caches have room for, of each row."""
        self._alike: list[list[int]] = []
        """Of each row, the tokens with which its caches and those of each row of its group begin alike."""
        self._width = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.tokens)

    @property
    def load(self) -> Load:
        """What it holds."""
        return Load(self.group_rows, len(self._lengths), self._width, sum(self._lengths))

    def insert(self, encoded: Encoded, lengths: Int64, sources: Sequence[int], start_id: int) -> None:
        """Append a group for each of these encoded sources, in ascending order, at the start symbol."""
        together = sources[-1] - sources[0] == len(sources) - 1
        taken = slice(sources[0], sources[-1] + 1) if together else sources
        self._lengths += lengths[taken].tolist()
        needed = rounded_width(max(self._lengths))
        if not self._width * SHRINK_BELOW <= needed <= self._width:
            self._width = needed
        rows = len(sources) * self.group_rows
        self.tokens = np.concatenate((self.tokens, np.full(rows, start_id)))
        self._memory = self._memory or self._layout.memory_buffers(encoded.memory)
        for name, values in encoded.memory.items():
            self._memory[name].insert(values[taken], self._width)
            self._carried[name] = self._memory[name].view
        for name, values in encoded.state.items():
            joining = values[taken] if self.group_rows == 1 else values[taken].repeat(self.group_rows, axis=0)
            staying = (self._state[name],) if name in self._state else ()
            self._state[name] = np.concatenate((*staying, joining))
        if self._caches:
            self._set_ages(np.concatenate((self._ages, np.zeros(rows, np.int64))))
            self._alike += [[0] * self.group_rows for _ in range(rows)]
            self._resize_caches()

    def advance(self, k: int, attention: bool) -> Stepped:
        """Run one step over all rows; the new state stands in for the old, and caches have grown where they are."""
        self._carried.update(self._state)
        stepped = self._model.step(self.tokens, self._carried, k, attention)
        self._state = stepped.state
        if self._caches:
            self._ages += 1
            self._oldest += 1
            if self._oldest >= self._capacity:
                self._resize_caches()
        return stepped

    def reorder(self, moves: Sequence[Move]) -> None:
        """Let rows continue others of their groups, which stay: memory stays where it is."""
        for row, parent in moves:
            for values in self._state.values():
                values[row] = values[parent]
            tokens = self._missing(row, parent) if self._caches else slice(0)
            for cache in self._caches.values():
                cache.copy(row, parent, tokens)

    def _missing(self, row: int, parent: int) -> slice:
        """Return which tokens of another row a row's caches lack, and note that they lack none from now on."""
        age, first = int(self._ages[row]), row - row % self.group_rows
        at, parent_at, group = row - first, parent - first, self._alike[first : first + self.group_rows]
        start, group[parent_at][parent_at] = group[at][parent_at], age
        group[at][:] = group[parent_at]
        for alike in group:
            alike[at] = alike[parent_at]
        return slice(start, age)

    def keep(self, groups: Sequence[int]) -> None:
        """Drop all groups but these; group j becomes what group `groups[j]` was, with `groups[j] >= j`."""
        size = self.group_rows
        rows = groups if size == 1 else [group * size + row for group in groups for row in range(size)]
        for name, buffer in self._memory.items():
            buffer.keep(groups)
            self._carried[name] = buffer.view
        if self._caches:
            for name, buffer in self._caches.items():
                buffer.keep(rows)
                self._carried[name] = buffer.view
            self._set_ages(self._ages[rows])
            self._alike = [self._alike[row] for row in rows]
        self._state = {name: close_ranks(values, rows) for name, values in self._state.items()}
        self.tokens, self._lengths = self.tokens[rows], [self._lengths[group] for group in groups]

    def _set_ages(self, ages: Int64) -> None:
        self._ages = self._carried[LENGTHS] = ages
        self._oldest = int(ages.max(initial=0))

    def _resize_caches(self) -> None:
        """Make room for one more token of the oldest row, and of all rows that have joined."""
        needed = self._oldest + 1
        if not needed <= self._capacity <= 2 * capacity(needed):
            self._capacity = capacity(needed)
        for name, cache in self._caches.items():
            cache.resize(len(self._ages), self._capacity)
            self._carried[name] = cache.view


class HostLanes:
    """Lanes whose tensors lie in the memory of this process, and what a run of one costs there."""

    run_price = 3000
    """What one more run per step costs, in padded positions attended to (measured by the processor time of whole
    translations, 64 rows in flight: weights are read anew, and the host has another lane to look after)."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._layout = Layout.of(model.manifest)
        self.start_id = model.manifest.tokenizer.start_id

    def open(self, group_rows: int) -> Lane:
        """Return a lane without rows."""
        return Lane(self._model, self._layout, group_rows)

    def close(self, lane: Rows) -> None:
        """Let a lane go."""
