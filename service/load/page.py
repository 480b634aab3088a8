"""The report as one HTML file that needs nothing else: no script, no network."""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from service.load import charts
from service.load.charts import Axis, Series
from service.load.compare import Row
from service.load.objective import spelled
from service.load.report import PhaseReport, Report

STYLE = Path(__file__).parent / "report.css"
MOST_CURVES = 6
CURVE_POINTS = 48
SHARES = (("queue", 0), ("encode", 1), ("decode", 2), ("rest", 5))
ACTIVITIES = (("encode", 1), ("step", 2), ("host", 3), ("idle", 5))
HALF = 0.5
"""Of a second: what is left of a phase's last one is drawn only where it is more."""
Table = Sequence[Sequence[str]]


def page(report: Report, comparison: Sequence[Row] = ()) -> str:
    """Return the page of a report, and of its comparison with another one."""
    answered = sorted((phase for phase in report.phases if phase.latency), key=_rate)
    parts = [
        f"<h1>Load on {html.escape(report.model)}</h1>",
        f'<p class="about">{html.escape(_about(report))}</p>',
        f'<pre class="about">{html.escape(report.command)}</pre>',
        *(f'<p class="warning">{html.escape(warning)}</p>' for warning in report.warnings),
        _tiles(report),
    ]
    if answered:
        parts.append('<div class="charts">')
        parts.append(_card("Latency by percentile", _percentiles(_spread(answered))))
        if len({_rate(phase) for phase in answered}) > 1:
            parts.append(_card("Latency against rate", _against_rate(answered)))
        parts += [_card("Requests over time", _requests(report)), _card("Latency over time", _latencies(report))]
        parts.append(_card("Where the mean request's time went", _shares(_spread(answered, 12))))
        if any(phase.server and phase.server.engine for phase in answered):
            parts.append(_card("What the engine did", _engine(_spread(answered, 12))))
        parts.append("</div>")
    parts += _tables(report, comparison)
    style = STYLE.read_text()
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{style}</style>'
    title = f"<title>dragoman load, {html.escape(report.started)}</title>"
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}{title}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _about(report: Report) -> str:
    texts = "" if report.texts_per_request == 1 else f", {report.texts_per_request} texts a request"
    return f"{report.mode} calls to {report.server}{texts} · {report.started} · dragoman {report.version}"


def _tiles(report: Report) -> str:
    """Return the figures to look at first: those of the phase that was answered most."""
    best = max(report.phases, key=lambda phase: phase.goodput, default=None)
    tiles = []
    if report.capacity is not None:
        tiles.append((f"{report.capacity.rate:.4g}/s", "capacity: " + ", ".join(report.capacity.objectives)))
    if best is not None and best.latency is not None:
        tiles += [
            (f"{best.goodput:.4g}/s", "goodput" if len(report.phases) == 1 else f"peak goodput, at {best.phase.name}"),
            (_ms(best.latency.at(50)), "latency p50"),
            (_ms(best.latency.at(99)), "latency p99"),
            (f"{best.target_tokens_per_second:.4g}/s", "target tokens"),
            (f"{best.error_share:.2%}", "errors"),
        ]
    kept = sum(verdict.kept for verdict in report.verdicts)
    if report.verdicts and report.capacity is None:
        tiles.append((f"{kept} of {len(report.verdicts)}", "objectives kept"))
    cells = "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in tiles)
    return f'<div class="tiles">{cells}</div>'


def _percentiles(phases: Sequence[PhaseReport]) -> str:
    series = []
    for colour, phase in enumerate(phases):
        if phase.latency is None:
            continue
        last = math.log10(max(10, phase.latency.count))
        marks = [last * step / CURVE_POINTS for step in range(CURVE_POINTS + 1)]
        values = phase.latency.several([100 - 100 / 10**mark for mark in marks])
        series.append(Series(phase.phase.name, list(zip(marks, values, strict=True)), colour))
    x = charts.nines("percentile", max(point[0] for one in series for point in one.points))
    return charts.lines("Latency by percentile", series, x, _milliseconds(series))


def _against_rate(phases: Sequence[PhaseReport]) -> str:
    series = []
    for colour, percentile in enumerate((50, 99)):
        points = [(_rate(phase), phase.latency.at(percentile) if phase.latency else None) for phase in phases]
        series.append(Series(f"p{percentile}", points, colour))
    x = charts.linear("requests per second" if _open(phases) else "in flight", [_rate(phase) for phase in phases])
    return charts.lines("Latency against rate", series, x, _milliseconds(series))


def _requests(report: Report) -> str:
    figures = [("due", "due", 0), ("answered well", "ok", 2), ("failed", "failed", 1)]
    series = [Series(name, _timeline(report, field), colour) for name, field, colour in figures]
    return charts.lines("Requests over time", series, _clock(series), charts.linear("per second", _ups(series)))


def _latencies(report: Report) -> str:
    figures = [("p50", "p50", 0), ("p99", "p99", 1)]
    series = [Series(name, _timeline(report, field), colour) for name, field, colour in figures]
    return charts.lines("Latency over time", series, _clock(series), _milliseconds(series))


def _timeline(report: Report, field: str) -> list[tuple[float, float | None]]:
    """Return a figure of all phases, one behind the other."""
    points: list[tuple[float, float | None]] = []
    offset = 0.0
    for phase in report.phases:
        for second in phase.timeline:
            if second.at and second.at + HALF > phase.seconds:
                continue
            value = float(getattr(second, field))
            points.append((offset + second.at, None if field.startswith("p") and not value else value))
        offset += math.ceil(phase.seconds)
        points.append((offset, None))
    return points


def _shares(phases: Sequence[PhaseReport]) -> str:
    rows = [(phase.phase.name, [phase.shares.get(name, 0.0) for name, _ in SHARES]) for phase in phases]
    return charts.bars("Where the time went", rows, SHARES, _ms)


def _engine(phases: Sequence[PhaseReport]) -> str:
    rows = [(phase.phase.name, [phase.server.engine.get(name, 0.0) for name, _ in ACTIVITIES])
            for phase in phases if phase.server is not None]  # fmt: skip
    return charts.bars("What the engine did", rows, ACTIVITIES, lambda share: f"{share:.0%}")


def _tables(report: Report, comparison: Sequence[Row]) -> list[str]:
    phases: list[Sequence[str]] = [
        ("phase", "sent", "goodput/s", "errors", "p50", "p90", "p99", "p99.9", "max", "tokens/s")
    ]
    for one in report.phases:
        times = [_ms(one.latency.at(point)) if one.latency else "-" for point in (50, 90, 99, 99.9, 100)]
        errors = ", ".join(f"{code} {count}" for code, count in one.errors.items()) or "none"
        tokens = f"{one.target_tokens_per_second:.0f}"
        phases.append((one.phase.name, str(one.sent), f"{one.goodput:.1f}", errors, *times, tokens))
    tables = [_card("Phases", _table(phases), "wide")]
    if report.verdicts:
        judged = [(v.phase, v.objective, spelled(v), "kept" if v.kept else "missed") for v in report.verdicts]
        tables.append(_card("Objectives", _table([("phase", "wanted", "actual", "verdict"), *judged]), "wide"))
    if comparison:
        rows = [(row.phase, row.figure, f"{row.old:.1f} {row.unit}", f"{row.new:.1f} {row.unit} ({row.change:+.1%})",
                 row.verdict) for row in comparison]  # fmt: skip
        header = ("phase", "figure", "before", "now", "verdict")
        tables.append(_card("Compared with the report before", _table([header, *rows]), "wide"))
    return tables


def _table(rows: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f'<td class="v-{html.escape(cell)}">{html.escape(cell)}</td>' if cell.isalpha()
                         else f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]
    )  # fmt: skip
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _card(title: str, content: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h2>{html.escape(title)}</h2>{content}</section>'


def _spread(phases: Sequence[PhaseReport], most: int = MOST_CURVES) -> list[PhaseReport]:
    """Return at most so many of them, the first and the last among them."""
    if len(phases) <= most:
        return list(phases)
    return [phases[round(index * (len(phases) - 1) / (most - 1))] for index in range(most)]


def _open(phases: Sequence[PhaseReport]) -> bool:
    return not all(phase.phase.closed for phase in phases)


def _rate(phase: PhaseReport) -> float:
    return float(phase.phase.concurrency) if phase.phase.closed else phase.phase.rate


def _clock(series: Sequence[Series]) -> Axis:
    return charts.linear("seconds", [point[0] for one in series for point in one.points])


def _milliseconds(series: Sequence[Series]) -> Axis:
    return charts.logarithmic("latency (s)", _ups(series), _ms)


def _ups(series: Sequence[Series]) -> list[float]:
    return [point[1] for one in series for point in one.points if point[1] is not None]


def _ms(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
