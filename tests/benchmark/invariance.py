"""A request's translation does not depend on who shares its batch: alone, in full batches, among random arrivals."""

import functools
from collections.abc import Sequence
from pathlib import Path

from export import onnx_decoding
from service import bundle
from service.engine.session import OnnxModel
from tests.benchmark.differences import Difference, Reference, compare, identical, largest_margin
from tests.benchmark.load import Load, Order
from tests.benchmark.offline import vocabularies_of
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.stepping import Arrivals, alone, at_random, batches, decode
from tests.benchmark.workers import Worker, processors

GOAL = Goal("<", 1e-3)
ROWS = 64
ARRIVALS: dict[str, Arrivals] = {
    "alone": alone,
    "full batches": batches(ROWS),
    "random arrivals": at_random(2.0, seed=17),
    "random arrivals again": at_random(0.3, seed=18),
}
IN_FLIGHT = {"alone": (1, 0.0), "64 in flight": (ROWS, 0.0), "random arrivals": (ROWS, 0.05)}
"""Requests in flight, and the mean pause before each in seconds."""
LISTED = 20


class HandDecoder:
    """Decodes sentences by the real engine, as they arrive; and, for `None`, alone and with margins."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        loaded = bundle.load(folder)
        self._model = OnnxModel.load(loaded, "cpu")
        self._vocabularies = vocabularies_of(folder, loaded)
        self._sources = [self._vocabularies.source_ids(text) for text in texts]

    def __call__(self, arrivals: str | None) -> list[Reference]:
        """Decode all sentences; what has no margins was decoded by the engine, which keeps none."""
        if arrivals is None:
            found = [onnx_decoding.greedy(self._model, [source])[0] for source in self._sources]
            return [self._reference(output.target_ids, output.margins) for output in found]
        outputs = decode(self._model, self._sources, ARRIVALS[arrivals])
        return [self._reference(output.hypotheses[0].token_ids, ()) for output in outputs]

    def _reference(self, ids: Sequence[int], margins: Sequence[float]) -> Reference:
        vocabularies = self._vocabularies
        pieces = [vocabularies.target.id_to_piece(token) for token in ids]
        return Reference(vocabularies.target_text(ids), pieces, margins)


def measure(plan: Plan) -> Section:
    """Decode the same sentences in every arrangement and compare each with the sentence alone."""
    count = plan.sizes.invariance_sentences
    note = (
        f"{count} sentences of test.tsv; each arrangement is compared with the plain loop over one row, whose margins "
        "(the gap of log-probability between the best token and the next) are given where a string first differs. "
        "Engine: stepped by hand, so that arrivals repeat; gRPC: a running server."
    )
    section = Section("invariance", [], [note])
    for folder in plan.bundles:
        _measure_bundle(plan, folder, plan.texts(count), section)
    return section


def _measure_bundle(plan: Plan, folder: Path, texts: list[str], section: Section) -> None:
    name = label(bundle.read_manifest(folder))
    measured, driver = processors()
    with Worker("engine", functools.partial(HandDecoder, folder, texts), measured) as engine:
        plan.say(f"invariance: a plain loop, {name}")
        expected = engine(None)
        for arrivals in ARRIVALS:
            plan.say(f"invariance: engine, {arrivals}, {name}")
            found = engine(arrivals)
            differences = compare(texts, expected, [one.text for one in found], [one.tokens for one in found])
            _add(section, f"engine, {arrivals}", name, differences, len(texts))
    with Server(folder, measured, "--threads", "1") as server, Worker("load", Load, driver) as load:
        for arrangement, (in_flight, pause) in IN_FLIGHT.items():
            plan.say(f"invariance: gRPC, {arrangement}, {name}")
            answers = load(Order(server.address, texts, in_flight, pause)).translated
            differences = compare(texts, expected, [one.text for one in answers], [one.pieces for one in answers])
            _add(section, f"gRPC, {arrangement}", name, differences, len(texts))


def _add(section: Section, what: str, precision: str, differences: list[Difference], total: int) -> None:
    goal = GOAL if precision == "fp32" else None
    what = f"{what}, {precision}"
    section.figures.append(identical(f"{what}, same strings", differences, total, None))
    section.figures.append(largest_margin(f"{what}, largest margin at a first difference", differences, goal))
    section.notes += [f"{what}: {difference}" for difference in differences[:LISTED]]
