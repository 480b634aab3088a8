"""Draws latency and goodput against rate from reports of `dragoman load`, and prints them as a table.

python -m tests.integration.load.curve docs/latency-against-rate.png ko-en.json another.json
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.load.report import PhaseReport, Report, read

COLOURS = ("#2f6fd0", "#d9622b", "#1f9270", "#8457c6")
HEADER = ("model", "rate", "goodput", "p50 ms", "p99 ms", "errors", "refused p99 ms", "rows")


def main(target: Path, paths: Sequence[Path]) -> None:
    """Draw and print."""
    reports = [read(path) for path in paths]
    _print([HEADER, *([report.model, *_cells(phase)] for report in reports for phase in _by_rate(report))])
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(10, 4), layout="constrained")
    latency, goodput = figure.subplots(1, 2)
    for report, colour in zip(reports, COLOURS, strict=False):
        _draw(latency, goodput, report, colour)
    latency.set(yscale="log", xlabel="requests per second", title="Latency")
    latency.yaxis.set_major_formatter(lambda seconds, _: f"{seconds * 1e3:g} ms")
    goodput.set(xlabel="requests per second", title="Goodput per second", ylim=0)
    for axes in (latency, goodput):
        axes.set_xlim(left=0)
        axes.grid(axis="y", color="#e3e7ec")
        axes.legend(frameon=False)
    figure.savefig(target, dpi=110)


def _draw(latency: Axes, goodput: Axes, report: Report, colour: str) -> None:
    phases = _by_rate(report)
    rates = [phase.phase.rate for phase in phases]
    for percentile, style in ((50, "-"), (99, "--")):
        seconds = [phase.latency.at(percentile) if phase.latency else float("nan") for phase in phases]
        latency.plot(rates, seconds, style, marker="o", ms=3, color=colour, label=f"{report.model} p{percentile}")
    goodput.plot(rates, [phase.goodput for phase in phases], marker="o", ms=3, color=colour, label=report.model)


def _by_rate(report: Report) -> list[PhaseReport]:
    return sorted((phase for phase in report.phases if not phase.phase.closed), key=lambda phase: phase.phase.rate)


def _cells(phase: PhaseReport) -> list[str]:
    times = ["-", "-"] if phase.latency is None else [f"{phase.latency.at(point) * 1e3:.1f}" for point in (50, 99)]
    refused = "-" if phase.refused is None else f"{phase.refused.at(99) * 1e3:.1f}"
    rows = "-" if phase.server is None else f"{phase.server.rows_mean:.1f}"
    return [f"{phase.phase.rate:.4g}", f"{phase.goodput:.1f}", *times, f"{phase.error_share:.2%}", refused, rows]


def _print(rows: Sequence[Sequence[str]]) -> None:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(HEADER))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
