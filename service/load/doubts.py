"""Reasons not to believe a figure: a load generator that is the bottleneck measures itself."""

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


def doubts(report: PhaseReport) -> list[str]:
    """Return all that weakens the figures of a phase."""
    found = [bottleneck(report)]
    if found[0] is None and (late := lateness(report, 99)) is not None:
        found.append(
            f"{report.phase.name}: the client was late now and then; {late * 1e3:.0f} ms of the p99 may be its own"
        )
    if 0 < report.ok < FEW:
        found.append(
            f"{report.phase.name}: {report.ok} answers; a p99 wants {FEW} or more: give it a longer --duration"
        )
    if not report.ok:
        errors = ", ".join(f"{code} {count}" for code, count in report.errors.items())
        found.append(f"{report.phase.name}: nothing was answered well ({errors or 'nothing was sent'})")
    return [doubt for doubt in found if doubt]
