"""How the hypotheses of a beam go on, and in which rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.beams import Beams, Continued
from service.engine.track import Sums, Track
from service.request import DecodingParams, Float32, Int64
from tests.fakes import END_ID

Candidates = tuple[Sums, Float32, Int64]
"""Sums of a group's rows `[row]`, log-probabilities and ids of their candidates `[row, k]`."""


@st.composite
def groups(draw: st.DrawFn) -> list[Candidates]:
    """Draw groups of one width in the middle of a search; the end symbol is among the candidates of some rows."""
    width, seed = draw(st.integers(2, 6)), draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    k = width + 1 + draw(st.integers(0, 3))
    return [any_group(rng, width, k) for _ in range(draw(st.integers(1, 5)))]


def any_group(rng: np.random.Generator, width: int, k: int) -> Candidates:
    """Return what a step might leave of a group, at most one end symbol in each row."""
    log_probs = -np.sort(rng.exponential(1.0, (width, k)).astype(np.float32), axis=1)
    ids = rng.integers(END_ID + 1, 99, (width, k))
    ids[np.arange(width), rng.integers(0, k, width)] = rng.choice([END_ID, 50], width)
    return -rng.exponential(1.0, width), log_probs, ids


def advance(given_groups: list[Candidates], first: int = 0) -> tuple[Continued, list[Track]]:
    """Advance groups together, in rows from `first` on."""
    width = len(given_groups[0][0])
    params = DecodingParams(20, beam_size=width)
    tracks = [
        Track(params, width, 0, plain=False, row=first + at * width, sums=sums.copy())
        for at, (sums, _, _) in enumerate(given_groups)
    ]
    shape = (first, given_groups[0][1].shape[1])
    log_probs = np.concatenate([np.zeros(shape, np.float32), *(group[1] for group in given_groups)])
    ids = np.concatenate([np.zeros(shape, np.int64), *(group[2] for group in given_groups)])
    return Beams.of(width, list(range(len(tracks))), tracks).advance(log_probs, ids, END_ID), tracks


@given(groups())
def test_the_best_candidates_run_on(asked: list[Candidates]) -> None:
    """In each group the best b that do not end go on, whatever their rows, and what ends before them has ended."""
    continued, tracks = advance(asked)
    for track, (sums, log_probs, ids) in zip(tracks, asked, strict=True):
        width, k = log_probs.shape
        ranked = sorted(
            (
                (float(sums[row] + log_probs[row, at]), row, int(ids[row, at]))
                for row in range(width)
                for at in range(k)
            ),
            reverse=True,
        )
        expected = [one for one in ranked if one[2] != END_ID][:width]
        rows = range(track.row, track.row + width)
        parents = {row: row for row in rows} | {row: parent for row, parent in continued.moves if row in rows}
        found = [
            (float(track.sums[row - track.row]), parents[row] - track.row, int(continued.tokens[row])) for row in rows
        ]
        assert expected == sorted(found, reverse=True)
        ended = [(total, row - track.row, END_ID) for of, row, total in continued.endings if of is track]
        assert [one for one in ranked[:width] if one[2] == END_ID] == ended


@given(groups())
def test_hypotheses_stay_in_their_rows_where_they_can(asked: list[Candidates]) -> None:
    """A row that has a child keeps its best one; a row that takes another's child had none, and nobody continues it."""
    continued, tracks = advance(asked)
    moved = dict(continued.moves)
    assert len(moved) == len(continued.moves)
    assert not moved.keys() & set(moved.values())
    for row, parent in moved.items():
        (track,) = {track.row: track for track in tracks if track.row <= row < track.row + track.rows}.values()
        assert track.row <= parent < track.row + track.rows
        assert track.sums[parent - track.row] >= track.sums[row - track.row]


@given(groups(), st.integers(0, 3))
def test_a_group_goes_on_as_it_would_alone(asked: list[Candidates], first: int) -> None:
    """Tokens, sums and rows are the same whoever stands beside a group, and wherever it begins."""
    together, tracks = advance(asked, first)
    for at, (track, group) in enumerate(zip(tracks, asked, strict=True)):
        alone, (single,) = advance([group])
        rows = slice(at * track.rows, (at + 1) * track.rows)
        assert alone.tokens.tolist() == together.tokens[rows].tolist()
        assert alone.log_probs.tolist() == together.log_probs[rows].tolist()
        assert single.sums.tolist() == track.sums.tolist()
        mine = range(track.row, track.row + track.rows)
        assert alone.moves == [(row - track.row, parent - track.row) for row, parent in together.moves if row in mine]
