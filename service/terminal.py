"""What the commands show: tables, and attention as a picture. Korean is two columns wide, which all of it honours."""

import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

WORD_START = "\u2581"
"""SentencePiece's mark of a word's first piece."""
SHADES = " ░▒▓█"
COLOURS = (17, 18, 24, 31, 38, 45)
"""A ramp of the 256-colour palette, dark to light."""
FAINT = 0.05
"""Weights below are left blank."""
GAP = 2
PROGRESS_SECONDS = 0.2
"""Between two pictures of the progress."""
MODEL_COLUMNS = ("MODEL", "VERSION", "LANGUAGES", "FAMILY", "PRECISION", "PROVIDER", "PARITY", "QUALITY")
STATE_COLUMNS = ("MODEL", "VERSION", "STATE", "CALLS", "MB", "REASON")


def width(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def pad(text: str, columns: int) -> str:
    """Fill a text up with spaces to so many columns."""
    return text + " " * (columns - width(text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines whose columns are aligned."""
    lines = [header, *rows]
    widths = [max(width(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(map(pad, line, widths)).rstrip() for line in lines)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model in the table of MODEL_COLUMNS."""

    name: str
    version: str
    languages: tuple[str, str]
    family: str
    precision: str
    provider: str
    identical: tuple[int, int]
    """Sentences that the export decoded as the original model does, of how many."""
    quality: Sequence[tuple[str, float, float]]
    """Test set, chrF, BLEU."""

    def cells(self) -> list[str]:
        """Return the columns as text."""
        quality = "; ".join(f"{name} chrF {chrf:.1f} BLEU {bleu:.1f}" for name, chrf, bleu in self.quality)
        same, total = self.identical
        languages = " > ".join(self.languages)
        parity = f"{same}/{total}"
        return [self.name, self.version, languages, self.family, self.precision, self.provider, parity, quality or "-"]


class Progress:
    """One line on a terminal that tells how far a long work has come; silent where there is no terminal."""

    def __init__(self, stream: TextIO, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the number of lines to do, None where it is not known."""
        self._stream = stream
        self._total = total
        self._clock = clock
        self._enabled = stream.isatty()
        self._started = self._told = clock()
        self._drawn = False

    def __enter__(self) -> "Progress":
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave nothing behind."""
        self.clear()

    def clear(self) -> None:
        """Make room for other output."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    def show(self, done: int) -> None:
        """Tell that so many lines are done, a few times a second."""
        now = self._clock()
        if not self._enabled or now - self._told < PROGRESS_SECONDS:
            return
        self._told, self._drawn = now, True
        rate = done / (now - self._started)
        of = "" if self._total is None else f" of {self._total:,}"
        line = f"{done:,}{of} lines, {rate:,.0f}/s"
        if self._total:
            line = f"{_bar(done / self._total)} {line}, {max(0, self._total - done) / rate:,.0f} s left"
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()


def _bar(share: float) -> str:
    filled = round(20 * min(1.0, share))
    return "█" * filled + "░" * (20 - filled)


def shown(piece: str) -> str:
    """Return a piece for reading: a word's first piece bare, the others behind a dot."""
    bare = piece.removeprefix(WORD_START)
    return bare or WORD_START if piece.startswith((WORD_START, "<")) else "·" + piece


class AttentionPicture:
    """Weights `[target, source]` drawn with target tokens as rows and source tokens as columns."""

    def __init__(self, source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]]) -> None:
        self._source = source
        self._target = target
        self._weights = weights

    def draw(self, columns: int, *, colour: bool) -> str:
        """Return the picture for a terminal of so many columns; what is too wide continues in a further panel."""
        names = [shown(piece) for piece in self._target]
        margin = max(map(width, names), default=0) + GAP
        headings = [shown(piece) for piece in self._source]
        across = margin + sum(max(4, width(heading)) + 1 for heading in headings) <= columns
        cells = [max(4, width(heading)) if across else 4 for heading in headings]
        paint = _painted if colour else _shaded
        panels = []
        for first, last in _panels(cells, columns - margin):
            part = slice(first, last)
            lines = _heading(headings[part], cells[part], across=across)
            drawn = [" " * margin + line for line in lines]
            for name, row in zip(names, self._weights, strict=True):
                body = " ".join(map(paint, row[part], cells[part]))
                drawn.append(" " * (margin - GAP - width(name)) + name + " " * GAP + body)
            panels.append("\n".join(line.rstrip() for line in drawn))
        return "\n\n".join(panels)

    def alignments(self) -> list[str]:
        """Return a line for each target word: the source word that it attended to most, and how much of it."""
        source_words, target_words = _words(self._source), _words(self._target)
        lines = []
        for word, rows in target_words:
            shares = [
                (sum(self._weights[row][column] for row in rows for column in columns) / len(rows), name)
                for name, columns in source_words
            ]
            if shares:
                share, name = max(shares)
                lines.append((word, f"<- {name} ({share:.2f})"))
        margin = max((width(word) for word, _ in lines), default=0)
        return [" " * (margin - width(word)) + f"{word} {origin}" for word, origin in lines]


def aligned_words(source: str, target: str, links: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> list[str]:
    """Return a line for each target word that is linked: the source words that it came from.

    Links are the characters of a target token and of the source token it belongs to.
    """
    origins: dict[tuple[int, int], list[str]] = {}
    for (start, _), (origin, _) in links:
        words = origins.setdefault(_word_at(target, start), [])
        first, last = _word_at(source, origin)
        if (word := source[first:last]) not in words:
            words.append(word)
    named = [(target[first:last], ", ".join(filter(None, words))) for (first, last), words in sorted(origins.items())]
    margin = max((width(word) for word, _ in named), default=0)
    return [" " * (margin - width(word)) + f"{word} <- {words}" for word, words in named if word and words]


def _word_at(text: str, index: int) -> tuple[int, int]:
    """Return the word that holds a character; a space is a word of nothing."""
    first = last = index
    while first > 0 and not text[first - 1].isspace() and not text[index : index + 1].isspace():
        first -= 1
    while last < len(text) and not text[last].isspace():
        last += 1
    return first, last


def _panels(cells: Sequence[int], columns: int) -> list[tuple[int, int]]:
    """Split the cells into runs that fit side by side."""
    panels, first, used = [], 0, 0
    for index, cell in enumerate(cells):
        if index > first and used + cell > columns:
            panels.append((first, index))
            first, used = index, 0
        used += cell + 1
    return [*panels, (first, len(cells))]


def _heading(headings: Sequence[str], cells: Sequence[int], *, across: bool) -> list[str]:
    """Write the source tokens across, or downwards where they are too wide together."""
    if across:
        return [" ".join(map(pad, headings, cells))]
    height = max(map(len, headings), default=0)
    downwards = [heading.rjust(height) for heading in headings]
    return [" ".join(pad(" " + word[line], cell) for word, cell in zip(downwards, cells, strict=True))
            for line in range(height)]  # fmt: skip


def _shaded(weight: float, columns: int) -> str:
    """Draw a weight with a block of grey, and in percent where there is room for it."""
    if weight < FAINT:
        return " " * columns
    shade = SHADES[min(len(SHADES) - 1, 1 + int(weight * (len(SHADES) - 1)))]
    return shade * (columns - 2) + f"{min(99, round(weight * 100)):2d}"


def _painted(weight: float, columns: int) -> str:
    """Draw a weight as a painted cell with its percentage."""
    if weight < FAINT:
        return " " * columns
    level = min(len(COLOURS) - 1, int(weight * len(COLOURS)))
    ink = 16 if level > len(COLOURS) // 2 else 231
    return f"\x1b[48;5;{COLOURS[level]};38;5;{ink}m{min(99, round(weight * 100)):^{columns}d}\x1b[0m"


def _words(pieces: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Join pieces into words, each with the indices of its pieces; control symbols stand alone."""
    words: list[tuple[str, list[int]]] = []
    alone = True
    for index, piece in enumerate(pieces):
        control = piece.startswith("</")
        if alone or control or piece.startswith(WORD_START):
            words.append(("", []))
        word, indices = words[-1]
        words[-1] = (word + piece.removeprefix(WORD_START), [*indices, index])
        alone = control
    return [(word or WORD_START, indices) for word, indices in words]
