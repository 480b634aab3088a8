"""Arrivals, worked out by hand or counted."""

import itertools
import statistics

import pytest

from service.load.plan import Phase, PlanError, arrivals, closed_phases, open_phases, warm_up


def test_even_arrivals_are_evenly_apart() -> None:
    """Four a second: one in the middle of each quarter."""
    phase = Phase("four", seconds=1.0, first_rate=4.0, last_rate=4.0, arrivals="even")
    assert [0.125, 0.375, 0.625, 0.875] == list(arrivals(phase))


def test_a_ramp_sends_the_area_under_its_rate() -> None:
    """From 0 to 20 a second in 10 s: 100 requests, a quarter of them in the first half."""
    due = list(arrivals(Phase("ramp", seconds=10.0, first_rate=0.0, last_rate=20.0, arrivals="even")))
    assert 100 == len(due)
    assert 25 == sum(time < 5.0 for time in due)
    assert due == sorted(due)


def test_a_ramp_may_fall() -> None:
    """From 20 to 0 a second: three quarters in the first half."""
    due = list(arrivals(Phase("ramp", seconds=10.0, first_rate=20.0, last_rate=0.0, arrivals="even")))
    assert 75 == sum(time < 5.0 for time in due)
    assert 100 == len(due)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    """The mean of the gaps is 1/rate, and so is their standard deviation."""
    due = list(arrivals(Phase("many", seconds=100.0, first_rate=200.0, last_rate=200.0, seed=7)))
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert statistics.fmean(gaps) == pytest.approx(1 / 200, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 200, rel=0.05)


def test_a_seed_gives_the_same_load_again() -> None:
    """And another seed another one."""
    first, again, other = (list(arrivals(open_phases("50", 5.0, "poisson", seed)[0])) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_steps_and_ramps_are_read() -> None:
    """Each step is a phase with a name."""
    phases = open_phases("10,20..40", 3.0, "even", 1)
    assert [("10/s", 10.0, 10.0), ("20..40/s", 20.0, 40.0)] == [(p.name, p.first_rate, p.last_rate) for p in phases]
    assert [("1 in flight", 1), ("16 in flight", 16)] == [(p.name, p.concurrency) for p in closed_phases("1,16", 3.0)]


@pytest.mark.parametrize("text", ["", "fast", "-5", "0", "10,,20", "nan", "inf", "5..", "..5"])
def test_rates_that_are_none(text: str) -> None:
    """The message says what to write."""
    with pytest.raises(PlanError, match="--rate"):
        open_phases(text, 1.0, "poisson", 1)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5"])
def test_concurrencies_that_are_none(text: str) -> None:
    """The message says what to write."""
    with pytest.raises(PlanError, match="--concurrency"):
        closed_phases(text, 1.0)


def test_warming_up_is_as_busy_as_what_follows() -> None:
    """But is not measured, and has arrivals of its own."""
    phase = open_phases("10..50", 30.0, "poisson", 4)[0]
    before = warm_up(phase, 2.0)
    assert (2.0, 10.0, 10.0, False) == (before.seconds, before.first_rate, before.last_rate, before.measured)
    assert before.seed != phase.seed
