"""Beam search over all groups of one width at once.

A group's rows are the running hypotheses of one sequence. Each step ranks the 2b best continuations of b rows: the
best b that do not end run on, and those among the first b that end have ended (Sutskever et al. 2014, section 3.2, in
the form that most toolkits share). At least b of the 2b do not end, and b + 1 candidates of a row are enough, since
each row has one end symbol.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.engine.lane import Move
from service.engine.track import Sums, Track
from service.request import Float32, Int64


class Continued(NamedTuple):
    """How all groups go on: tokens and log-probabilities `[group · b]`, moves, and who ended: track, row, sum."""

    tokens: Int64
    log_probs: Float32
    moves: list[Move]
    endings: list[tuple[Track, int, float]]


@dataclass(slots=True, eq=False)
class Beams:
    """The groups of one width. Their tracks see, and write, their part of its arrays: a step touches no track."""

    width: int
    indices: list[int]
    """Of the sequences in the running list."""
    tracks: list[Track]
    rows: list[int]
    """Of the batch, `[group · b]`."""
    at: slice | list[int]
    """The same: a slice where nothing lies between them."""
    sums: Sums
    """`[group, b]`."""
    bounds: Sums
    """`[group]`."""

    @classmethod
    def of(cls, width: int, indices: list[int], running: list[Track]) -> "Beams":
        """Take the sequences of this width, which stand at these places of the running list, together."""
        tracks = [running[index] for index in indices]
        rows = [track.row + row for track in tracks for row in range(width)]
        sums = np.stack([track.sums for track in tracks])
        bounds = np.concatenate([track.bound for track in tracks])
        for group, track in enumerate(tracks):
            track.sums, track.bound = sums[group], bounds[group : group + 1]
        at = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows
        return cls(width, indices, tracks, rows, at, sums, bounds)

    def advance(self, log_probs: Float32, ids: Int64, end_id: int) -> Continued:
        """Continue the hypotheses by the batch's candidates `[row, k]`; more of a row than b + 1 change nothing."""
        count = self.width + 1
        # Flat: taking by one index costs a fraction of what taking by two does.
        log_probs, ids = log_probs[self.at, :count].ravel(), ids[self.at, :count].ravel()
        sums = self.sums.reshape(-1, 1) + log_probs.reshape(-1, count)
        best = (-sums).reshape(len(self.tracks), -1).argsort(axis=1, kind="stable")[:, : 2 * self.width]
        best += np.arange(0, sums.size, self.width * count)[:, None]
        totals, running = sums.ravel(), best[:, : self.width]
        ends = ids.take(best) == end_id
        endings = []
        if ends.any():
            for group, rank in zip(*(found.tolist() for found in ends[:, : self.width].nonzero()), strict=True):
                if (total := float(totals[running[group, rank]])) > -np.inf:
                    endings.append((self.tracks[group], self.rows[running[group, rank] // count], total))
            ranks = ends.argsort(axis=1, kind="stable")[:, : self.width]
            running = best.take(ranks + np.arange(0, best.size, 2 * self.width)[:, None])
        children, moves = _placed(running.ravel().tolist(), count)
        chosen = np.array(children)
        self.sums[...] = totals.take(chosen).reshape(self.sums.shape)
        moves = [(self.rows[row], self.rows[parent]) for row, parent in moves]
        return Continued(ids.take(chosen), log_probs.take(chosen), moves, endings)

    def complete(self) -> list[int]:
        """Return the places, in the running list, of the sequences that need no further step."""
        best = np.maximum.reduce(self.sums, axis=1)  # What `sums.max` calls.
        return [self.indices[group] for group in (best <= self.bounds).nonzero()[0].tolist()]


def _placed(children: list[int], count: int) -> tuple[list[int], list[Move]]:
    """Return which of these candidates, best first in each group, each row takes, and what moves that makes.

    Each row gave `count`. Its best child stays in it; the others take the rows of the group that had none, as many.
    """
    heirs, siblings, moves, row = [-1] * len(children), [], [], -1
    for child in children:
        if heirs[child // count] < 0:
            heirs[child // count] = child
        else:
            siblings.append(child)
    for child in siblings:
        row = heirs.index(-1, row + 1)
        heirs[row] = child
        moves.append((row, child // count))
    return heirs, moves
