"""Measuring on a virtual machine: its processors are kept awake, and what its host disturbed is measured again.

A guest sees how long its processors were ready to run and given to somebody else (`steal`, proc(5)). One that goes to
sleep is given away, and waits until it is given back: of what the server and its load asked for in turn, the host took
15 %, of processors that never slept 1 %. So, as with the kernel's `idle=poll`, each has a process that never rests and
that everything else goes before.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

LIMIT = 0.01
"""Of the processors' time, the share that may be taken."""
STAT = Path("/proc/stat")
RESTLESS = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""
"""Ends with its parent."""

Found = TypeVar("Found")


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep the processors that this process may use from sleeping; on Linux, which alone has SCHED_IDLE."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "SCHED_IDLE") else []
    restless = [subprocess.Popen([sys.executable, "-ISc", RESTLESS, str(one)]) for one in usable]  # noqa: S603  ours
    try:
        yield
    finally:
        for one in restless:
            one.kill()
            one.wait()


def processor_time() -> tuple[float, float]:
    """Return the time taken by the host and the whole since the start, in ticks of all processors; 0 where unknown."""
    if not STAT.exists():
        return 0.0, 0.0
    ticks = [float(word) for word in STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return ticks[-1], sum(ticks)


class Quiet:
    """Calls what measures; where too much was taken meanwhile, again, and returns the least disturbed result."""

    def __init__(self, tries: int, clock: Callable[[], tuple[float, float]] = processor_time) -> None:
        """Take how often to try at most, and what returns the time taken and the whole, of all processors together."""
        self._tries = tries
        self._clock = clock
        self._kept: list[float] = []
        self._again = 0

    def __call__(self, measure: Callable[[], Found]) -> Found:
        """Measure, once or more often."""
        best, least = self._timed(measure)
        for _ in range(self._tries - 1):
            if least <= LIMIT:
                break
            self._again += 1
            found, share = self._timed(measure)
            if share < least:
                best, least = found, share
        self._kept.append(least)
        return best

    def __str__(self) -> str:
        """Say what was left in the results."""
        if not self._kept:
            return "nothing measured"
        return f"the host took {max(self._kept):.1%} of a measurement at most; {self._again} were driven again"

    def _timed(self, measure: Callable[[], Found]) -> tuple[Found, float]:
        taken, whole = self._clock()
        found = measure()
        taken_then, whole_then = self._clock()
        return found, (taken_then - taken) / max(whole_then - whole, 1.0)
