"""One tensor of many rows in one piece of storage: rows come and go, and an axis grows, with little copying.

Rows lie packed from the start, so that what a graph reads is one contiguous view. New rows are written behind the last
one and holes are filled from the tail: both cost what changes and not what stays.
"""

import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray


def capacity(tokens: int) -> int:
    """Return the capacity that caches get for so many tokens: 16, 24, 32, 48, 64, 96 and so on."""
    power = 1 << max(4, (tokens - 1).bit_length())
    return power if power == 16 or tokens > power * 3 // 4 else power * 3 // 4


class Buffer:
    """Rows `[rows, …, width, …]`; `axis` says which axis is as wide as is needed now."""

    def __init__(self, like: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> None:
        """Hold no rows yet; `like` is the shape of a row, whose size along `axis` of the whole is ignored."""
        self._head, self._tail = like[: axis - 1], like[axis:]
        self._axis = axis
        self._before = (slice(None),) * (axis - 1)
        self._storage: NDArray[Any] = np.empty(0, dtype)
        self.view = self._shaped(self._storage, 0, 0)
        """What there is, contiguous."""

    @property
    def width(self) -> int:
        """Positions along the axis that grows."""
        return int(self.view.shape[self._axis])

    def insert(self, values: NDArray[Any], width: int) -> None:
        """Append rows `[joining, …, positions, …]` and bring all rows to `width`; what lies behind a row is zero."""
        rows = len(self.view)
        longest = min(width, values.shape[self._axis])
        self.resize(rows + len(values), width)
        joined = self.view[rows:]
        joined[self._up_to(longest)] = values[self._up_to(longest)]
        joined[self._from(longest)] = 0

    def resize(self, rows: int, width: int) -> None:
        """Make room for so many rows of this width: zero where the axis grew, and something finite in new rows."""
        old = self.view
        size = rows * width * math.prod(self._head + self._tail)
        if len(old) and (width != self.width or size > self._storage.size):
            storage = np.zeros(_with_room(size), old.dtype)
            self.view = self._shaped(storage, rows, width)
            kept, staying = self._up_to(min(width, old.shape[self._axis])), self.view[: len(old)]
            staying[kept] = old[:rows][kept]
            self._storage = storage
            return
        if size > self._storage.size:
            self._storage = np.zeros(_with_room(size), old.dtype)
        self.view = self._shaped(self._storage, rows, width)

    def keep(self, rows: Sequence[int]) -> None:
        """Let row j hold what row `rows[j]` held, with `rows[j] >= j`."""
        self.view = close_ranks(self.view, rows)

    def copy(self, row: int, source: int, positions: slice) -> None:
        """Let a row hold what another holds at these positions."""
        at = (*self._before, positions)
        self.view[row][at] = self.view[source][at]

    def _up_to(self, width: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._axis, slice(0, width))

    def _from(self, width: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._axis, slice(width, None))

    def _shaped(self, storage: NDArray[Any], rows: int, width: int) -> NDArray[Any]:
        size = rows * width * math.prod(self._head + self._tail)
        return storage[:size].reshape(rows, *self._head, width, *self._tail)


def _with_room(size: int) -> int:
    """Return a size that a few more rows need not exceed."""
    return size + size // 4


def close_ranks(values: NDArray[Any], rows: Sequence[int]) -> NDArray[Any]:
    """Let row j hold what row `rows[j]` held, in place, with `rows[j] >= j`; return as many rows as that makes."""
    for row, before in enumerate(rows):
        if row != before:
            values[row] = values[before]
    return values[: len(rows)]


def fill_from_tail(count: int, gone: Set[int]) -> list[int]:
    """Order those of `count` that stay, such that only as many move as left: the last ones move into the holes."""
    order = list(range(count - len(gone)))
    tail = (index for index in range(count - 1, -1, -1) if index not in gone)
    for hole in sorted(gone):
        if hole < len(order):
            order[hole] = next(tail)
    return order
