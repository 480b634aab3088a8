"""Reasons not to believe a figure: a load generator that is the bottleneck measures itself."""

from collections.abc import Sequence

from service.load.report import PhaseReport

BUSY = 0.85
"""Share of a processor from which on a client process is late by itself."""
LATE_SECONDS = 0.005
LATE_SHARE = 0.1
FEW = 1000
"""Answers that a p99 needs to stand on ten of them."""


def bottleneck(report: PhaseReport) -> str | None:
    """Return why the client, not the server, may have set the figures of a phase; None: it did not."""
    client, name = report.client, report.phase.name
    more = f"use more than --processes {client.processes}, or another machine"
    if client.busiest_cpu > BUSY:
        return f"{name}: THE CLIENT IS THE BOTTLENECK: one used {client.busiest_cpu:.0%} of a processor; {more}"
    if (late := lateness(report, 90)) is not None:
        return f"{name}: THE CLIENT IS THE BOTTLENECK: a tenth was sent {late * 1e3:.0f} ms late or more; {more}"
    return None


def lateness(report: PhaseReport, percentile: float) -> float | None:
    """Return a percentile of the client's own lateness, in seconds; None: too small to matter."""
    lag, latency = report.client.lag, report.latency
    if report.phase.closed or lag is None or latency is None:
        return None
    late = lag.at(percentile)
    return late if late > max(LATE_SECONDS, LATE_SHARE * latency.at(percentile)) else None


def doubts(reports: Sequence[PhaseReport]) -> list[str]:
    """Return all that weakens the figures of some phases, the loudest first."""
    loud = [found for found in map(bottleneck, reports) if found]
    empty = [
        f"{report.phase.name}: nothing was answered well ({_codes(report)})" for report in reports if not report.ok
    ]
    late = [
        f"{report.phase.name}: the client was late now and then; {late * 1e3:.0f} ms of the p99 may be its own"
        for report in reports
        if bottleneck(report) is None and (late := lateness(report, 99)) is not None
    ]
    thin = [f"{report.ok} answers at {report.phase.name}" for report in reports if 0 < report.ok < FEW]
    few = [f"a p99 wants {FEW} answers; give it a longer --duration: {', '.join(thin)}"] if thin else []
    return loud + empty + late + few


def _codes(report: PhaseReport) -> str:
    return ", ".join(f"{code} {count}" for code, count in report.errors.items()) or "nothing was sent"
