"""Keeping processors awake, and measuring again what a virtual machine's host disturbed."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmark.virtual import Quiet, awake, processor_time


def quiet(tries: int, taken: list[float]) -> Quiet:
    """Return one whose measurements take 100 ticks each, and lose these of them to the host."""
    return Quiet(tries, clock(taken).__next__)


def clock(taken: list[float]) -> Iterator[tuple[float, float]]:
    """Give the ticks before and after each measurement."""
    lost = 0.0
    for number, more in enumerate(taken):
        yield lost, 100.0 * number
        lost += more
        yield lost, 100.0 * (number + 1)


def test_what_nobody_disturbed_is_measured_once() -> None:
    """And its result is taken."""
    calls = iter("ab")
    assert "a" == quiet(3, [1.0])(lambda: next(calls))
    assert "b" == next(calls)


def test_the_least_disturbed_result_is_taken() -> None:
    """Whether or not one was quiet in the end; no more than so many are tried."""
    calls = iter("abc")
    measured = quiet(3, [9.0, 3.0, 5.0])
    assert "b" == measured(lambda: next(calls))
    assert "the host took 3.0% of a measurement at most; 2 were driven again" == str(measured)


def test_it_ends_with_the_first_quiet_one() -> None:
    """A further one would only take time."""
    calls = iter("abc")
    assert "b" == quiet(3, [9.0, 0.0])(lambda: next(calls))


def test_processor_time_goes_on() -> None:
    """What was taken is a part of the whole."""
    taken, whole = processor_time()
    later_taken, later_whole = processor_time()
    assert 0 <= taken <= whole
    assert taken <= later_taken
    assert whole <= later_whole


@pytest.mark.skipif(sys.platform != "linux", reason="SCHED_IDLE is Linux'")
def test_processors_are_kept_awake_by_what_yields() -> None:
    """One process for each, behind everything else; gone afterwards."""
    before = children()
    with awake():
        restless = children() - before
        until = time.monotonic() + 10
        while not all(os.sched_getscheduler(one) == os.SCHED_IDLE for one in restless):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert sorted(os.sched_getaffinity(0)) == sorted(cpu for one in restless for cpu in os.sched_getaffinity(one))
    assert before == children()


def children() -> set[int]:
    """Return the processes that this one started."""
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}
