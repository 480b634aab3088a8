"""What to send and when: phases, their rates, and the moments at which requests arrive."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Literal

import msgspec

Arrivals = Literal["poisson", "even"]
Mode = Literal["unary", "stream", "segments"]


class PlanError(ValueError):
    """A load that cannot be driven; the message says what to write instead."""


class Phase(msgspec.Struct, frozen=True):
    """A stretch of load: open loop at a rate, in requests per second, or closed loop with so many requests at once."""

    name: str
    seconds: float
    first_rate: float = 0.0
    last_rate: float = 0.0
    """The rate grows or falls evenly from the first to the last one."""
    concurrency: int = 0
    """Above zero: a closed loop; the rates are not used."""
    arrivals: Arrivals = "poisson"
    seed: int = 0
    measured: bool = True
    """Whether it stands in the report; warming up does not."""

    @property
    def closed(self) -> bool:
        """Whether each answer makes room for the next request."""
        return self.concurrency > 0

    @property
    def rate(self) -> float:
        """The mean rate that is intended, in requests per second; zero for a closed loop."""
        return 0.0 if self.closed else (self.first_rate + self.last_rate) / 2


def arrivals(phase: Phase) -> Iterator[float]:
    """Yield when the requests of an open loop are due, in seconds from its start.

    A request is due where the area under the rate reaches the next count: 1, 2, 3, … for even arrivals, sums of
    exponential steps for Poisson ones (the time-rescaling theorem).
    """
    chance = random.Random(phase.seed)  # noqa: S311  the same seed gives the same load again
    counts: Iterator[float] = itertools.count(0.5)
    if phase.arrivals == "poisson":
        counts = itertools.accumulate(chance.expovariate(1.0) for _ in itertools.count())
    for count in counts:
        due = _reached(phase, count)
        if due is None:
            return
        yield due


def _reached(phase: Phase, count: float) -> float | None:
    """Return when so many requests are due: where first * t + slope * t² / 2 equals the count; None: not in time."""
    first, slope = phase.first_rate, (phase.last_rate - phase.first_rate) / phase.seconds
    if slope:
        under = first * first + 2 * slope * count
        due = (math.sqrt(under) - first) / slope if under >= 0 else math.inf
    else:
        due = count / first if first else math.inf
    return due if due < phase.seconds else None


def open_phases(text: str, seconds: float, kind: Arrivals, seed: int) -> list[Phase]:
    """Read rates: `50`, a ramp `10..100`, or steps `10,20,40`, each of them so many seconds long."""
    phases = []
    for index, step in enumerate(text.split(",")):
        first, dots, last = step.partition("..")
        rates = _number(first, text), _number(last if dots else first, text)
        if max(rates) <= 0:
            raise PlanError(f"--rate {text}: a rate must be above zero")
        name = f"{rates[0]:g}..{rates[1]:g}/s" if dots else f"{rates[0]:g}/s"
        phases.append(Phase(name, seconds, *rates, arrivals=kind, seed=seed + index))
    return phases


def closed_phases(text: str, seconds: float) -> list[Phase]:
    """Read how many requests are in flight: `8`, or steps `1,4,16`."""
    phases = []
    for step in text.split(","):
        if not step.strip().isdecimal() or int(step) < 1:
            raise PlanError(f"--concurrency {text}: write a whole number, or several with commas, such as 1,4,16")
        phases.append(Phase(f"{int(step)} in flight", seconds, concurrency=int(step)))
    return phases


def warm_up(before: Phase, seconds: float) -> Phase:
    """Return a phase that nobody measures, as busy as what comes after it begins."""
    busy = before.first_rate or before.last_rate
    return msgspec.structs.replace(
        before, name="warm-up", seconds=seconds, first_rate=busy, last_rate=busy, measured=False, seed=before.seed - 1
    )


def _number(part: str, text: str) -> float:
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise PlanError(f"--rate {text}: write requests per second: 50, a ramp 10..100, or steps 10,20,40")
    return number
