"""Served: texts that arrive at random, at the service and at CTranslate2 behind dynamic batching."""

import functools
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark import peer
from tests.benchmark.arrivals import GOAL, IN_FLIGHT, SLOWDOWN, Ask, highest_rates
from tests.benchmark.arriving import Arrivals, Arriving, Target
from tests.benchmark.ctranslate2_folder import converted, hindrance
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Section, percentile, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

PEERS = (peer.MOSEC, peer.LITSERVE)
PACKAGES = ("ctranslate2", "mosec", "litserve")
SERVICE = "service"


def measure(plan: Plan) -> Section:
    """Let the same texts arrive at the service and at the faster one of the peers."""
    section = Section("ctranslate2 served", [], _notes(plan))
    if reason := hindrance(plan, *PACKAGES):
        section.notes.append(f"Not measured: {reason}.")
        return section
    section.notes.append("Peers: " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".")
    for folder in plan.bundles:
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name = label(read_manifest(folder))
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder, measured, "--threads", "1"))
        targets = {SERVICE: Target("grpc", server.address)}
        model = converted(plan.checkpoint, Path(stack.enter_context(tempfile.TemporaryDirectory())), name)
        for kind in PEERS:
            plan.say(f"ctranslate2 served: starting {kind.name}, {name}")
            started = stack.enter_context(peer.Peer(kind, ["ctranslate2", str(folder), str(model)], measured))
            targets[f"CTranslate2 behind {kind.name}"] = Target("http", started.address)
        asks: dict[str, Ask] = {}
        for contender, target in targets.items():
            build = functools.partial(Arriving, target, plan.texts(plan.sizes.sentences))
            asks[contender] = stack.enter_context(Worker(contender, build, driver))
            asks[contender](Arrivals(2 * IN_FLIGHT, 1e9, 0, IN_FLIGHT))
        _contest(plan, asks, name, section)


def _contest(plan: Plan, asks: dict[str, Ask], name: str, section: Section) -> None:
    """Find out which peer is the faster one, then how many texts a second it and the service bear."""
    sizes = plan.sizes
    capacities: dict[str, list[float]] = {contender: [] for contender in asks}
    for number in range(sizes.served_rounds):
        for contender, ask in asks.items():
            found = ask(Arrivals(sizes.capacity_texts // 2, 1e9, number, IN_FLIGHT))
            capacities[contender].append(len(found.latencies) / found.seconds)
    section.figures += [
        Figure.of(f"{contender}, {name}, capacity", rates, "texts/s") for contender, rates in capacities.items()
    ]
    fastest = max((contender for contender in asks if contender != SERVICE), key=lambda one: max(capacities[one]))
    pair = {contender: asks[contender] for contender in (SERVICE, fastest)}
    calm: dict[str, list[float]] = {contender: [] for contender in pair}
    borne: dict[str, list[float]] = {contender: [] for contender in pair}
    for number in range(sizes.served_rounds):
        plan.say(f"ctranslate2 served: round {number + 1} of {sizes.served_rounds}, {name}")
        for contender, ask in pair.items():
            unloaded = ask(Arrivals(sizes.unloaded_texts, 1e9, number, 1)).latencies
            calm[contender].append(percentile(unloaded, 0.99))
        bound = SLOWDOWN * max(seconds[-1] for seconds in calm.values())
        highest = {contender: max(capacities[contender]) for contender in pair}
        for contender, rate in highest_rates(sizes, pair, highest, number + 1, bound).items():
            borne[contender].append(rate)
    for contender in pair:
        milliseconds = [1e3 * seconds for seconds in calm[contender]]
        section.figures.append(Figure.of(f"{contender}, {name}, without load, p99", milliseconds, "ms"))
        section.figures.append(Figure.of(f"{contender}, {name}, highest rate", borne[contender], "texts/s"))
    what = f"highest rate, service / {fastest}, {name}"
    section.figures.append(Figure.of(what, ratios(borne[SERVICE], borne[fastest]), "x", GOAL))


def _notes(plan: Plan) -> list[str]:
    servers = (
        "Single texts of test.tsv, drawn at random, decoded greedily. Each server has one processor and one thread, "
        "the load another one. The peers batch up to 32 requests over HTTP, wait 2 ms for company, and let CTranslate2 "
        f"decode a batch at a time. Capacity: {IN_FLIGHT} in flight; the peer with the larger one goes on."
    )
    arrivals = (
        "Arrivals are a Poisson process, the same for both; latency counts from the moment of arrival. The highest "
        f"rate is the one whose 99th percentile is within {SLOWDOWN} times that of the slower server without load, "
        f"found by bisection, {plan.sizes.probes} rates of {plan.sizes.probe_seconds:g} s, the two in turn."
    )
    return [servers, arrivals]
