"""The code as it is against an earlier revision, each with the bundle that it embeds."""

import contextlib
import functools
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark.load import Load, OneByOne, Order, Repeated, Run
from tests.benchmark.plan import EMBEDDED, ROOT, SHORT_TEXT, Plan
from tests.benchmark.report import Figure, Goal, Section, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

IN_FLIGHT = (1, 8, 64)
AS_FAST = Goal(">=", 0.95)
"""Ratios within a twentieth of one are noise here."""


def measure(plan: Plan) -> Section:
    """Send the same texts to both servers, in turn."""
    if plan.against is None:
        return Section("before and after", [], ["Not measured: --against says which revision."])
    note = (
        f"HEAD against {plan.against}, each with its own embedded bundle, on the same processor in turn; "
        f"{plan.sizes.rounds} rounds, single-text requests of test.tsv, a client on another processor. Ratios are "
        "above 1 where HEAD is faster."
    )
    with ExitStack() as stack:
        tree = stack.enter_context(checked_out(plan.against))
        trees = {"before": tree, "HEAD": ROOT}
        cpus, driver = processors()
        asks, singles = {}, {}
        for name, root in trees.items():
            folder = root / EMBEDDED.relative_to(ROOT)
            server = stack.enter_context(Server(folder, cpus, "--threads", "1", code=root))
            load = stack.enter_context(Worker(f"load {name}", Load, driver))
            asks[name] = functools.partial(_ask, load, server.address)
            one_by_one = functools.partial(OneByOne, server.address, SHORT_TEXT)
            singles[name] = stack.enter_context(Worker(f"client {name}", one_by_one, driver))
        runs: dict[int, dict[str, list[float]]] = {number: {name: [] for name in trees} for number in IN_FLIGHT}
        calls: dict[str, list[float]] = {name: [] for name in trees}
        for round_number in range(plan.sizes.rounds + 1):
            plan.say(f"before and after: round {round_number} of {plan.sizes.rounds}")
            for number in IN_FLIGHT:
                texts = plan.texts(min(plan.sizes.decoding_sentences, 40 + 8 * number))
                for name, ask in asks.items():
                    runs[number][name].append(ask(texts, number))
            for name, single in singles.items():
                found: Repeated = single(plan.sizes.latency_calls)
                calls[name].append(1e3 * statistics.median(found.seconds))
    precision = read_manifest(EMBEDDED).model.precision
    return Section("before and after", [*_rates(runs, precision), *_latencies(calls, precision)], [note])


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out, beside the repository's own files, as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as parent:
        tree = Path(parent) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), revision], check=True, capture_output=True)  # noqa: S603
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)  # noqa: S603


def _ask(load: Worker[Order, Run], address: str, texts: Sequence[str], in_flight: int) -> float:
    run = load(Order(address, texts, in_flight))
    return run.tokens / run.seconds


def _rates(runs: dict[int, dict[str, list[float]]], precision: str) -> Iterator[Figure]:
    for number, found in runs.items():
        measured = {name: rates[1:] for name, rates in found.items()}  # the first round warmed up
        for name, rates in measured.items():
            yield Figure.of(f"{precision}, {number} in flight, {name}", rates, "target tokens/s")
        both = ratios(measured["HEAD"], measured["before"])
        yield Figure.of(f"{precision}, {number} in flight, HEAD / before", both, "x", AS_FAST)


def _latencies(calls: dict[str, list[float]], precision: str) -> Iterator[Figure]:
    measured = {name: milliseconds[1:] for name, milliseconds in calls.items()}
    for name, milliseconds in measured.items():
        yield Figure.of(f"{precision}, one short sentence, {name}", milliseconds, "ms")
    both = ratios(measured["before"], measured["HEAD"])
    yield Figure.of(f"{precision}, one short sentence, before / HEAD", both, "x", AS_FAST)
