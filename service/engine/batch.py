"""The decoder batch: which row is where.

Attention costs what it attends to, padding included, so a long source would make every short one in its run as dear as
itself. The batch therefore runs in lanes: rows of similar source length share one run of the decoder graph. A run has
a price of its own, so a few rows share a lane whatever their lengths.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from service.engine.buffer import fill_from_tail
from service.engine.lane import Load, Move, Rows
from service.engine.session import Encoded, Stepped
from service.request import Int64


class Lanes(Protocol):
    """Where lanes come from: the host, or a device."""

    @property
    def start_id(self) -> int:
        """What a row begins with."""

    @property
    def run_price(self) -> int:
        """What one more run per step costs, in padded positions attended to."""

    def open(self, group_rows: int) -> Rows:
        """Return a lane without rows."""

    def close(self, lane: Rows) -> None:
        """Take back a lane that nobody is in."""


class Batch:
    """All rows, in one order for the rest of the engine, in lanes for the model. Owned by the engine thread."""

    def __init__(self, source: Lanes) -> None:
        self._source = source
        self._set([], [])

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self._lanes))

    @property
    def lanes(self) -> list[int]:
        """Rows of each lane."""
        return [len(lane) for lane in self._lanes]

    def clear(self) -> None:
        """Drop all rows and their memory."""
        for lane in self._lanes:
            self._source.close(lane)
        self._set([], [])

    def _set(self, lanes: list[Rows], rows: list[list[int]]) -> None:
        """Take these lanes; lane row i of lane n is batch row `rows[n][i]`."""
        self._lanes, self._rows = lanes, rows
        self._in_order = len(rows) == 1 and rows[0] == list(range(len(rows[0])))

    def insert(self, encoded: Encoded, source_lengths: Int64, rows_each: Sequence[int]) -> None:
        """Append the rows of joiners: `rows_each[i]` rows (or none) for encoded source i, each at the start symbol."""
        lanes, places = list(self._lanes), [list(rows) for rows in self._rows]
        loads = [lane.load for lane in lanes]
        joining: dict[int, list[int]] = {}
        row = len(self)
        for source, (length, rows) in enumerate(zip(source_lengths.tolist(), rows_each, strict=True)):
            if not rows:
                continue
            chosen = choose_lane(loads, rows, length, self._source.run_price)
            if chosen == len(loads):
                loads.append(Load(rows, 0, 0, 0))
                lanes.append(self._source.open(rows))
                places.append([])
            loads[chosen] = loads[chosen].plus(length)
            joining.setdefault(chosen, []).append(source)
            places[chosen] += range(row, row + rows)
            row += rows
        for chosen, sources in joining.items():
            lanes[chosen].insert(encoded, source_lengths, sources, self._source.start_id)
        self._set(lanes, places)

    def launch(self, k: int, attention: bool) -> bool:  # noqa: ARG002  what a device needs to know
        """Begin a step where that can be done ahead of `advance`; return whether it goes on while this thread does."""
        return False

    def advance(self, k: int, attention: bool) -> Stepped:
        """Run one step over all rows. `attention` is as wide as the widest lane; the state stays here."""
        if self._in_order:
            return self._lanes[0].advance(k, attention)
        return _merge([lane.advance(k, attention) for lane in self._lanes], self._rows, len(self))

    def reorder(self, moves: Sequence[Move]) -> None:
        """Let rows continue others of the same source, which stay: memory stays where it is."""
        if self._in_order:
            self._lanes[0].reorder(moves)
            return
        for lane, rows in zip(self._lanes, self._rows, strict=True):
            place = {row: at for at, row in enumerate(rows)} if lane.group_rows > 1 else {}
            if mine := [(place[row], place[parent]) for row, parent in moves if row in place]:
                lane.reorder(mine)

    def feed(self, token_ids: Int64) -> None:
        """Set the tokens `[row]` that the next step reads."""
        if self._in_order:
            self._lanes[0].tokens = token_ids
            return
        for lane, rows in zip(self._lanes, self._rows, strict=True):
            lane.tokens = token_ids[rows]

    def keep(self, kept: list[int]) -> None:
        """Drop all rows but these; row j becomes what row `kept[j]` was."""
        renumbered = [-1] * len(self)
        for row, before in enumerate(kept):
            renumbered[before] = row
        lanes, places = [], []
        for lane, rows in zip(self._lanes, self._rows, strict=True):
            now, size = [renumbered[row] for row in rows], lane.group_rows
            groups = len(now) // size
            gone = {group for group in range(groups) if now[group * size] < 0} if -1 in now else set()
            if len(gone) == groups:
                self._source.close(lane)
                continue
            if gone:
                staying = fill_from_tail(groups, gone)
                lane.keep(staying)
                now = [now[group * size + row] for group in staying for row in range(size)]
            lanes.append(lane)
            places.append(now)
        self._set(lanes, places)


def choose_lane(loads: Sequence[Load], rows: int, length: int, run_price: int) -> int:
    """Return the lane where the rows of a new source add the least padding; a new one, where padding would cost a run.

    All groups of a lane have as many rows: those of one source, which share its memory.
    """
    chosen, least = len(loads), run_price + 1
    for index, load in enumerate(loads):
        if load.group_rows != rows:
            continue
        after = load.plus(length)
        if after.padding <= run_price and after.padding - load.padding < least:
            chosen, least = index, after.padding - load.padding
    return chosen


def _merge(stepped: list[Stepped], places: list[list[int]], rows: int) -> Stepped:
    """Put what the lanes gave into the order of the batch."""
    k = stepped[0].ids.shape[1]
    merged = Stepped(np.empty((rows, k), np.float32), np.empty((rows, k), np.int64), None, {})
    weights = [part.attention for part in stepped if part.attention is not None]
    if weights:
        width = max(part.shape[1] for part in weights)
        merged = merged._replace(attention=np.zeros((rows, width), np.float32))
    for part, place in zip(stepped, places, strict=True):
        merged.log_probs[place], merged.ids[place] = part.log_probs, part.ids
        if merged.attention is not None and part.attention is not None:
            merged.attention[place, : part.attention.shape[1]] = part.attention
    return merged
