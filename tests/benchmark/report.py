"""What a benchmark found: figures with their spread and their goals, as a table, as Markdown and as JSON."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from service import terminal

COLUMNS = ("FIGURE", "MEDIAN", "RANGE", "GOAL", "VERDICT")


class Goal(NamedTuple):
    """A bound that a figure should keep."""

    sign: str
    """`>=`, `<=` or `<`."""
    bound: float

    def __str__(self) -> str:
        """Show it as people write it."""
        return f"{self.sign} {self.bound:g}"

    def reached(self, value: float) -> bool:
        """Return whether a value keeps it; not a number does not."""
        return {">=": value >= self.bound, "<=": value <= self.bound, "<": value < self.bound}[self.sign]


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity; `low` and `high` are None for what was measured once."""

    name: str
    median: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    goal: Goal | None = None

    @classmethod
    def of(cls, name: str, values: Sequence[float], unit: str = "", goal: Goal | None = None) -> "Figure":
        """Sum up repeated measurements by their median, least and greatest."""
        return cls(name, statistics.median(values), unit, min(values), max(values), goal)

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps the goal; None without one."""
        return None if self.goal is None else self.goal.reached(self.median)

    def cells(self) -> list[str]:
        """Return the cells of its row."""
        spread = "" if self.low is None or self.high is None else f"{_short(self.low)} - {_short(self.high)}"
        verdict = {None: "", True: "ok", False: "MISSED"}[self.reached]
        goal = "" if self.goal is None else str(self.goal)
        return [self.name, f"{_short(self.median)} {self.unit}".strip(), spread, goal, verdict]


@dataclasses.dataclass(slots=True)
class Section:
    """One part of the benchmarks; notes say what was measured, and list what a figure cannot hold."""

    title: str
    figures: list[Figure]
    notes: list[str]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: what disturbed one round disturbed both."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which about this share of the values lies (nearest rank)."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def as_text(sections: Sequence[Section]) -> str:
    """Return one table for a terminal, then the notes."""
    rows: list[list[str]] = []
    for section in sections:
        rows += [[section.title, "", "", "", ""], *(["  " + name, *rest] for name, *rest in _cells(section)), [""] * 5]
    notes = "\n".join(f"{section.title}: {note}" for section in sections for note in section.notes)
    return f"{terminal.table(COLUMNS, rows)}\n{notes}\n"


def as_markdown(sections: Sequence[Section], machine: dict[str, str]) -> str:
    """Return a page with a table for each part."""
    lines = [
        "# Figures",
        "",
        "Written by `make bench`; [benchmarks.md](benchmarks.md) says how to read and rerun them.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    for section in sections:
        lines += ["", f"## {section.title}", "", "| " + " | ".join(column.lower() for column in COLUMNS) + " |"]
        lines += ["| --- | ---: | ---: | --- | --- |", *("| " + " | ".join(cells) + " |" for cells in _cells(section))]
        lines += ["", *(f"- {note}" for note in section.notes)]
    return "\n".join(lines).rstrip() + "\n"


def as_data(sections: Sequence[Section], machine: dict[str, str]) -> dict[str, Any]:
    """Return everything as JSON can hold it."""
    found = [dataclasses.asdict(section) for section in sections]
    for described, section in zip(found, sections, strict=True):
        for figure, original in zip(described["figures"], section.figures, strict=True):
            figure["goal"] = None if original.goal is None else str(original.goal)
            figure["reached"] = original.reached
    return {"machine": machine, "sections": found}


def missed(sections: Sequence[Section]) -> list[str]:
    """Name the figures that miss their goal."""
    return [
        f"{section.title}: {figure.name}"
        for section in sections
        for figure in section.figures
        if figure.reached is False
    ]


def _cells(section: Section) -> list[list[str]]:
    return [figure.cells() for figure in section.figures]


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
