"""What is left in the server of two thousand clients that vanish at random moments."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.bundle import read_manifest
from tests.benchmark.decoding import BEAM
from tests.benchmark.load import TIMEOUT_SECONDS, whole_texts
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.storming import LANES, Passed, Storm, Vanishing
from tests.benchmark.workers import Worker, processors

MEAN_SECONDS = 0.3
"""Mean time until a call vanishes: less than most take, for the batch is full."""
FULL_SECONDS = 0.1
"""Time after which all calls vanish at once: the batch is full then, and others wait."""
STORMS = 3
"""The first ones fill the allocators' caches; memory counts from the end of the last but one."""
CAPACITY = 512 + 64
"""Texts that the server admits: those that wait and those that run."""
PATIENCE = 30.0
"""Seconds that the server gets to come to rest."""
RATE_GOAL = Goal(">=", 100)
GROWTH_GOAL = Goal("<=", 5)


def measure(plan: Plan) -> Section:
    """Let storms pass over one server and look at what they leave."""
    calls = plan.sizes.storm_calls
    storms = (
        f"{STORMS} storms of {calls} calls, {LANES} at once: Translate with up to four texts, StreamTranslate and "
        f"TranslateSegments in turn, half of them with a beam of {BEAM}. Each vanishes at a random moment, "
        f"{1e3 * MEAN_SECONDS:.0f} ms after its start in the mean; one in ten takes its connection along."
    )
    rest = (
        "At rest: both gauges of /metrics, texts that wait and texts that run, are zero, in at most "
        f"{PATIENCE:.0f} s. Then a request with as many texts as the server admits at all, {CAPACITY}, shows that all "
        f"permits are back. The time to rest is that after {LANES} calls with full rows all vanished at once."
    )
    section = Section("cancel storm", [], [storms, rest])
    for folder in plan.bundles:
        _measure_bundle(plan, folder, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, section: Section) -> None:
    measured, driver = processors()
    name, texts = label(read_manifest(folder)), plan.texts(plan.sizes.sentences)
    passed: list[Passed] = []
    emptied: list[Passed] = []
    resident: list[float] = []
    admitted: list[float] = []
    limits = ("--max-texts-per-request", str(CAPACITY), "--max-waiting", str(CAPACITY - 64), "--max-rows", "64")
    with Server(folder, measured, "--threads", "1", *limits) as server:
        build = functools.partial(Storm, server.address, server.metrics_url, texts, PATIENCE)
        with Worker("storm", build, driver) as storm:
            for number in range(STORMS):
                plan.say(f"cancel storm: {number + 1} of {STORMS}, {name}")
                passed.append(storm(Vanishing(plan.sizes.storm_calls, number, BEAM, MEAN_SECONDS)))
                emptied += [storm(Vanishing(LANES, number, BEAM, 0.0, FULL_SECONDS)) for _ in range(plan.sizes.rounds)]
                admitted.append(100 * _admitted(server.address, texts) / CAPACITY)
                resident.append(server.resident_mb())
    section.figures += [
        Figure(f"storms that left nothing behind, {name}", sum(one.seconds_to_rest < PATIENCE for one in passed), "",
               goal=Goal(">=", STORMS)),
        Figure.of(f"from the end of all calls of a full batch to rest, {name}",
                  [1e3 * one.seconds_to_rest for one in emptied], "ms"),
        Figure(f"of a request that needs every permit, translated, {name}", min(admitted), "%", goal=RATE_GOAL),
        Figure.of(f"resident after a storm, {name}", resident, "MB"),
        Figure(f"growth in the last storm, {name}", resident[-1] - resident[-2], "MB", goal=GROWTH_GOAL),
    ]  # fmt: skip
    section.notes += [f"{name}: {_told(one)}" for one in passed]


def _admitted(address: str, texts: Sequence[str]) -> int:
    """Return how many texts were translated of as many as the server may hold; none where it refused."""
    request = pb.TranslateRequest(texts=itertools.islice(itertools.cycle(texts), CAPACITY), options=whole_texts())
    with grpc.insecure_channel(address) as channel:
        try:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            return len(stub.Translate(request, timeout=TIMEOUT_SECONDS).translations)
        except grpc.RpcError:
            return 0


def _told(passed: Passed) -> str:
    others = "".join(f", {count} {code}" for code, count in passed.codes.items())
    return f"{passed.vanished} vanished, {passed.answered} were answered before{others}."
