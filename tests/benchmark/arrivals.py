"""Texts that arrive at random: continuous batching against static batches of whole requests."""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from service import bundle
from tests.benchmark import peer
from tests.benchmark.arriving import Arrivals, Arriving, Outcome, Target
from tests.benchmark.offline import vocabularies_of
from tests.benchmark.plan import Plan, Sizes, label
from tests.benchmark.report import Figure, Goal, Section, percentile, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

SERVICE, PEER = "service", "LitServe"
IN_FLIGHT = 64
"""What finds the capacity: two batches of the peer, so that the next is always ready."""
SHARE = 0.7
"""Of the capacity."""
SLOWDOWN = 5
HIGHEST = 1.5
"""Times the capacity: where the search begins; few seconds above the capacity can be survived."""
GOAL = Goal(">=", 2)
PARAGRAPH = 5
"""Sentences in a row, decoded as one text."""
EVERY = 10
"""One text of so many is a paragraph, where there are any."""

Ask = Callable[[Arrivals], Outcome]


class Bisection:
    """Halves the rates between the highest that was kept and the lowest that was not."""

    def __init__(self, highest: float) -> None:
        self.kept = 0.0
        self._lost = highest

    @property
    def rate(self) -> float:
        """The rate to try next."""
        return (self.kept + self._lost) / 2

    def judge(self, *, kept: bool) -> None:
        """Note what became of that rate."""
        if kept:
            self.kept = self.rate
        else:
            self._lost = self.rate


class Measured(NamedTuple):
    """One server in one round: seconds, and texts per second."""

    unloaded: list[float]
    capacity: float
    at_share: list[float]
    """Latencies at the share of its own capacity."""
    at_same: list[float]
    """Latencies at that share of the smaller capacity."""
    sustained: float
    """The highest rate that kept the bound."""


Mix = Callable[[Sequence[str], Callable[[str], bool]], Sequence[str]]


def with_paragraphs(sentences: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """Put several sentences in the place of every tenth, as many as fit: lengths are mixed as people mix them."""
    mixed = list(sentences)
    for place in range(0, len(mixed), EVERY):
        for end in range(place + 2, place + PARAGRAPH + 1):
            if fits(longer := " ".join(sentences[place:end])):
                mixed[place] = longer
    return mixed


MIXES: dict[str, Mix] = {
    "sentences": lambda sentences, fits: sentences,
    "sentences and paragraphs": with_paragraphs,
}
"""What arrives."""


def measure(plan: Plan) -> Section:
    """Let the same texts arrive at both servers, in turn."""
    section = Section("arrivals", [], _notes(plan.sizes))
    reason = peer.missing(peer.LITSERVE.package)
    if reason is None:
        versions = ", ".join(f"{name} {version(name)}" for name in ("litserve", "fastapi", "uvicorn"))
        section.notes.append(f"Peer: {versions}; the versions of ONNX Runtime and Python are those above.")
    else:
        section.notes.append(f"Measured without a peer: {reason}")
    for folder in plan.bundles:
        _measure_bundle(plan, folder, section, with_peer=reason is None)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section, *, with_peer: bool) -> None:
    measured, driver = processors()
    loaded = bundle.load(folder)
    name = label(loaded.manifest)
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder, measured, "--threads", "1"))
        targets = {SERVICE: Target("grpc", server.address)}
        if with_peer:
            plan.say(f"arrivals: starting LitServe, {name}")
            address = stack.enter_context(peer.Peer(peer.LITSERVE, ["onnxruntime", str(folder)], measured)).address
            targets[PEER] = Target("http", address)
        vocabularies, longest = vocabularies_of(folder, loaded), loaded.manifest.decoding.max_source_tokens
        for mix, mixed in MIXES.items():
            texts = mixed(plan.texts(plan.sizes.sentences), lambda text: len(vocabularies.source_ids(text)) <= longest)
            with ExitStack() as workers:
                asks: dict[str, Ask] = {}
                for contender, target in targets.items():
                    build = functools.partial(Arriving, target, texts)
                    asks[contender] = workers.enter_context(Worker(contender, build, driver))
                    asks[contender](Arrivals(IN_FLIGHT, float("inf"), 0, IN_FLIGHT))
                _contest(plan, asks, f"{name}, {mix}", section)


def _contest(plan: Plan, asks: dict[str, Ask], what: str, section: Section) -> None:
    """Measure the servers with one mix of texts, in turn."""
    rounds = []
    for number in range(plan.sizes.arrival_rounds):
        plan.say(f"arrivals: round {number + 1} of {plan.sizes.arrival_rounds}, {what}")
        rounds.append(_round(plan, asks, number + 1))
    for contender in asks:
        section.figures += _figures(f"{contender}, {what}", [found[contender] for found in rounds])
    if len(asks) > 1:
        ours, theirs = ([found[contender].sustained for found in rounds] for contender in asks)
        section.figures.append(Figure.of(f"highest rate, {SERVICE} / {PEER}, {what}", ratios(ours, theirs), "x", GOAL))


def _round(plan: Plan, asks: dict[str, Ask], seed: int) -> dict[str, Measured]:
    """Measure everything once; both servers get the same arrivals."""
    sizes = plan.sizes
    unloaded = {name: ask(Arrivals(sizes.unloaded_texts, 1e9, seed, 1)).latencies for name, ask in asks.items()}
    full = {name: ask(Arrivals(sizes.capacity_texts, 1e9, seed, IN_FLIGHT)) for name, ask in asks.items()}
    capacity = {name: len(found.latencies) / found.seconds for name, found in full.items()}
    plan.say("arrivals: " + ", ".join(f"{name} {rate:.0f} texts/s" for name, rate in capacity.items()))
    smallest = min(capacity.values())
    at_same = {name: ask(_lot(sizes, SHARE * smallest, seed)).latencies for name, ask in asks.items()}
    at_share = {
        name: at_same[name] if capacity[name] == smallest else ask(_lot(sizes, SHARE * capacity[name], seed)).latencies
        for name, ask in asks.items()
    }
    bound = SLOWDOWN * max(percentile(seconds, 0.99) for seconds in unloaded.values())
    sustained = highest_rates(sizes, asks, capacity, seed, bound)
    return {
        name: Measured(unloaded[name], capacity[name], at_share[name], at_same[name], sustained[name]) for name in asks
    }


def highest_rates(
    sizes: Sizes, asks: dict[str, Ask], capacity: dict[str, float], seed: int, bound: float
) -> dict[str, float]:
    """Return the highest rate of each server at which the 99th percentile is within the bound, in seconds."""
    searches = {name: Bisection(HIGHEST * capacity[name]) for name in asks}
    for number in range(sizes.probes):
        for name, ask in asks.items():
            rate = searches[name].rate
            kept = ask(_lot(sizes, rate, 100 * seed + number, bound)).kept
            ask(Arrivals(1, 1e9, seed, 1))  # answered when what was called off is out of the way
            searches[name].judge(kept=kept)
    return {name: search.kept or search.rate for name, search in searches.items()}


def _lot(sizes: Sizes, rate: float, seed: int, bound: float = float("inf")) -> Arrivals:
    """Return some seconds of arrivals, or as many as a 99th percentile needs."""
    return Arrivals(max(sizes.probe_texts, round(rate * sizes.probe_seconds)), rate, seed, None, bound)


def _figures(contender: str, rounds: Sequence[Measured]) -> list[Figure]:
    part = f"{100 * SHARE:.0f} %"
    lots = {
        "without load": [found.unloaded for found in rounds],
        f"at {part} of its capacity": [found.at_share for found in rounds],
        f"at {part} of the smaller capacity": [found.at_same for found in rounds],
    }
    figures = [Figure.of(f"{contender}, capacity", [found.capacity for found in rounds], "texts/s")]
    for load, found in lots.items():
        for share in (0.5, 0.99):
            milliseconds = [1e3 * percentile(seconds, share) for seconds in found]
            figures.append(Figure.of(f"{contender}, {load}, p{100 * share:g}", milliseconds, "ms"))
    return [*figures, Figure.of(f"{contender}, highest rate", [found.sustained for found in rounds], "texts/s")]


def _notes(sizes: Sizes) -> list[str]:
    servers = (
        "Single texts, drawn at random: sentences of test.tsv, or those and paragraphs, where every tenth text is up "
        f"to {PARAGRAPH} sentences in a row, decoded as one. Each server has one processor and one thread of ONNX "
        "Runtime, the load another one. The peer batches up to 32 requests over HTTP and runs each batch until its "
        f"longest text has ended. Capacity: {IN_FLIGHT} in flight."
    )
    arrivals = (
        "Arrivals are a Poisson process, seeded, the same for both; latency counts from the moment of arrival, "
        "whether or not the client could send then."
    )
    bound = (
        f"The highest rate is the one whose 99th percentile is within {SLOWDOWN} times that of the slower server "
        f"without load, found by bisection, {sizes.probes} rates of {sizes.probe_seconds:g} s, the two servers in turn."
    )
    return [servers, arrivals, bound]
