"""What all metrics cost: the same server with and without them, in turn."""

import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.benchmark.load import Load, Order, Run
from tests.benchmark.plan import Plan
from tests.benchmark.report import Figure, Goal, Section, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

IN_FLIGHT = 64
TURNS = 4
"""Comparisons in each round, with a quarter of the sentences: many short ones, so that what disturbs hits both."""
COUNTING, SILENT = "with metrics", "without"
MODULES = {COUNTING: "service.cli", SILENT: "tests.benchmark.silent"}
GOAL = Goal(">=", 0.98)


class Taken(NamedTuple):
    """Of one run: sentences per second, and per second of the server's processor time."""

    rate: float
    per_cpu: float


def measure(plan: Plan) -> Section:
    """Let both servers translate the same sentences, in changing order; the page is asked for once a turn."""
    measured, driver = processors()
    taken: dict[str, list[Taken]] = {name: [] for name in MODULES}
    texts = plan.texts(max(8, plan.sizes.sentences // TURNS))
    with ExitStack() as stack:
        load = stack.enter_context(Worker("load", Load, driver))
        servers = {
            name: stack.enter_context(
                Server(plan.bundles[0], measured, "--threads", "1", "--stall-seconds", "0", module=module)
            )
            for name, module in MODULES.items()
        }
        for server in servers.values():
            _run(load, server, texts)
        for number in range(plan.sizes.rounds * TURNS):
            plan.say(f"metrics: turn {number + 1} of {plan.sizes.rounds * TURNS}")
            for name, server in sorted(servers.items(), reverse=bool(number % 2)):
                taken[name].append(_run(load, server, texts))
    return Section("metrics", _figures(taken), _notes(plan, len(texts)))


def _run(load: Worker[Order, Run], server: Server, texts: Sequence[str]) -> Taken:
    before = server.cpu_seconds()
    with urllib.request.urlopen(server.metrics_url, timeout=10.0) as page:  # noqa: S310  our own address
        page.read()
    run = load(Order(server.address, texts, IN_FLIGHT))
    return Taken(len(texts) / run.seconds, len(texts) / max(1e-3, server.cpu_seconds() - before))


def _figures(taken: dict[str, list[Taken]]) -> list[Figure]:
    figures = [
        Figure.of(f"service {name}", [one.rate for one in found], "sentences/s") for name, found in taken.items()
    ]
    ours, theirs = taken[COUNTING], taken[SILENT]
    rates = ratios([one.rate for one in ours], [one.rate for one in theirs])
    per_cpu = ratios([one.per_cpu for one in ours], [one.per_cpu for one in theirs])
    return [
        *figures,
        Figure.of("throughput with / without", rates, "x", GOAL),
        Figure.of("sentences per processor second with / without", per_cpu, "x", GOAL),
    ]


def _notes(plan: Plan, sentences: int) -> list[str]:
    return [
        f"{sentences} sentences of test.tsv a turn, {plan.sizes.rounds * TURNS} turns, {IN_FLIGHT} requests in flight.",
        "Without: a server whose counters, histograms and observers do nothing. Both write their log.",
        "The page of metrics is read once a turn, a few times as often as Prometheus does.",
    ]
