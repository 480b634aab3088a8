"""Beam search over all groups of one width at once.

A group's rows are the running hypotheses of one sequence. Each step ranks the 2b best continuations of b rows: the
best b that do not end run on, and those among the first b that end have ended (Sutskever et al. 2014, section 3.2, in
the form that most toolkits share). At least b of the 2b do not end, since each row has one end symbol.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.engine.track import Sums, Track
from service.request import Float32, Int64


class Continued(NamedTuple):
    """How the rows of all groups go on, all `[group · b]`; `parents` are rows of the batch."""

    tokens: Int64
    parents: Int64
    log_probs: Float32


class Ending(NamedTuple):
    """A hypothesis that chose the end symbol: its track, the row of the batch it continues, its sum."""

    track: Track
    row: int
    total: float


@dataclass(slots=True, eq=False)
class Beams:
    """The groups of one width. Their tracks see, and write, their part of its arrays: a step touches no track."""

    width: int
    indices: list[int]
    """Of the sequences in the running list."""
    tracks: list[Track]
    rows: Int64
    """Of the batch, `[group · b]`."""
    at: slice | Int64
    """The same: a slice where nothing lies between them."""
    sums: Sums
    """`[group, b]`."""
    bounds: Sums
    """`[group]`."""

    @classmethod
    def of(cls, width: int, indices: list[int], tracks: list[Track]) -> "Beams":
        """Take the sequences of this width, which stand at these places of the running list, together."""
        rows = (np.array([track.row for track in tracks])[:, None] + np.arange(width)).ravel()
        first, last = int(rows[0]), int(rows[-1])
        sums = np.stack([track.sums for track in tracks])
        bounds = np.concatenate([track.bound for track in tracks])
        for group, track in enumerate(tracks):
            track.sums, track.bound = sums[group], bounds[group : group + 1]
        at = slice(first, last + 1) if last + 1 - first == len(rows) else rows
        return cls(width, indices, tracks, rows, at, sums, bounds)

    def advance(self, log_probs: Float32, ids: Int64, end_id: int) -> tuple[Continued, list[Ending]]:
        """Continue the hypotheses by the batch's candidates `[row, k]`, k at least 2b.

        More candidates than 2b change nothing: a neighbour that asks for more is not noticed.
        """
        count, groups = 2 * self.width, len(self.tracks)
        # Flat: taking by one index costs a fraction of what taking by two does.
        log_probs, ids = log_probs[self.at, :count].ravel(), ids[self.at, :count].ravel()
        sums = (self.sums[:, :, None] + log_probs.reshape(groups, self.width, count)).reshape(groups, -1)
        best = np.argsort(-sums, axis=1, kind="stable")[:, :count]
        best += np.arange(0, sums.size, sums.shape[1])[:, None]
        totals = sums.ravel()
        ends = ids.take(best) == end_id
        endings = []
        running = best[:, : self.width]
        if ends.any():
            ended = ends[:, : self.width] & np.isfinite(totals.take(running))
            endings = [
                Ending(self.tracks[group], int(self.rows[best[group, rank] // count]), float(totals[best[group, rank]]))
                for group, rank in np.argwhere(ended).tolist()
            ]
            running = np.take_along_axis(best, np.argsort(ends, axis=1, kind="stable")[:, : self.width], axis=1)
        self.sums[...] = totals.take(running)
        flat = running.ravel()
        return Continued(ids.take(flat), self.rows.take(flat // count), log_probs.take(flat)), endings

    def complete(self) -> list[int]:
        """Return the places, in the running list, of the sequences that need no further step."""
        return [self.indices[group] for group in (self.sums.max(axis=1) <= self.bounds).nonzero()[0].tolist()]
