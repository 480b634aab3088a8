"""What `make curve` found: a picture of latency and goodput against rate, and a page with tables and verdicts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.load.live import explained
from service.load.report import PhaseReport, Report

COLOURS = ("#2f6fd0", "#d9622b", "#1f9270", "#8457c6")
HEADER = ("model", "requests/s", "goodput/s", "p50 ms", "p99 ms", "refused", "refused p99 ms", "rows", "explained")
GOALS = ("model", "figure", "goal", "measured", "verdict")
SIZING = ("model", "p99 at most", "one replica", "500 requests/s need")
OVERLOAD = 1.5
KEPT = 0.95
REFUSED_SECONDS = 0.005
SLOS = (0.1, 0.2, 0.5)
ABOUT = """One processor serves, with one thread for the graphs; another sends single sentences, as a Poisson process.
*Explained* is the share of the handling time that queue, encode and decode add up to (of a text that was split, the
longest of each)."""
PEAK, HEADROOM, SPARE = 500.0, 0.7, 1
"""The example of docs/sizing.md: requests per second, share of capacity in use, replicas that may be away."""


class Curve(NamedTuple):
    """A report whose open phases are rates; 99th percentiles of refused calls, in seconds."""

    report: Report
    refused_server: float | None = None
    """By the server's log."""
    refused_aside: float | None = None
    """By a client that does nothing else, at the highest rate."""
    kept: float | None = None
    """Goodput at the highest rate as a share of the most at any, the middle of several rounds."""
    of_full: float | None = None
    """And of what the server answers where no call is refused, right before and after."""
    stolen: str = ""
    """How much the host of a virtual machine took of what was measured."""

    @property
    def phases(self) -> list[PhaseReport]:
        """Its rates, rising."""
        return sorted((one for one in self.report.phases if not one.phase.closed), key=lambda one: one.phase.rate)

    @property
    def peak(self) -> float:
        """The most requests that were answered well in a second, at any rate."""
        return max(phase.goodput for phase in self.report.phases)

    def capacity(self, p99: float) -> float:
        """Return the highest of the rates up to which nothing was refused and p99 stayed below so many seconds."""
        held = 0.0
        for phase in self.phases:
            if phase.latency is None or phase.ok < phase.sent or phase.latency.at(99) > p99:
                break
            held = phase.phase.rate
        return held


def draw(target: Path, curves: Sequence[Curve]) -> None:
    """Draw latency and goodput."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(10, 4), layout="constrained")
    latency, goodput = figure.subplots(1, 2)
    for curve, colour in zip(curves, COLOURS, strict=False):
        _draw(latency, goodput, curve, colour)
    latency.set(yscale="log", xlabel="requests per second", title="Latency")
    latency.yaxis.set_major_formatter(lambda seconds, _: f"{seconds * 1e3:g} ms")
    goodput.set(xlabel="requests per second", title="Goodput per second", ylim=0)
    for axes in (latency, goodput):
        axes.set_xlim(left=0)
        axes.grid(axis="y", color="#e3e7ec")
        axes.legend(frameon=False)
    figure.savefig(target, dpi=110)


def page(curves: Sequence[Curve], about: dict[str, str], picture: str) -> str:
    """Return the page."""
    parts = [
        "# Latency against rate",
        "Written by `make curve`; [load.md](load.md) says how to read it, [sizing.md](sizing.md) what follows from it.",
        f"![Latency and goodput against rate]({picture})",
        "\n".join(f"- {name}: {value}" for name, value in about.items()),
        _table(HEADER, [[curve.report.model, *_cells(phase)] for curve in curves for phase in curve.phases]),
        ABOUT,
        "## Overload",
        _table(GOALS, [row for curve in curves for row in verdicts(curve)]),
        *(f"{curve.report.model}: {curve.stolen}." for curve in curves if curve.stolen),
        "## Sizing",
        _table(SIZING, [row for curve in curves for row in _sizing(curve)]),
        f"One replica is one processor; `ceil({PEAK:g} / (capacity × {HEADROOM:g})) + {SPARE}` replicas.",
    ]
    return "\n\n".join(parts) + "\n"


def verdicts(curve: Curve) -> list[list[str]]:
    """Return the rows that say how a server fares beyond its capacity."""
    last = curve.phases[-1]
    kept = last.goodput / curve.peak if curve.kept is None else curve.kept
    rows = [_verdict(curve, f"goodput at {OVERLOAD:.0%} / peak", f">= {KEPT:.0%}", f"{kept:.1%}", kept >= KEPT)]
    if curve.of_full is not None:
        rows.append(
            [curve.report.model, f"goodput at {OVERLOAD:.0%} / with none refused", "", f"{curve.of_full:.1%}", ""]
        )
    for name, seconds in (("refusal p99, client", curve.refused_aside), ("refusal p99, server", curve.refused_server)):
        if seconds is not None:
            held = seconds < REFUSED_SECONDS
            rows.append(_verdict(curve, name, f"< {REFUSED_SECONDS * 1e3:g} ms", f"{seconds * 1e3:.2f} ms", held))
    return rows


def _verdict(curve: Curve, name: str, goal: str, measured: str, held: bool) -> list[str]:
    return [curve.report.model, name, goal, measured, "ok" if held else "MISSED"]


def _sizing(curve: Curve) -> list[list[str]]:
    rows = []
    for slo in SLOS:
        capacity = curve.capacity(slo)
        replicas = f"{math.ceil(PEAK / (capacity * HEADROOM)) + SPARE} replicas" if capacity else "a faster processor"
        rows.append([curve.report.model, f"{slo * 1e3:g} ms", f"{capacity:.0f}/s", replicas])
    return rows


def _draw(latency: Axes, goodput: Axes, curve: Curve, colour: str) -> None:
    rates, name = [phase.phase.rate for phase in curve.phases], curve.report.model
    for percentile, style in ((50, "-"), (99, "--")):
        seconds = [phase.latency.at(percentile) if phase.latency else float("nan") for phase in curve.phases]
        latency.plot(rates, seconds, style, marker="o", ms=3, color=colour, label=f"{name} p{percentile}")
    goodput.plot(rates, [phase.goodput for phase in curve.phases], marker="o", ms=3, color=colour, label=name)


def _cells(phase: PhaseReport) -> list[str]:
    times = ["-", "-"] if phase.latency is None else [f"{phase.latency.at(point) * 1e3:.1f}" for point in (50, 99)]
    refused = "-" if phase.refused is None else f"{phase.refused.at(99) * 1e3:.1f}"
    rows = "-" if phase.server is None else f"{phase.server.rows_mean:.1f}"
    share = f"{phase.error_share:.1%}"
    return [f"{phase.phase.rate:.4g}", f"{phase.goodput:.1f}", *times, share, refused, rows, explained(phase)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])
