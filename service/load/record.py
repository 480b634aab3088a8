"""Adds up the samples of a phase, while it runs and at its end."""

import collections

from service.load.messages import Batch, Sample
from service.load.plan import Phase
from service.load.report import ClientSide, PhaseReport, Second, ServerSide, Times

REFUSED = "RESOURCE_EXHAUSTED"
RECENT_SECONDS = 3


class Record:
    """What a phase has seen so far."""

    def __init__(self, phase: Phase, processes: int) -> None:
        self.phase = phase
        self.latency = Times()
        self.in_flight = [0] * processes
        self.errors: collections.Counter[str] = collections.Counter()
        self.sent = 0
        self.tokens = 0
        self.ended = 0.0
        """When the last answer came, in seconds from the start."""
        self._refused, self._first, self._gaps, self._lag = Times(), Times(), Times(), Times()
        self._shares = {"queue": 0.0, "encode": 0.0, "decode": 0.0, "rest": 0.0}
        self._due: collections.defaultdict[int, Times] = collections.defaultdict(Times)
        self._ok_in: collections.Counter[int] = collections.Counter()
        self._failed_in: collections.Counter[int] = collections.Counter()
        self._due_in: collections.Counter[int] = collections.Counter()
        self._cpu = [0.0] * processes
        self._wall = [0.0] * processes

    @property
    def ok(self) -> int:
        """Requests answered well."""
        return self.latency.count

    def add(self, process: int, batch: Batch) -> None:
        """Take in what a client process has seen."""
        self.in_flight[process] = batch.in_flight
        self._cpu[process] += batch.cpu
        self._wall[process] += batch.wall
        for sample in batch.samples:
            self._add(sample)

    def _add(self, sample: Sample) -> None:
        self.sent += 1
        self._lag.add(sample.lag)
        ended = sample.due + sample.latency
        self.ended = max(self.ended, ended)
        self._due_in[int(sample.due)] += 1
        if sample.code != "OK":
            self.errors[sample.code] += 1
            self._failed_in[int(ended)] += 1
            if sample.code == REFUSED:
                self._refused.add(sample.latency - sample.lag)
            return
        self._ok_in[int(ended)] += 1
        self.latency.add(sample.latency)
        self._due[int(sample.due)].add(sample.latency)
        self.tokens += sample.tokens
        if sample.first >= 0:
            self._first.add(sample.first)
        for gap in sample.gaps:
            self._gaps.add(gap)
        known = sample.queue + sample.encode + sample.decode
        for name, seconds in zip(
            self._shares, (sample.queue, sample.encode, sample.decode, sample.latency - known), strict=True
        ):
            self._shares[name] += seconds

    def recent(self, percentile: float) -> float:
        """Return a percentile of the latency of what was due in the last seconds."""
        latest = [self._due[second].at(percentile) for second in sorted(self._due)[-RECENT_SECONDS:]]
        return max(latest, default=0.0)

    def rates(self) -> list[int]:
        """Return how many requests were answered well in each second so far."""
        return [self._ok_in[second] for second in range(max(self._ok_in, default=-1) + 1)]

    def report(self, server: ServerSide | None) -> PhaseReport:
        """Sum the phase up."""
        seconds = max(self.phase.seconds, self.ended)
        busiest = max((cpu / wall for cpu, wall in zip(self._cpu, self._wall, strict=True) if wall), default=0.0)
        return PhaseReport(
            phase=self.phase,
            seconds=seconds,
            sent=self.sent,
            ok=self.ok,
            errors=dict(self.errors.most_common()),
            goodput=self.ok / seconds,
            target_tokens_per_second=self.tokens / seconds,
            latency=self.latency.quantiles(),
            refused=self._refused.quantiles(),
            first_token=self._first.quantiles(),
            inter_token=self._gaps.quantiles(),
            shares={name: total / self.ok for name, total in self._shares.items()} if self.ok else {},
            timeline=[self._second(at) for at in range(int(seconds) + 1) if self._busy(at)],
            client=ClientSide(len(self._cpu), busiest, self._lag.quantiles()),
            server=server,
        )

    def _busy(self, at: int) -> bool:
        return bool(at < int(self.phase.seconds) or self._due_in[at] or self._ok_in[at] or self._failed_in[at])

    def _second(self, at: int) -> Second:
        times = self._due.get(at) or Times()
        return Second(at, self._due_in[at], self._ok_in[at], self._failed_in[at], times.at(50), times.at(99))
