"""One engine with several threads against several workers with one thread each, on the same processors."""

import functools
import os
import re
from contextlib import ExitStack
from pathlib import Path

from tests.benchmark.load import Load, Order, Run
from tests.benchmark.plan import Plan
from tests.benchmark.report import Figure, Section, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker

IN_FLIGHT, CONNECTIONS = 64, 16
WARM_UP = 64


def measure(plan: Plan) -> Section:
    """Run all contenders in turn, round after round."""
    processors = len(os.sched_getaffinity(0))
    one_each = f"{processors} workers, 1 thread each"
    contenders = {
        "1 process, 1 thread": ("--threads", "1"),
        f"1 process, {processors} threads": ("--threads", str(processors)),
        one_each: ("--workers", str(processors), "--threads", "1"),
    }
    texts = plan.texts(plan.sizes.decoding_sentences)
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        load = stack.enter_context(Worker("load", Load, None))
        servers = {}
        for name, options in contenders.items():
            plan.say(f"workers: starting {name}")
            servers[name] = stack.enter_context(Server(plan.bundles[0], None, *options))
        order = functools.partial(Order, in_flight=IN_FLIGHT, connections=CONNECTIONS)
        for server in servers.values():
            load(order(server.address, texts[:WARM_UP]))
        for number in range(plan.sizes.rounds):
            for name, server in servers.items():
                plan.say(f"workers: round {number + 1} of {plan.sizes.rounds}, {name}")
                runs[name].append(load(order(server.address, texts)))
        memory = {name: _resident_mb(server.pid) for name, server in servers.items()}
    figures = [*_figures(runs, one_each), *(Figure(f"resident, {name}", size, "MB") for name, size in memory.items())]
    notes = [
        f"{len(texts)} sentences of test.tsv a round, {IN_FLIGHT} in flight over {CONNECTIONS} connections, in turn.",
        f"Servers and load share {processors} processors: the load takes its part of them from every contender.",
        "Resident memory in 10^6 bytes at the end, all processes of a server added up, shared pages counted in each.",
    ]
    return Section("workers", figures, notes)


def _figures(runs: dict[str, list[Run]], one_each: str) -> list[Figure]:
    rates = {name: [run.tokens / run.seconds for run in found] for name, found in runs.items()}
    figures = [
        Figure.of(name, [len(run.translated) / run.seconds for run in found], "sentences/s")
        for name, found in runs.items()
    ]
    others = (name for name in rates if name != one_each)
    return figures + [Figure.of(f"{one_each} / {name}", ratios(rates[one_each], rates[name]), "x") for name in others]


def _resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children in MB, 10^6 bytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{one}/status").read_text()) for one in (pid, *children)]
    return sum(int(one.group(1)) * 1024 / 1e6 for one in found if one)
