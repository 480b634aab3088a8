"""Draws the dashboard from a real Prometheus that watches a server under load.

python -m tests.integration.monitoring.picture docs/dashboard.png
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.integration.monitoring import dashboard
from tests.integration.monitoring.process import ROOT, served
from tests.integration.monitoring.prometheus import Prometheus

SECONDS = 75
LOADS = (
    ("--rate", "5..300", "--mode", "unary"),
    ("--rate", "4", "--mode", "stream"),
    ("--concurrency", "2", "--mode", "segments"),
)
LAST = "GPU"
"""The row at the bottom that is left out: this machine may have none."""
UNIT_INCHES = (0.72, 0.32)
"""Of one cell of the dashboard's grid."""
INK, SOFT, PAGE = "#1b2430", "#5b6675", "#f6f7f9"
COLOURS = ("#2f6fd0", "#d9622b", "#1f9270", "#8457c6", "#b58a00", "#5f6b7a", "#b3261e")
UNITS: dict[str, tuple[float, str]] = {
    "s": (1e3, " ms"),
    "percentunit": (1e2, " %"),
    "bytes": (2.0**-20, " MiB"),
    "reqps": (1.0, "/s"),
}
"""What values are multiplied with, and what stands behind them."""


def main(target: Path) -> None:
    """Serve, load, watch, draw."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served("--max-waiting", "64") as (address, metrics_url),
        Prometheus(Path(folder), metrics_url) as prometheus,
    ):
        started = time.time()
        command = [sys.executable, "-m", "service.cli", "load", "--server", address, "--metrics-url", metrics_url]
        loads = [
            subprocess.Popen([*command, *load, "--duration", str(SECONDS), "--warm-up", "0"], cwd=ROOT)  # noqa: S603
            for load in LOADS
        ]
        for load in loads:
            load.wait()
        time.sleep(2)
        _draw(lambda expression: prometheus.range(expression, started, time.time()), target)


def _draw(ask: Callable[[str], list[dict[str, Any]]], target: Path) -> None:
    panels = dashboard.read()["panels"]
    end = next(panel["gridPos"]["y"] for panel in panels if panel["title"] == LAST)
    panels = [panel for panel in panels if panel["gridPos"]["y"] < end]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams.update(
        {"font.size": 7.5, "text.color": INK, "axes.edgecolor": "#c5ccd6", "font.family": "DejaVu Sans"}
    )
    figure = Figure(figsize=(24 * UNIT_INCHES[0], height * UNIT_INCHES[1]), facecolor=PAGE)
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / 24, 1 - place["y"] / height
        if panel["type"] == "row":
            figure.text(left + 0.006, top - 0.7 / height, panel["title"], fontsize=11, fontweight="bold")
            continue
        bottom = 1 - (place["y"] + place["h"]) / height
        pad = (0.8 / 24, 1.5 / height) if panel["type"] in {"timeseries", "heatmap"} else (0.2 / 24, 0.3 / height)
        axes = figure.add_axes((
            left + pad[0], bottom + pad[1], place["w"] / 24 - pad[0] - 0.25 / 24, top - bottom - pad[1] - 1.5 / height
        ))  # fmt: skip
        axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold", pad=4)
        found = [(target, ask(dashboard.filled(target["expr"]))) for target in panel["targets"]]
        DRAWERS[panel["type"]](axes, panel, found)
    figure.savefig(target, dpi=90)


def _lines(axes: Axes, panel: dict[str, Any], found: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    scale, suffix = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1.0, ""))
    lines = [
        (
            _legend(target["legendFormat"], one["metric"]),
            [(when, float(value) * scale) for when, value in one["values"]],
        )
        for target, series in found
        for one in series
    ]
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    moments = sorted({when for _, points in lines for when, _ in points})
    heights = [0.0] * len(moments)
    for colour, (name, points) in zip(COLOURS * 3, lines, strict=False):
        values = dict(points)
        line = [values.get(moment, float("nan")) for moment in moments]
        if stacked:
            tops = [low + (value if value == value else 0.0) for low, value in zip(heights, line, strict=True)]  # noqa: PLR0124
            axes.fill_between(_clock(moments), heights, tops, color=colour, alpha=0.75, linewidth=0, label=name)
            heights = tops
        else:
            axes.plot(_clock(moments), line, color=colour, linewidth=1.3, label=name)
    full = stacked and suffix == " %"
    axes.set_ylim(0, 100 if full else axes.get_ylim()[1] * 1.3)  # the legend has the upper part
    axes.set_axisbelow(True)
    axes.set_facecolor("white")
    axes.grid(axis="y", color="#e3e7ec", linewidth=0.6)
    axes.tick_params(length=2, colors=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{suffix}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.legend(loc="upper left", fontsize=6, frameon=stacked, framealpha=0.85, edgecolor="white", ncols=2)


def _heat(axes: Axes, panel: dict[str, Any], found: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    series = sorted(found[0][1], key=lambda one: float(one["metric"]["le"]))
    moments = [when for when, _ in series[0]["values"]]
    counts = [[float(value) for _, value in one["values"]] for one in series]
    pairs = itertools.pairwise(counts)
    cells = [
        counts[0],
        *([high - low for low, high in zip(a, b, strict=True)] for a, b in pairs),
    ]
    used = [index for index, row in enumerate(cells) if max(row) > 0]
    first, last = used[0], used[-1] + 1
    axes.pcolormesh(_clock(moments), range(first, last), cells[first:last], cmap="Oranges")
    axes.set_yticks(
        range(first, last, 2), [f"{float(series[index]['metric']['le']) * 1e3:g} ms" for index in range(first, last, 2)]
    )
    axes.tick_params(length=2, colors=SOFT)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")


def _number(axes: Axes, panel: dict[str, Any], found: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    scale, suffix = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1.0, ""))
    values = [float(one["values"][-1][1]) for _, series in found for one in series]
    if suffix == " ms" and values[0] >= 1:
        scale, suffix = 1.0, " s"
    text = f"{values[0] * scale:.3g}{suffix}"
    axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=17, color=COLOURS[2])
    axes.set(xticks=[], yticks=[], facecolor="white")


def _table(axes: Axes, panel: dict[str, Any], found: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    hidden = {"__name__", "job", "instance"}
    rows = [
        {name: value for name, value in one["metric"].items() if name not in hidden}
        for _, series in found
        for one in series
    ]
    lines = ["   ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]
    axes.text(0.02, 0.9, "\n".join(lines), va="top", fontsize=7)
    axes.set(xticks=[], yticks=[], facecolor="white")


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def _clock(moments: list[float]) -> list[float]:
    return [moment - moments[0] for moment in moments]


DRAWERS = {"timeseries": _lines, "heatmap": _heat, "stat": _number, "table": _table}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
