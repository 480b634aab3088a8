"""A running sequence as the search sees it: its rows, what they may choose, and its hypotheses that have ended."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine.constraints import ban, banned_tokens, force
from service.engine.history import Place
from service.engine.sampling import Draws
from service.engine.sequence import Sequence
from service.request import DecodingParams, FinishReason, Float32, Int64

Sums = NDArray[np.float64]
"""Log-probabilities of running hypotheses so far; -inf: the row has none."""


class Ended(NamedTuple):
    """A hypothesis that has ended: its score, why, and the place of its last token, so many `tokens` from its start.

    The end symbol is not among these tokens.
    """

    score: float
    reason: FinishReason
    place: Place
    tokens: int


@dataclass(slots=True, eq=False)
class Track:
    """What the search keeps of a sequence. Rows are counted from its first one."""

    params: DecodingParams
    rows: int
    first_step: int
    """Number of the step before its first."""
    plain: bool
    """Whether its one row just takes the most probable token at every step."""
    row: int = 0
    """Its first row of the batch."""
    sums: Sums = field(default_factory=lambda: np.zeros(1))
    """Log-probabilities of its rows' running hypotheses; -inf: the row has none."""
    bound: Sums = field(default_factory=lambda: np.full(1, -np.inf))
    """`[1]`: a beam is complete when none of its sums is above this."""
    draws: list[Draws] = field(default_factory=list)
    banned: list[set[int]] = field(default_factory=list)
    """What may not come next in each row, where the request forbids something."""
    ended: list[Ended] = field(default_factory=list)

    @classmethod
    def of(cls, sequence: Sequence, step: int, end_id: int) -> "Track":
        """Begin to track a sequence that joined after this step."""
        params = sequence.request.params
        track = cls(params, sequence.rows, step, params.plain)
        if track.plain:
            return track
        track.sums = np.zeros(track.rows)
        if params.beam_size > 1:
            track.sums[1:] = -np.inf  # all rows are alike at first, so only one of them has a say
        if params.sampling is not None:
            track.draws = [Draws(params.sampling, row) for row in range(track.rows)]
        if params.constrained:
            track.forbid([[]] * track.rows, end_id)
        return track

    @property
    def running(self) -> list[int]:
        """Rows that hold a running hypothesis."""
        return [row for row, total in enumerate(self.sums.tolist()) if total > -np.inf]

    @property
    def k(self) -> int:
        """Candidates that the next step must give each of its rows."""
        wanted = self.params.beam_size + (self.params.beam_size > 1)
        if self.params.sampling is not None:
            wanted = self.params.sampling.top_k
        return wanted + max(map(len, self.banned), default=0)

    def forbid(self, tokens: list[list[int]], end_id: int) -> None:
        """Work out what may not follow these tokens, a list for each row."""
        self.banned = [banned_tokens(self.params, end_id, row) for row in tokens]

    def constrain(self, step: int, log_probs: Float32, ids: Int64) -> None:
        """Force or forbid candidates of the batch `[row, k]`, in place, at the step of this number."""
        at = step - self.first_step - 1
        for offset, banned in enumerate(self.banned):
            row = self.row + offset
            if at < len(self.params.prefix_ids):
                force(log_probs[row], ids[row], self.params.prefix_ids[at])
            else:
                ban(log_probs[row], ids[row], banned)

    def end(self, row: int, reason: FinishReason, place: Place, count: int, total: float) -> None:
        """Note that a hypothesis has ended after `count` tokens, the end symbol aside."""
        length = count - len(self.params.prefix_ids) + (reason is FinishReason.END)
        self.ended.append(Ended(total / self.params.length_penalty(max(length, 1)), reason, place, count))
        if reason is not FinishReason.END or self.params.beam_size == 1:
            self.sums[row] = -np.inf
        self.bound[0] = self._bound()

    def _bound(self) -> float:
        """Return the sum that a running hypothesis must exceed for a further step to matter.

        Without patience this is exact: a sum of log-probabilities only falls, so no descendant of the best running
        hypothesis scores more than that one's sum over the largest penalty it can reach.
        """
        params = self.params
        if params.patience:
            return np.inf if len(self.ended) >= round(params.beam_size * params.patience) else -np.inf
        if len(self.ended) < params.num_hypotheses:
            return -np.inf
        to_beat = sorted((ended.score for ended in self.ended), reverse=True)[params.num_hypotheses - 1]
        return to_beat * params.length_penalty(params.max_target_tokens - len(params.prefix_ids))
