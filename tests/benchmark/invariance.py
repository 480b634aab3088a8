"""A request's translation does not depend on who shares its batch: alone, in full batches, among random arrivals."""

import functools
from collections.abc import Sequence
from pathlib import Path

from export import onnx_decoding
from service import bundle
from service.engine.session import OnnxModel
from tests.benchmark.differences import Difference, Reference, compare, identical, largest_margin
from tests.benchmark.load import Load, Order, Translated
from tests.benchmark.offline import vocabularies_of
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.stepping import ARRIVALS, HandDecoder
from tests.benchmark.workers import Worker, processors

GOAL = Goal("<", 1e-3)
IN_FLIGHT = {"alone": (1, 0.0), "64 in flight": (64, 0.0), "random arrivals": (64, 0.05)}
"""Requests in flight, and the mean pause before each in seconds."""
LISTED = 20


class Bench:
    """One bundle, its sentences, and what each of them is alone."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self.folder = folder
        self.texts = texts
        self.alone: list[Translated] = []

    def differences(self, found: Sequence[Translated]) -> list[Difference]:
        """List the sentences that are other strings than alone, with the margin of a plain loop over one row."""
        chosen = [at for at, (one, other) in enumerate(zip(self.alone, found, strict=True)) if one.text != other.text]
        if not chosen:
            return []
        loaded = bundle.load(self.folder)
        model, vocabularies = OnnxModel.load(loaded, "cpu"), vocabularies_of(self.folder, loaded)
        sources = [self.texts[at] for at in chosen]
        margins = [onnx_decoding.greedy(model, [vocabularies.source_ids(source)])[0].margins for source in sources]
        expected = [Reference(*self.alone[at], values) for at, values in zip(chosen, margins, strict=True)]
        return compare(sources, expected, [found[at].text for at in chosen], [found[at].pieces for at in chosen])


def measure(plan: Plan) -> Section:
    """Decode the same sentences in every arrangement and compare each with the sentence alone."""
    texts = plan.texts(plan.sizes.invariance_sentences)
    note = (
        f"{len(texts)} sentences of test.tsv; every arrangement is compared with the sentence alone in the engine. "
        "Margin: the gap of log-probability between the best token and the next, where a string first differs. "
        "Engine: stepped by hand, so that arrivals repeat; gRPC: a running server."
    )
    section = Section("invariance", [], [note])
    for folder in plan.bundles:
        _measure_bundle(plan, Bench(folder, texts), section)
    return section


def _measure_bundle(plan: Plan, bench: Bench, section: Section) -> None:
    name = label(bundle.read_manifest(bench.folder))
    measured, driver = processors()
    with Worker("engine", functools.partial(HandDecoder, bench.folder, bench.texts), measured) as engine:
        plan.say(f"invariance: engine, alone, {name}")
        bench.alone = engine("alone")
        for arrivals in list(ARRIVALS)[1:]:
            plan.say(f"invariance: engine, {arrivals}, {name}")
            _add(section, f"engine, {arrivals}", name, bench.differences(engine(arrivals)), len(bench.texts))
    with Server(bench.folder, measured, "--threads", "1") as server, Worker("load", Load, driver) as load:
        for arrangement, (in_flight, pause) in IN_FLIGHT.items():
            plan.say(f"invariance: gRPC, {arrangement}, {name}")
            answers = load(Order(server.address, bench.texts, in_flight, pause)).translated
            _add(section, f"gRPC, {arrangement}", name, bench.differences(answers), len(bench.texts))


def _add(section: Section, what: str, precision: str, differences: list[Difference], total: int) -> None:
    goal = GOAL if precision == "fp32" else None
    what = f"{what}, {precision}"
    section.figures.append(identical(f"{what}, same strings", differences, total, None))
    section.figures.append(largest_margin(f"{what}, largest margin at a first difference", differences, goal))
    section.notes += [f"{what}: {difference}" for difference in differences[:LISTED]]
