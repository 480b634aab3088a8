"""One short sentence alone: what gRPC, the event loop and the engine thread add to decoding it in process."""

import functools
import statistics
from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark.load import OneByOne, Repeated
from tests.benchmark.offline import OnnxBatches, build_onnx
from tests.benchmark.plan import SHORT_TEXT, Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

GOAL = Goal("<=", 1.5)


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
        f"{SHORT_TEXT!r} alone, {plan.sizes.rounds} rounds of {plan.sizes.latency_calls} calls each, in turn, both on "
        "the same processor; the client runs on another."
    )
    section = Section("latency", [], [note])
    for folder in plan.bundles:
        plan.say(f"latency: {folder}")
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name, calls = label(read_manifest(folder)), plan.sizes.latency_calls
    remote: list[Repeated] = []
    local: list[Repeated] = []
    with (
        Server(folder, measured, "--threads", "1") as server,
        Worker("client", functools.partial(OneByOne, server.address, SHORT_TEXT), driver) as client,
        Worker("in process", functools.partial(InProcess, folder), measured) as loop,
    ):
        client(calls)
        loop(calls)
        for _ in range(plan.sizes.rounds):
            remote.append(client(calls))
            local.append(loop(calls))
    grpc, inside = [[1e3 * second for run in runs for second in run.seconds] for runs in (remote, local)]
    differences = [1e3 * (statistics.median(r.seconds) - statistics.median(i.seconds))
                   for r, i in zip(remote, local, strict=True)]  # fmt: skip
    section.figures += [
        Figure.of(f"through gRPC, {name}", grpc, "ms"),
        Figure.of(f"in process, {name}", inside, "ms"),
        Figure.of(f"difference of the medians of each round, {name}", differences, "ms", GOAL),
    ]
    section.notes.append(f"{name}: {remote[0].steps} decoder steps through gRPC, {local[0].steps} in process.")
