"""Charts as SVG text: lines over two axes, and stacked bars. Colours are classes of report.css."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 18.0, 12.0, 44.0
BAR, GAP, NAME = 22.0, 12.0, 120.0
MOST_LABELS = 7
COLOURS = 6
"""Classes c0 to c5; the last one is grey, for what is left."""
Part = tuple[str, int]
"""What a part of a bar is called, and its colour."""
Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, and its points in the axes' units; None breaks it."""

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: int


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie, from 0 to 1, and how they are called."""

    title: str
    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def linear(title: str, values: Sequence[float], unit: str = "", *, zero: bool = True) -> Axis:
    """Return an axis with even ticks."""
    top = max(values, default=0.0) or 1.0
    bottom = 0.0 if zero else min(values)
    step = _round_step((top - bottom or 1.0) / (MOST_LABELS - 2))
    first, last = math.floor(bottom / step), math.ceil(top / step - 1e-9)
    ticks = [(index * step, f"{index * step:.10g}{unit}") for index in range(first, max(last, first + 1) + 1)]
    low, high = ticks[0][0], ticks[-1][0]
    return Axis(title, lambda value: (value - low) / (high - low), ticks)


def logarithmic(title: str, values: Sequence[float], name: Callable[[float], str]) -> Axis:
    """Return an axis with ticks at 1, 2 and 5 times the powers of ten."""
    positive = [value for value in values if value > 0] or [1.0]
    candidates = [base * 10.0**power for power in range(-7, 8) for base in (1, 2, 5)]
    low = max((tick for tick in candidates if tick <= min(positive) * (1 + 1e-9)), default=candidates[0])
    high = min((tick for tick in candidates if tick >= max(positive) and tick > low), default=candidates[-1])
    ticks = [tick for tick in candidates if low <= tick <= high]
    if len(ticks) > MOST_LABELS + 2:
        ticks = [tick for tick in ticks if round(math.log10(tick), 6).is_integer() or tick in {low, high}]
    span = math.log(high / low)
    return Axis(title, lambda value: math.log(max(value, low) / low) / span, [(tick, name(tick)) for tick in ticks])


def nines(title: str, last: float) -> Axis:
    """Return an axis of percentiles on which 90, 99 and 99.9 are evenly apart, up to the one of `last` nines."""
    names = [(0.0, "0"), (math.log10(2), "p50"), *((float(n), f"p{100 - 100 / 10**n:.10g}") for n in range(1, 7))]
    last = max(last, 1.0)
    return Axis(title, lambda value: value / last, [tick for tick in names if tick[0] <= last + 1e-9])


def lines(label: str, series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Return a line chart with its legend; each point tells its values to whoever points at it."""
    parts = [_grid(x, y)]
    for one in series:
        path, dots, joined = [], [], False
        for across, up in one.points:
            if up is None:
                joined = False
                continue
            left, top = _x(x, across), _y(y, up)
            path.append(f"{'L' if joined else 'M'}{left:.1f} {top:.1f}")
            dots.append((left, top))
            joined = True
        parts.append(f'<path class="line c{one.colour % COLOURS}" d="{"".join(path)}"/>')
        told = [point for point in one.points if point[1] is not None]
        for (left, top), (across, up) in zip(dots, told, strict=True):
            parts.append(_dot(one, (left, top), f"{one.name}: {_value(x, across)}, {_value(y, up or 0.0)}"))
    legend = _legend([(one.name, one.colour) for one in series])
    return f"{legend}{_svg(label, HEIGHT, parts)}"


def bars(label: str, rows: Sequence[tuple[str, Sequence[float]]], parts: Sequence[Part], show: Show) -> str:
    """Return a bar a row, as long as the others, that is divided as its values are; their sum stands behind it."""
    room = WIDTH - NAME - 80
    drawn = []
    for index, (name, values) in enumerate(rows):
        y, x, whole = index * (BAR + GAP) + 4, NAME, sum(values)
        drawn.append(_text(NAME - 10, y + BAR * 0.7, name, "end"))
        for part, value in zip(parts, values, strict=True):
            width = max(0.0, value) / whole * room if whole else 0.0
            hint = html.escape(f"{name}, {part[0]}: {show(value)}")
            box = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width - 1):.1f}" height="{BAR}" rx="2"'
            drawn.append(f'<rect class="fill c{part[1]}" {box}><title>{hint}</title></rect>')
            x += width
        drawn.append(_text(NAME + room + 8, y + BAR * 0.7, show(whole), "start"))
    return f"{_legend(parts)}{_svg(label, len(rows) * (BAR + GAP) + 8, drawn)}"


def _dot(series: Series, at: tuple[float, float], hint: str) -> str:
    few = len(series.points) <= 30
    title = f"<title>{html.escape(hint)}</title>"
    place = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}"'
    seen = f'<circle class="dot c{series.colour % COLOURS}" {place} r="3"/>' if few else ""
    return f'{seen}<circle class="aim" {place} r="9">{title}</circle>'


def _grid(x: Axis, y: Axis) -> str:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, name in y.ticks:
        at = _y(y, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 8, at + 4, name, "end"))
    for value, name in x.ticks:
        at = _x(x, value)
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(_text(at, bottom + 18, name, "middle"))
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x.title, "middle", "title"))
    return "".join(parts)


def _legend(names: Sequence[Part]) -> str:
    items = "".join(
        f'<span><i class="key c{colour % COLOURS}"></i>{html.escape(name)}</span>' for name, colour in names
    )
    return f'<div class="legend">{items}</div>'


def _svg(label: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _value(axis: Axis, value: float) -> str:
    return f"{axis.title.partition(' (')[0]} {value:.4g}"


def _x(axis: Axis, value: float) -> float:
    return LEFT + min(1.0, max(0.0, axis.place(value))) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return TOP + (1 - min(1.0, max(0.0, axis.place(value)))) * (HEIGHT - TOP - BOTTOM)


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(base * power for base in (1, 2, 5, 10) if base * power >= rough * (1 - 1e-9))
