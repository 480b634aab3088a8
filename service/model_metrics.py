"""What one model's engine tells of its steps and requests, counted where it happens. Times are in seconds."""

import bisect
import itertools
import time
from collections.abc import Callable, Iterable

from service.request import FinishReason, Output, StepReport

SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1,
    0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Bounds of the time histograms: fine below 300 ms, where translation lives."""
ACTIVITIES = ("encode", "step", "host", "idle")
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
DISTRIBUTIONS = ("queue_time", "encode", "step", "first_token", "inter_token", "decode", "rows")


class Distribution:
    """Counts per bucket of a histogram. One thread adds; another may read, and misses at most what is being added."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it was seen."""
        self.counts[bisect.bisect_left(self.bounds, value)] += times
        self.total += value * times

    def absorb(self, other: "Distribution") -> None:
        """Count all that another one of the same bounds has counted, too."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, number of values up to it), the last bound being infinite."""
        labels = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(labels, itertools.accumulate(map(float, self.counts)), strict=True))


class ModelMetrics:
    """What one engine tells about its model; a StepObserver. `pending` counts the texts in the engine.

    Steps are observed on the engine's thread; outputs where they are handed over, on the event loop.
    """

    def __init__(self, pending: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self.pending = pending
        self._clock = clock
        self._since = clock()
        self._running = 0
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self.source_tokens = 0
        self.target_tokens = 0
        self.finished = dict.fromkeys(FinishReason, 0)
        self.queue_time = Distribution(SECONDS)
        self.encode = Distribution(SECONDS)
        self.step = Distribution(SECONDS)
        self.first_token = Distribution(SECONDS)
        self.inter_token = Distribution(SECONDS)
        self.decode = Distribution(SECONDS)
        self.rows = Distribution(ROWS)

    @property
    def running(self) -> int:
        """Texts that were running after the last step and are still there."""
        return min(self._running, self.pending())

    @property
    def waiting(self) -> int:
        """Texts that are there and not running."""
        return max(0, self.pending() - self._running)

    def seconds(self) -> dict[str, float]:
        """Return how long the engine thread did what; what is not known yet to be work is idle, but never less so."""
        seconds = self._seconds
        busy = seconds["encode"] + seconds["step"] + seconds["host"]
        seconds["idle"] = max(seconds["idle"], self._clock() - self._since - busy)
        return seconds

    def observe_step(self, report: StepReport) -> None:
        """Take note of one step; rows that did not just join have waited this whole step for their token."""
        self._running = report.running
        seconds = self._seconds
        seconds["encode"] += report.encode
        seconds["step"] += report.step
        seconds["host"] += report.host
        self.source_tokens += report.source_tokens
        self.target_tokens += report.rows
        if report.rows:
            self.step.add(report.step)
            self.rows.add(report.rows)
        if (continued := report.rows - report.joined) > 0:
            self.inter_token.add(report.interval, continued)

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Take note of the requests that ended, with the time until they were handed over."""
        for output in outputs:
            if output.finish_reason is None:
                continue
            self.finished[output.finish_reason] += 1
            timing = output.timing
            self.queue_time.add(timing.queue)
            if timing.first_token:
                self.encode.add(timing.encode)
                self.first_token.add(timing.first_token)
                self.decode.add(timing.decode)

    @classmethod
    def ended(cls, parts: "Iterable[ModelMetrics]") -> "ModelMetrics":
        """Return the sum of what ended engines counted: counters never go back, and nothing is in there any more."""
        whole = cls(lambda: 0, lambda: 0.0)
        for part in parts:
            for activity, seconds in part.seconds().items():
                whole._seconds[activity] += seconds
            for reason, count in part.finished.items():
                whole.finished[reason] += count
            for name in DISTRIBUTIONS:
                getattr(whole, name).absorb(getattr(part, name))
            whole.source_tokens += part.source_tokens
            whole.target_tokens += part.target_tokens
        return whole
