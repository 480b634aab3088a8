"""Beam search over all groups of one width at once.

A group's rows are the running hypotheses of one sequence. Each step ranks the 2b best continuations of b rows: the
best b that do not end run on, and those among the first b that end have ended (Sutskever et al. 2014, section 3.2, in
the form that most toolkits share). At least b of the 2b do not end, since each row has one end symbol.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.request import DecodingParams, Float32, Int64

Sums = NDArray[np.float64]
"""Log-probabilities of running hypotheses so far; -inf: the row has none."""


class Continued(NamedTuple):
    """How groups go on, all `[group, b]`; `parents` are rows of the batch."""

    tokens: Int64
    parents: Int64
    log_probs: Float32
    sums: Sums


class Ending(NamedTuple):
    """A hypothesis that chose the end symbol: its group, the row of the batch it continues, its sum."""

    group: int
    row: int
    total: float


def advance(rows: Int64, sums: Sums, log_probs: Float32, ids: Int64, end_id: int) -> tuple[Continued, list[Ending]]:
    """Continue the hypotheses in `rows` `[group, b]` by the batch's candidates `[row, k]`, k at least 2b.

    More candidates than 2b change nothing: a neighbour that asks for more is not noticed.
    """
    groups, width = rows.shape
    log_probs, ids = log_probs[rows, : 2 * width].reshape(groups, -1), ids[rows, : 2 * width].reshape(groups, -1)
    totals = np.repeat(sums, 2 * width, axis=1) + log_probs
    best = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * width]
    totals, tokens = _take(totals, best), _take(ids, best)
    parents = _take(rows, best // (2 * width))
    ends = tokens == end_id
    endings = [
        Ending(int(group), int(parents[group, rank]), float(totals[group, rank]))
        for group, rank in np.argwhere(ends[:, :width] & np.isfinite(totals[:, :width]))
    ]
    running = np.argsort(ends, axis=1, kind="stable")[:, :width]
    continued = Continued(
        _take(tokens, running), _take(parents, running), _take(_take(log_probs, best), running), _take(totals, running)
    )
    return continued, endings


def is_complete(params: DecodingParams, scores: list[float], best_running: float) -> bool:
    """Whether a sequence with these scores of ended hypotheses needs no further step.

    Without patience this is exact: a sum of log-probabilities only falls, so no descendant of the best running
    hypothesis scores more than that one's sum over the largest penalty it can reach.
    """
    if best_running == -np.inf:
        return True
    if params.patience:
        return len(scores) >= round(params.beam_size * params.patience)
    if len(scores) < params.num_hypotheses:
        return False
    attainable = best_running / params.length_penalty(params.max_target_tokens - len(params.prefix_ids))
    return attainable <= sorted(scores, reverse=True)[params.num_hypotheses - 1]


def _take(values: NDArray[Any], indices: Int64) -> NDArray[Any]:
    """Return `values[g, indices[g, i]]`."""
    return values[np.arange(len(values))[:, None], indices]  # half of what take_along_axis costs
