"""chrF and BLEU of the running server, and whether it says what PyTorch says."""

from collections.abc import Sequence
from pathlib import Path

from export.training.evaluate import score
from service.bundle import read_manifest
from tests.benchmark.differences import Reference, compare, identical
from tests.benchmark.eager import TorchGreedy
from tests.benchmark.load import Load, Order, Run
from tests.benchmark.plan import TEST_SETS, Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

CHRF_GOAL = Goal("<=", 0.1)
IDENTICAL_GOAL = Goal(">=", 99.5)
CHUNK = 256
LISTED = 40


def measure(plan: Plan) -> Section:
    """Translate the test sets by PyTorch once, and through a server for each bundle."""
    note = "Through the server, 64 requests in flight; PyTorch: greedy decoding of the checkpoint in float32."
    section = Section("quality", [], [note])
    translate = TorchGreedy(plan.checkpoint)
    expected = {name: _torch(plan, name, translate) for name in TEST_SETS}
    for name, references in expected.items():
        _score(section, f"PyTorch, {name}", [one.text for one in references], plan, name)
    with Worker("load", Load, processors()[1]) as load:
        for folder in plan.bundles:
            with Server(folder, None) as server:
                for name, references in expected.items():
                    plan.say(f"quality: {name} through the server, {folder}")
                    run = load(Order(server.address, [source for source, _ in plan.pairs(name)]))
                    _compare(section, plan, (folder, name), references, run)
    return section


def _torch(plan: Plan, name: str, translate: TorchGreedy) -> list[Reference]:
    sources = [source for source, _ in plan.pairs(name)]
    found: list[Reference] = []
    for start in range(0, len(sources), CHUNK):
        plan.say(f"quality: {name} in PyTorch, {start} of {len(sources)}")
        found += translate(sources[start : start + CHUNK])
    return found


def _score(section: Section, what: str, texts: Sequence[str], plan: Plan, name: str) -> float:
    quality = score(texts, [reference for _, reference in plan.pairs(name)])
    section.figures += [Figure(f"{what}, chrF", quality.chrf), Figure(f"{what}, BLEU", quality.bleu)]
    for signature in (f"chrF: {quality.chrf_signature}", f"BLEU: {quality.bleu_signature}"):
        if signature not in section.notes:
            section.notes.append(signature)
    return quality.chrf


def _compare(section: Section, plan: Plan, place: tuple[Path, str], references: list[Reference], run: Run) -> None:
    """Add what a bundle's server made of a test set."""
    folder, name = place
    precision = label(read_manifest(folder))
    what = f"service {precision}, {name}"
    texts = [one.text for one in run.translated]
    chrf = _score(section, what, texts, plan, name)
    wanted = score([one.text for one in references], [reference for _, reference in plan.pairs(name)]).chrf
    sources = [source for source, _ in plan.pairs(name)]
    differences = compare(sources, references, texts, [one.pieces for one in run.translated])
    goal = IDENTICAL_GOAL if precision == "fp32" else None
    section.figures += [
        Figure(f"{what}, chrF away from PyTorch", abs(chrf - wanted), goal=CHRF_GOAL),
        identical(f"{what}, same string as PyTorch", differences, len(sources), goal),
    ]
    listed = sorted(differences, key=lambda difference: -difference.margin)[:LISTED]
    section.notes.append(f"{what}: {len(differences)} of {len(sources)} strings differ from PyTorch's"
                         f"{', largest margins first' if listed else ''}.")  # fmt: skip
    section.notes += [f"{what}: {difference}" for difference in listed]
