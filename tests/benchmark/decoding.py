"""What wider beams, attention and streams cost, at 1, 8, 32 and 64 sentences in flight."""

from collections.abc import Sequence
from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark.load import Load, Order, Run
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section, percentile, ratios
from tests.benchmark.serving import Server
from tests.benchmark.streaming import Streamed, StreamLoad
from tests.benchmark.workers import Worker, processors

IN_FLIGHT = (1, 8, 32, 64)
ATTENTION_IN_FLIGHT = (1, 64)
BEAM = 4
BEAM_GOAL = Goal(">=", 0.5)
ATTENTION_GOAL = Goal("<=", 5)


class Rounds:
    """What alternates: greedy, a beam and attention at each number of sentences in flight, then streams."""

    def __init__(self, plan: Plan, address: str, load: Worker[Order, Run], streams: Worker[Order, Streamed]) -> None:
        self._plan = plan
        self._address = address
        self._load = load
        self._streams = streams
        self.greedy: dict[int, list[float]] = {number: [] for number in IN_FLIGHT}
        """Target tokens per second of each round, by the number of sentences in flight."""
        self.beam: dict[int, list[float]] = {number: [] for number in IN_FLIGHT}
        self.attention: dict[int, list[float]] = {number: [] for number in ATTENTION_IN_FLIGHT}
        self.streamed: dict[int, list[Streamed]] = {number: [] for number in IN_FLIGHT}

    def warm_up(self) -> None:
        """Let the server and the load meet every kind of request."""
        for beam_size in (1, BEAM):
            self._load(self._order(max(IN_FLIGHT), beam_size, attention=beam_size > 1))
        self._streams(self._order(max(IN_FLIGHT)))

    def run(self) -> None:
        """Measure everything once."""
        for number in IN_FLIGHT:
            self.greedy[number].append(self._rate(self._order(number)))
            self.beam[number].append(self._rate(self._order(number, BEAM)))
            if number in self.attention:
                self.attention[number].append(self._rate(self._order(number, attention=True)))
            self.streamed[number].append(self._streams(self._order(number)))

    def _rate(self, order: Order) -> float:
        run = self._load(order)
        return run.tokens / run.seconds

    def _order(self, in_flight: int, beam_size: int = 1, *, attention: bool = False) -> Order:
        texts = self._plan.texts(min(self._plan.sizes.decoding_sentences, 60 + 20 * in_flight))
        return Order(self._address, texts, in_flight, beam_size=beam_size, attention=attention)


def measure(plan: Plan) -> Section:
    """Ask one server for all of it, in turn."""
    sizes = plan.sizes
    load = (
        f"Up to {sizes.decoding_sentences} sentences of test.tsv for each figure of a round, {sizes.rounds} rounds. "
        "The server runs on one processor, one thread; the load on another."
    )
    rows = (
        f"The batch has {BEAM * max(IN_FLIGHT)} rows, so that as many beams of {BEAM} run as sentences are in flight. "
        "Tokens are those of the best hypothesis."
    )
    streams = (
        "Streams are timed by the client: from the request to the first piece of text, and from piece to piece. A "
        "piece comes when its text is final, so now and then it is of two tokens."
    )
    section = Section("decoding", [], [load, rows, streams])
    for folder in plan.bundles:
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name, rows = label(read_manifest(folder)), str(BEAM * max(IN_FLIGHT))
    with (
        Server(folder, measured, "--threads", "1", "--max-rows", rows) as server,
        Worker("load", Load, driver) as load,
        Worker("streams", StreamLoad, driver) as streams,
    ):
        rounds = Rounds(plan, server.address, load, streams)
        plan.say(f"decoding: warming up {name}")
        rounds.warm_up()
        for number in range(plan.sizes.rounds):
            plan.say(f"decoding: round {number + 1} of {plan.sizes.rounds}, {name}")
            rounds.run()
    for number in IN_FLIGHT:
        section.figures += _figures(rounds, number, f"{number} in flight, {name}")


def _figures(rounds: Rounds, number: int, what: str) -> list[Figure]:
    greedy, beam = rounds.greedy[number], rounds.beam[number]
    figures = [
        Figure.of(f"{what}, greedy", greedy, "target tokens/s"),
        Figure.of(f"{what}, beam of {BEAM}", beam, "target tokens/s"),
        Figure.of(f"{what}, beam of {BEAM} / greedy", ratios(beam, greedy), "x", BEAM_GOAL),
    ]
    if number in rounds.attention:
        costs = [100 * (ratio - 1) for ratio in ratios(greedy, rounds.attention[number])]
        figures.append(Figure.of(f"{what}, cost of attention", costs, "%", ATTENTION_GOAL))
    streamed = rounds.streamed[number]
    figures += _spread(f"{what}, time to first token", [one.first for one in streamed])
    figures += _spread(f"{what}, inter-token latency", [one.gaps for one in streamed])
    return figures


def _spread(name: str, rounds: Sequence[Sequence[float]]) -> list[Figure]:
    """Return median and 99th percentile of the seconds of each round."""
    return [
        Figure.of(f"{name}, p{100 * share:g}", [1e3 * percentile(seconds, share) for seconds in rounds], "ms")
        for share in (0.5, 0.99)
    ]
