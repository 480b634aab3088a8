"""One short sentence alone: what gRPC, the event loop and the engine thread add to decoding it in process.

Beside the service, the same loop behind a bare gRPC server says how much of that is gRPC's own.
"""

import functools
import statistics
from contextlib import ExitStack
from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark.bare import BareServer
from tests.benchmark.load import OneByOne, Repeated
from tests.benchmark.offline import OnnxBatches, build_onnx
from tests.benchmark.plan import SHORT_TEXT, Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

GOAL = Goal("<=", 1.5)
THROUGH, BARE, INSIDE = "through gRPC", "through bare gRPC", "in process"


class InProcess:
    """Tokenizes, decodes and detokenizes the short text, with nothing around it."""

    def __init__(self, folder: Path) -> None:
        self._offline = build_onnx(folder, 1, OnnxBatches)

    def __call__(self, times: int) -> Repeated:
        """Time so many translations."""
        return self._offline.repeat(SHORT_TEXT, times)


def measure(plan: Plan) -> Section:
    """Ask the server and the loop in turn."""
    note = (
        f"{SHORT_TEXT!r} alone, {plan.sizes.rounds} rounds of {plan.sizes.latency_calls} calls each, in turn, all on "
        "the same processor; the client runs on another. Bare: gRPC's asyncio server, and a thread that runs the loop."
    )
    section = Section("latency", [], [note])
    for folder in plan.bundles:
        plan.say(f"latency: {folder}")
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name, calls = label(read_manifest(folder)), plan.sizes.latency_calls
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder, measured, "--threads", "1"))
        bare: Worker[None, str] = Worker("bare", functools.partial(BareServer, folder), measured)
        loop: Worker[int, Repeated] = Worker("in process", functools.partial(InProcess, folder), measured)
        asks = {INSIDE: stack.enter_context(loop)}
        for way, address in ((THROUGH, server.address), (BARE, stack.enter_context(bare)(None))):
            asks[way] = stack.enter_context(Worker(way, functools.partial(OneByOne, address, SHORT_TEXT), driver))
        for ask in asks.values():
            ask(calls)
        runs = [{way: ask(calls) for way, ask in asks.items()} for _ in range(plan.sizes.rounds)]
    for way in (THROUGH, BARE, INSIDE):
        milliseconds = [1e3 * second for run in runs for second in run[way].seconds]
        section.figures.append(Figure.of(f"{way}, {name}", milliseconds, "ms"))
    for way, goal in ((THROUGH, GOAL), (BARE, None)):
        more = [1e3 * (statistics.median(run[way].seconds) - statistics.median(run[INSIDE].seconds)) for run in runs]
        section.figures.append(Figure.of(f"{way} - {INSIDE}, medians of each round, {name}", more, "ms", goal))
    steps = ", ".join(f"{repeated.steps} {way}" for way, repeated in runs[0].items())
    section.notes.append(f"Decoder steps, {name}: {steps}.")
