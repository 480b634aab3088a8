"""Arrivals at an engine that is stepped by hand."""

import pytest

from tests.benchmark.host_work import Step, Stopwatch, TimedSession
from tests.benchmark.stepping import Arrivals, alone, at_random, batches, decode, replacing
from tests.benchmark.throughput import spread
from tests.fakes import ReversingModel

SOURCES = [tuple(range(10, 10 + length)) for length in (3, 1, 4, 1, 5, 9, 2, 6)]


@pytest.mark.parametrize("arrivals", [alone, batches(3), replacing(3), at_random(0.7, seed=5)])
def test_every_arrangement_decodes_all_in_order(arrivals: Arrivals) -> None:
    """Whoever arrives when, each source comes back reversed, in the order of submission."""
    outputs = decode(ReversingModel(), SOURCES, arrivals, max_rows=4)

    assert [source[::-1] for source in SOURCES] == [output.hypotheses[0].token_ids for output in outputs]


def test_arrangements_fill_the_batch_as_they_say() -> None:
    """Alone means one row; full batches do not overlap; replaced rows stay filled while there is something to do."""
    rows: list[int] = []

    decode(ReversingModel(rows.append), SOURCES, alone)
    assert {1} == set(rows)
    rows.clear()
    decode(ReversingModel(rows.append), SOURCES[:4], batches(2))
    assert [2, 2, 1, 1, 2, 2, 1, 1, 1] == rows
    rows.clear()
    decode(ReversingModel(rows.append), [(7, 8)] * 4, replacing(2))
    assert [2] * 6 == rows


def test_stopwatch_tells_runs_from_the_rest() -> None:
    """A step's host share is what lies outside of the sessions' runs."""
    sessions = [TimedSession(None), TimedSession(None)]
    watch = Stopwatch(sessions)

    with watch:
        sessions[0].seconds += 1.0
        sessions[1].seconds += 2.0

    assert [3.0] == [step.run for step in watch.steps]
    assert 25.0 == Step(whole=4.0, run=3.0).host


def test_spread_has_texts_of_all_lengths() -> None:
    """Few texts stand for all: evenly picked by length."""
    texts = ["x" * length for length in (5, 3, 8, 1, 7, 2, 6, 4)]

    assert ["xx", "xxxx", "xxxxxx", "xxxxxxxx"] == spread(texts, 4)
    assert sorted(texts, key=len) == spread(texts, 100)
