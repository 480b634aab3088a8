"""What a step costs outside ONNX Runtime's run: selection, bookkeeping, joining, delivery."""

import functools
import gc
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service import bundle
from service.engine.session import OnnxModel
from tests.benchmark.offline import open_session, vocabularies_of
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section, percentile
from tests.benchmark.stepping import HandEngine, decode, replacing
from tests.benchmark.workers import Worker, processors

ROWS = (1, 8, 32, 64)
GOALS = {1: Goal("<=", 15), 32: Goal("<=", 5)}
STEADY_STEPS = 12
"""Measured steps of rows that joined together; none of them ends within these."""


class TimedSession:
    """An ONNX Runtime session that adds up the seconds spent in its run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds = 0.0

    def run(self, names: list[str], feeds: dict[str, Any]) -> Any:
        """Run the session."""
        started = time.perf_counter()
        outputs = self._session.run(names, feeds)
        self.seconds += time.perf_counter() - started
        return outputs


class Step(NamedTuple):
    """One step of the engine, in seconds: all of it, and what ONNX Runtime's runs took of it."""

    whole: float
    run: float

    @property
    def host(self) -> float:
        """The share outside of the runs, in per cent."""
        return 100 * (1 - self.run / self.whole)


class Stopwatch:
    """Times whatever is done within it, again and again."""

    def __init__(self, sessions: Sequence[TimedSession]) -> None:
        self._sessions = sessions
        self._before = (0.0, 0.0)
        self.steps: list[Step] = []

    def __enter__(self) -> None:
        """Begin."""
        self._before = (self._inside(), time.perf_counter())

    def __exit__(self, *_: object) -> None:
        """End."""
        ended = time.perf_counter()
        self.steps.append(Step(ended - self._before[1], self._inside() - self._before[0]))

    def _inside(self) -> float:
        return sum(session.seconds for session in self._sessions)


class Order(NamedTuple):
    """How many rows, and at least how many steps."""

    rows: int
    steps: int


class Found(NamedTuple):
    """Steps of rows that stay together, and steps with joins and leaves."""

    steady: list[Step]
    changing: list[Step]


class HostWork:
    """Runs the engine of a bundle over sentences, on one processor and one thread."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        loaded = bundle.load(folder)
        graphs = (loaded.manifest.encoder, loaded.manifest.decoder_step)
        self._sessions = [TimedSession(open_session(loaded.contents[graph.file])) for graph in graphs]
        self._model = OnnxModel(loaded, "cpu", *self._sessions)
        vocabularies = vocabularies_of(folder, loaded)
        self._sources = [vocabularies.source_ids(text) for text in texts]
        outputs = decode(self._model, self._sources, replacing(64))
        lasting = [source for source, output in zip(self._sources, outputs, strict=True)
                   if output.timing.steps > STEADY_STEPS + 1]  # fmt: skip
        self._lasting = lasting or self._sources
        gc.freeze()  # as the server does

    def __call__(self, order: Order) -> Found:
        """Measure so many rows."""
        return Found(self._steady(order), self._changing(order))

    def _steady(self, order: Order) -> list[Step]:
        """Let rows join together and time the steps after the one in which they joined."""
        sources = itertools.cycle(self._lasting)
        watch = Stopwatch(self._sessions)
        while len(watch.steps) < order.steps:
            engine = HandEngine(self._model, order.rows)
            for source in itertools.islice(sources, order.rows):
                engine.submit(source)
            engine.step()
            for _ in range(STEADY_STEPS):
                if engine.inside == order.rows:
                    with watch:
                        engine.step()
        return watch.steps

    def _changing(self, order: Order) -> list[Step]:
        """Keep the rows filled: whoever ends makes room for the next one."""
        watch = Stopwatch(self._sessions)
        sources = itertools.cycle(self._sources)
        while len(watch.steps) < order.steps:
            some = list(itertools.islice(sources, max(len(self._sources) // 4, 4 * order.rows)))
            decode(self._model, some, replacing(order.rows), order.rows, watch)
        return watch.steps


def measure(plan: Plan) -> Section:
    """Measure each number of rows in turn."""
    texts = plan.texts(plan.sizes.invariance_sentences)
    figures: list[Figure] = []
    for folder in plan.bundles:
        name = label(bundle.read_manifest(folder))
        with Worker("host work", functools.partial(HostWork, folder, texts), processors()[0]) as worker:
            for rows in ROWS:
                plan.say(f"host work: {rows} row(s), {name}")
                figures += _figures(
                    f"{rows} row(s), {name}", worker(Order(rows, plan.sizes.host_steps)), GOALS.get(rows)
                )
    note = (
        "Share of an engine step outside InferenceSession.run, median over the steps and the range of the middle 80 %; "
        f"at least {plan.sizes.host_steps} steps each. Without joins: rows that joined together, the {STEADY_STEPS} "
        "steps after. With joins and leaves: rows kept filled, encoding among the runs; 'in all' is the sum over all "
        "steps, those that end or start a request included."
    )
    return Section("host work", figures, [note])


def _figures(what: str, found: Found, goal: Goal | None) -> Iterator[Figure]:
    yield _shares(f"without joins, {what}", found.steady, goal)
    yield _shares(f"with joins and leaves, {what}", found.changing, goal)
    whole, run = (sum(times) for times in zip(*found.changing, strict=True))
    yield Figure(f"with joins and leaves, in all, {what}", Step(whole, run).host, "%", goal=goal)
    host = [1e6 * (step.whole - step.run) for step in found.steady]
    yield Figure(f"without joins, {what}", statistics.median(host), "us a step", *_middle(host))


def _shares(name: str, steps: Sequence[Step], goal: Goal | None) -> Figure:
    shares = [step.host for step in steps]
    return Figure(name, statistics.median(shares), "%", *_middle(shares), goal)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 0.1), percentile(values, 0.9)
