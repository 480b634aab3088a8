"""Coordinated omission: a server that freezes for a second, seen by an open loop and by a closed one."""

import signal
import subprocess
import threading
from collections.abc import Callable

import pytest

from service.load.drive import Driver
from service.load.messages import Job
from service.load.plan import Phase
from service.load.record import Record
from service.load.report import PhaseReport
from tests.integration.load.server import served

FREEZE_SECONDS = 1.0
OPEN = Phase("open", seconds=4.0, first_rate=50.0, last_rate=50.0)
CLOSED = Phase("closed", seconds=12.0, concurrency=1)
"""As long as a machine that is busy needs for enough answers."""
TRIALS = 3
"""A machine may freeze by itself; a loop that shows what it should hide does so every time."""


def freezing(process: "subprocess.Popen[str]") -> Callable[[Record, float], None]:
    """Return what stops the process one second into a phase, and lets it go on a second later."""
    frozen = threading.Event()

    def watch(record: Record, elapsed: float) -> None:
        if elapsed > 1.0 and not frozen.is_set():
            frozen.set()
            process.send_signal(signal.SIGSTOP)
            threading.Timer(FREEZE_SECONDS, process.send_signal, (signal.SIGCONT,)).start()

    return watch


def frozen(phase: Phase) -> PhaseReport:
    """Return what a phase reports of a server that freezes in it."""
    with served() as (process, address, _), Driver(Job(address, ["abc"]), "", freezing(process)) as driver:
        return driver.run(phase)


@pytest.mark.slow
def test_an_open_loop_shows_the_freeze() -> None:
    """A quarter of the requests were due while nothing moved: p99 and p90 tell of it, and so do the seconds."""
    report = frozen(OPEN)
    latency = report.latency
    assert latency is not None
    assert report.sent == report.ok
    assert abs(report.sent - 200) < 40
    assert 0.8 * FREEZE_SECONDS < latency.at(99)
    assert 0.4 * FREEZE_SECONDS < latency.at(90)
    assert 0.3 * FREEZE_SECONDS > latency.at(50)
    assert 40 < max(second.ok for second in report.timeline) - min(second.ok for second in report.timeline[:4])


@pytest.mark.slow
def test_a_closed_loop_hides_it() -> None:
    """It stops asking while nothing moves: one slow request among hundreds, and a p99 as if nothing had been."""
    report = frozen(CLOSED)
    for _ in range(TRIALS - 1):
        if report.ok > 200 and report.latency is not None and report.latency.at(99) < 0.3 * FREEZE_SECONDS:
            break
        report = frozen(CLOSED)
    latency = report.latency
    assert latency is not None
    assert 200 < report.ok
    assert 0.8 * FREEZE_SECONDS < latency.at(100)
    assert 0.3 * FREEZE_SECONDS > latency.at(99)
