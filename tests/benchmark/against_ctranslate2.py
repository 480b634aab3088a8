"""Offline, in process, on one processor: the engine against CTranslate2 with the same checkpoint."""

import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import sacrebleu

from service.bundle import read_manifest
from tests.benchmark.ctranslate2_folder import converted, hindrance
from tests.benchmark.load import Run
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section, ratios
from tests.benchmark.side_by_side import Here, Order, Peer
from tests.benchmark.workers import Worker, processors

BATCHES = (1, 8, 32, 64)
BEAMS = {1: "greedy", 4: "beam of 4"}
MAX_TOKENS = 128
"""Of a translation: one bound for all, since the peer has one for a call."""
LARGE = 32
EVEN, AHEAD = Goal(">=", 1.0), Goal(">=", 1.2)
OURS, THEIRS = "engine", "CTranslate2"


class Case(NamedTuple):
    """What is compared at once."""

    precision: str
    beam_size: int
    batch: int

    def __str__(self) -> str:
        """Name it in the table."""
        return f"{self.precision}, {BEAMS[self.beam_size]}, batch {self.batch}"


class Pair(NamedTuple):
    """Both contenders' runs of a case, round by round."""

    ours: list[Run]
    theirs: list[Run]


def measure(plan: Plan) -> Section:
    """Decode the same sentences with both, in turn."""
    section = Section("ctranslate2", [], _notes(plan))
    if reason := hindrance(plan, "ctranslate2"):
        section.notes.append(f"Not measured: {reason}.")
        return section
    section.notes.append(f"Peer: ctranslate2 {version('ctranslate2')}.")
    for folder in plan.bundles:
        pairs = _run(plan, folder)
        section.figures += itertools.chain.from_iterable(_figures(plan, case, pair) for case, pair in pairs.items())
    return section


def _run(plan: Plan, folder: Path) -> dict[Case, Pair]:
    name, cpus = label(read_manifest(folder)), processors()[0]
    pairs = {Case(name, beam, batch): Pair([], []) for beam in BEAMS for batch in BATCHES}
    texts = plan.texts(plan.sizes.peer_sentences)
    with ExitStack() as stack:
        model = converted(plan.checkpoint, Path(stack.enter_context(tempfile.TemporaryDirectory())), name)
        ours = stack.enter_context(Worker(OURS, functools.partial(Here, folder, texts), cpus))
        theirs = stack.enter_context(Worker(THEIRS, functools.partial(Peer, model, name, folder, texts), cpus))
        for contender, beam in itertools.product((ours, theirs), BEAMS):
            contender(Order(8, beam, MAX_TOKENS, sentences=min(16, len(texts))))
        for number in range(plan.sizes.peer_rounds):
            for case, pair in pairs.items():
                plan.say(f"ctranslate2: round {number + 1} of {plan.sizes.peer_rounds}, {case}")
                order = Order(case.batch, case.beam_size, MAX_TOKENS, sentences=_count(plan, case.batch))
                pair.ours.append(ours(order))
                pair.theirs.append(theirs(order))
    return pairs


def _count(plan: Plan, batch: int) -> int:
    return min(plan.sizes.peer_sentences, 16 + 4 * batch)


def _figures(plan: Plan, case: Case, pair: Pair) -> Iterator[Figure]:
    ours, theirs = _rates(pair.ours), _rates(pair.theirs)
    yield Figure.of(f"{case}, {OURS}", ours, "target tokens/s")
    yield Figure.of(f"{case}, {THEIRS}", theirs, "target tokens/s")
    goal = AHEAD if case.batch >= LARGE else EVEN
    yield Figure.of(f"{case}, {OURS} / {THEIRS}", ratios(ours, theirs), "x", goal)
    for contender, runs in ((OURS, pair.ours), (THEIRS, pair.theirs)):
        rates = [len(run.translated) / run.seconds for run in runs]
        yield Figure.of(f"{case}, {contender}, sentences", rates, "sentences/s")
    if case.batch == max(BATCHES):
        references = [reference for _, reference in plan.pairs()][: _count(plan, case.batch)]
        for contender, run in ((OURS, pair.ours[-1]), (THEIRS, pair.theirs[-1])):
            found = [one.text for one in run.translated]
            yield Figure(f"{case}, {contender}, chrF", sacrebleu.corpus_chrf(found, [references]).score)
        both = zip(pair.ours[-1].translated, pair.theirs[-1].translated, strict=True)
        same = [one.pieces == other.pieces for one, other in both]
        yield Figure(f"{case}, same string", 100 * sum(same) / len(same), "%")


def _rates(runs: Sequence[Run]) -> list[float]:
    return [run.tokens / run.seconds for run in runs]


def _notes(plan: Plan) -> list[str]:
    counts = ", ".join(f"{_count(plan, batch)} at {batch}" for batch in BATCHES)
    sentences = (
        f"The first sentences of test.tsv: {counts}. Both programs run in a process of their own on the same "
        f"processor, one thread each, in turn, {plan.sizes.peer_rounds} rounds; from source ids (or pieces) to target "
        "ids (or pieces). Loading and tokenizing are in neither time."
    )
    batches = (
        "The engine gets all sentences at once, longest first, and has room for a batch of them: whoever ends makes "
        "room. CTranslate2 gets all of them too, sorts them by length and cuts them into batches of that size."
    )
    search = (
        f"At most {MAX_TOKENS} target tokens; no division of scores by the length, for which both end a beam when "
        "nothing that runs can be better. CTranslate2 keeps the start symbol's vector, which its own reader of Marian "
        "models takes for zero."
    )
    return [sentences, batches, search]
