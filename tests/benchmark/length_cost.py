"""What a step costs, and what memory holds, as translations grow: for a family with caches and one without."""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service import bundle
from service.engine.lane import Lane
from service.engine.layout import Layout
from service.engine.session import OnnxModel
from service.tokenizer import Tokenizer
from tests.benchmark.plan import EMBEDDED, Plan
from tests.benchmark.report import Figure, Section
from tests.benchmark.workers import Worker, processors

REPEATS = 3
STATUS = Path("/proc/self/status")


class Grown(NamedTuple):
    """Milliseconds of each step of all rows, and what they took of memory, in MB (10^6 bytes)."""

    steps: list[float]
    caches_mb: float
    """Bytes of the caches of all rows."""
    resident_mb: float
    """Resident memory at its highest, less what it was when the model was loaded."""


class Growing:
    """Some rows that all decode so many tokens: an end symbol ends nothing here."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        loaded = bundle.load(folder)
        self._model = OnnxModel.load(loaded, "cpu")
        tokenizer = Tokenizer.from_bundle(loaded)
        sources = [tokenizer.encode(text).ids for text in texts]
        self._lengths = np.array([len(source) for source in sources])
        self._ids = np.full((len(sources), self._lengths.max()), loaded.manifest.tokenizer.pad_id)
        for row, source in zip(self._ids, sources, strict=True):
            row[: len(source)] = source
        self._loaded = resident("VmRSS")

    def __call__(self, tokens: int) -> Grown:
        """Decode so many tokens of each row."""
        layout = Layout.of(self._model.manifest)
        lane = Lane(self._model, layout, 1)
        encoded = self._model.encode(self._ids, self._lengths)
        start = self._model.manifest.tokenizer.start_id
        lane.insert(encoded, self._lengths, range(len(self._ids)), start)
        steps = []
        for _ in range(tokens):
            started = time.perf_counter()
            lane.tokens = lane.advance(1, attention=False).ids[:, 0]
            steps.append(1e3 * (time.perf_counter() - started))
        held = layout.token_bytes * len(lane) * tokens
        return Grown(steps, held / 1e6, resident("VmHWM") - self._loaded)


def resident(field: str) -> float:
    """Return a size of this process in MB (10^6 bytes)."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024 / 1e6


def measure(plan: Plan) -> Section:
    """Grow translations of each length, in a process of its own, so that the highest memory is its own too."""
    texts = plan.texts(plan.sizes.long_rows)
    note = (
        f"{len(texts)} sentences of test.tsv that are all decoded to so many tokens, whatever their end; one thread on "
        f"one processor. A step's time is the median of {REPEATS} runs. Memory: what the caches hold, and what the "
        "process grew by since the model was loaded."
    )
    section = Section("length cost", [], [note])
    curves: dict[str, Sequence[float]] = {}
    for folder in dict.fromkeys((EMBEDDED, *plan.bundles)):
        manifest = bundle.read_manifest(folder)
        name = f"{manifest.model.family} {manifest.model.precision}"
        for tokens in plan.sizes.long_tokens:
            plan.say(f"length cost: {name}, {tokens} tokens")
            with Worker(name, functools.partial(Growing, folder, texts), processors()[0]) as grow:
                grow(min(4, tokens))  # warms up
                runs = [grow(tokens) for _ in range(REPEATS)]
            steps = [float(np.median(times)) for times in zip(*(run.steps for run in runs), strict=True)]
            grown = runs[0]._replace(steps=steps)
            section.figures += _figures(f"{name}, {tokens} tokens", grown)
            curves[name] = grown.steps
    if plan.picture is not None:
        draw(curves, len(texts), plan.picture)
        section.notes.append(f"The longest of each, step by step: {plan.picture.name}.")
    return section


def _figures(what: str, grown: Grown) -> list[Figure]:
    tail = grown.steps[-max(1, len(grown.steps) // 10) :]
    return [
        Figure(f"{what}, mean step", sum(grown.steps) / len(grown.steps), "ms"),
        Figure.of(f"{what}, last tenth of the steps", tail, "ms"),
        Figure(f"{what}, in the caches", grown.caches_mb, "MB"),
        Figure(f"{what}, growth of the process", grown.resident_mb, "MB"),
    ]


def draw(curves: dict[str, Sequence[float]], rows: int, picture: Path) -> None:
    """Draw milliseconds a step against the tokens so far: medians of ten steps, which leave single disturbances out."""
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415  needed here alone

    canvas = Canvas(figsize=(7, 4), layout="constrained")
    axes = canvas.subplots()
    for name, steps in curves.items():
        places = range(0, len(steps), 10)
        axes.plot([at + 5 for at in places], [np.median(steps[at : at + 10]) for at in places], label=name)
    axes.set(xlabel="target tokens so far", ylabel=f"ms a step of {rows} rows", xlim=(0, None), ylim=(0, None))
    axes.legend()
    canvas.savefig(picture, dpi=120)
