"""Read parallel text and weigh it: how often each pair is seen in a pass."""

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

LABEL_WORDS = 2
"""English texts of up to this many words are labels: menu entries and names, a quarter of the corpus."""


class Pair(NamedTuple):
    """A source text, its translation, and the expected number of copies of it in one pass."""

    source: str
    target: str
    weight: float


def open_text(path: Path) -> TextIO:
    """Open a UTF-8 text file, decompressing `.xz`."""
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def read_tsv(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (source, target) of a tab-separated file; raise ValueError that names the first bad line."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\n").split("\t")
            if not all(fields[:2]) or len(fields) == 1:
                raise ValueError(f"{path}:{number}: expected source<TAB>target, got {len(fields)} field(s)")
            yield fields[0], fields[1]


def weigh(pairs: Iterator[tuple[str, str]], weight: float, label_weight: float) -> Iterator[Pair]:
    """Give labels `label_weight` of the weight, and texts one word longer the mean of the two."""
    for source, target in pairs:
        words = len(target.split())
        share = 1.0 if words > LABEL_WORDS + 1 else (1 + label_weight) / 2 if words > LABEL_WORDS else label_weight
        yield Pair(source, target, weight * share)
