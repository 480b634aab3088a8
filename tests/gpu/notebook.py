"""What a part has found so far, on the disk after every figure: a part that is cut short leaves what it has."""

import json
from pathlib import Path
from typing import Any

from tests.benchmark.report import Figure, Goal, Section


class Notebook:
    """Writes one part's figures."""

    def __init__(self, path: Path, title: str) -> None:
        self._path = path
        self.section = Section(title, [], [])
        self.about: dict[str, str] = {}

    def add(self, figure: Figure) -> None:
        """Write down a figure."""
        self.section.figures.append(figure)
        self.write()
        print(f"  {figure.name}: {figure.median:.4g} {figure.unit}", flush=True)

    def note(self, text: str) -> None:
        """Write down what a figure cannot hold."""
        self.section.notes.append(text)
        self.write()

    def write(self) -> None:
        """Write all of it anew, whole or not at all."""
        fresh = self._path.with_suffix(".partial")
        fresh.write_text(json.dumps(self._data(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def _data(self) -> dict[str, Any]:
        figures = [
            {"name": one.name, "median": one.median, "unit": one.unit, "low": one.low, "high": one.high,
             "goal": one.goal and list(one.goal)}
            for one in self.section.figures
        ]  # fmt: skip
        return {"title": self.section.title, "figures": figures, "notes": self.section.notes, "about": self.about}


def read(path: Path) -> tuple[Section, dict[str, str]]:
    """Return what a part has written, and what it said of the machine."""
    data = json.loads(path.read_text(encoding="utf-8"))
    figures = [
        Figure(**one | {"goal": Goal(*one["goal"]) if one["goal"] else None}) for one in data["figures"]
    ]  # fmt: skip
    return Section(data["title"], figures, data["notes"]), data["about"]
