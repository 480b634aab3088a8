"""How long single requests take beside another client's ten thousand texts."""

import functools
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.bundle import read_manifest
from tests.benchmark.load import TIMEOUT_SECONDS, whole_texts
from tests.benchmark.plan import Plan, Sizes, label
from tests.benchmark.report import Figure, Goal, Section, percentile
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

SETTLE_SECONDS = 1.0
REQUESTS = 10
SPARE = 1000
"""Texts that may wait beside the crowd's."""
GOAL = Goal("<", 3)
ALONE, BESIDE, FIRST = "without the crowd", "beside the crowd", "beside the crowd, with high priority"


class Crowd:
    """One client that sends large requests at once, and cancels what is left of them when it leaves."""

    def __init__(self, address: str, texts: Sequence[str], size: int) -> None:
        self._address = address
        self._texts = texts
        self._size = size
        self._channel: grpc.Channel | None = None
        self._calls: list[grpc.Future[pb.TranslateResponse]] = []

    def __call__(self, comes: bool) -> int:
        """Come or leave; return how many requests had ended by themselves."""
        if comes:
            self._channel = grpc.insecure_channel(self._address)
            translate = translation_pb2_grpc.TranslationServiceStub(self._channel).Translate
            texts = list(itertools.islice(itertools.cycle(self._texts), self._size))
            request = pb.TranslateRequest(texts=texts, options=whole_texts())
            self._calls = [translate.future(request) for _ in range(REQUESTS)]
            return 0
        ended = sum(call.done() for call in self._calls)
        for call in self._calls:
            call.cancel()
        if self._channel is not None:
            self._channel.close()
        return ended


class Took(NamedTuple):
    """Seconds of one call, and those of them that it waited for a row."""

    seconds: float
    queue: float


class Singles:
    """Another client: single texts of all kinds, one after the other."""

    def __init__(self, address: str, texts: Sequence[str]) -> None:
        self._translate = translation_pb2_grpc.TranslationServiceStub(grpc.insecure_channel(address)).Translate
        self._options = whole_texts()
        self._texts = texts

    def __call__(self, priority: pb.Priority) -> list[Took]:
        """Time a call for each text."""
        took = []
        for text in self._texts:
            request = pb.TranslateRequest(texts=[text], options=self._options, priority=priority)
            started = time.perf_counter()
            queue = self._translate(request, timeout=TIMEOUT_SECONDS).timing.queue
            took.append(Took(time.perf_counter() - started, queue.seconds + 1e-9 * queue.nanos))
        return took


def measure(plan: Plan) -> Section:
    """Time the single ones in each situation, in turn."""
    sizes = plan.sizes
    note = (
        f"The crowd: {REQUESTS} requests of {sizes.crowd_texts} texts each, sent at once over one connection; their "
        f"arrival is part of what is timed. Beside it, {sizes.crowd_calls} texts of test.tsv over another connection, "
        f"one after the other; {sizes.rounds} rounds, percentiles over all of them. A full batch's steps are longer "
        "than those of a text that is alone; waiting is the time before a text joins it."
    )
    section = Section("fairness", [], [note])
    for folder in plan.bundles:
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name, sizes = label(read_manifest(folder)), plan.sizes
    took: dict[str, list[Took]] = {ALONE: [], BESIDE: [], FIRST: []}
    with (
        Server(folder, measured, *_options(sizes)) as server,
        Worker("crowd", functools.partial(_crowd, server.address, plan), driver) as crowd,
        Worker("singles", functools.partial(Singles, server.address, plan.texts(sizes.crowd_calls)), driver) as singles,
    ):
        singles(pb.PRIORITY_NORMAL)
        ended = 0
        for number in range(sizes.rounds):
            plan.say(f"fairness: round {number + 1} of {sizes.rounds}, {name}")
            took[ALONE] += singles(pb.PRIORITY_NORMAL)
            for situation, priority in ((BESIDE, pb.PRIORITY_NORMAL), (FIRST, pb.PRIORITY_HIGH)):
                crowd(True)  # noqa: FBT003
                took[situation] += singles(priority)
                ended += crowd(False)  # noqa: FBT003
                time.sleep(SETTLE_SECONDS)  # until the last of its texts has gone
    section.figures += _figures(took, name)
    section.notes.append(f"{name}: {ended} of {2 * sizes.rounds * REQUESTS} requests of the crowd ended meanwhile.")


def _crowd(address: str, plan: Plan) -> Crowd:
    return Crowd(address, plan.texts(plan.sizes.crowd_texts), plan.sizes.crowd_texts)


def _options(sizes: Sizes) -> list[str]:
    waiting = REQUESTS * sizes.crowd_texts + SPARE
    return ["--threads", "1", "--max-texts-per-request", str(sizes.crowd_texts), "--max-waiting", str(waiting)]


def _figures(took: dict[str, list[Took]], name: str) -> list[Figure]:
    figures = []
    for situation, calls in took.items():
        for share in (0.5, 0.99):
            rank = f"p{100 * share:g}, {name}"
            seconds = percentile([call.seconds for call in calls], share)
            queue = percentile([call.queue for call in calls], share)
            figures.append(Figure(f"{situation}, {rank}", 1e3 * seconds, "ms"))
            figures.append(Figure(f"{situation}, waiting, {rank}", 1e3 * queue, "ms"))
    alone = percentile([call.seconds for call in took[ALONE]], 0.99)
    for situation in (BESIDE, FIRST):
        ratio = percentile([call.seconds for call in took[situation]], 0.99) / alone
        figures.append(Figure(f"p99 {situation} / without, {name}", ratio, "x", goal=GOAL))
    return figures
