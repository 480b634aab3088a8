"""Sentences per second: the service with 64 requests in flight against loops that need not wait for anybody."""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from service.bundle import read_manifest
from tests.benchmark import eager
from tests.benchmark.load import Load, Order, Run, SegmentLoad
from tests.benchmark.offline import OnnxBatches, ShrinkingOnnxBatches, build_onnx
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section, ratios
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

ROWS = 32
IN_FLIGHT = 64
SERVICE, SEGMENTS = "service, {}", "service, one stream of segments, {}"
STATIC, SHRINKING = "ONNX Runtime offline, {}", "ONNX Runtime offline, ended rows dropped, {}"
TORCH, TORCH_SINGLE = "PyTorch eager, batches of 32", "PyTorch eager, one by one"
GOALS = {STATIC: Goal(">=", 0.9), SHRINKING: None, TORCH: Goal(">=", 2), TORCH_SINGLE: Goal(">=", 8)}
"""Of the service with a call for each text."""
SEGMENT_GOALS = {STATIC: GOALS[STATIC], SHRINKING: None}
"""Of the service with one call for all of them."""

Contender = Callable[[Sequence[str]], Run]


def measure(plan: Plan) -> Section:
    """Run all contenders in turn, round after round."""
    with ExitStack() as stack:
        contenders = _start(plan, stack)
        runs: dict[str, list[Run]] = {name: [] for name in contenders}
        texts = plan.texts(plan.sizes.sentences)
        for name, contender in contenders.items():
            plan.say(f"throughput: warming up {name}")
            contender(texts[: ROWS if name != TORCH_SINGLE else 2])
        for number in range(plan.sizes.rounds):
            for name, contender in contenders.items():
                plan.say(f"throughput: round {number + 1} of {plan.sizes.rounds}, {name}")
                chosen = spread(texts, plan.sizes.single_sentences) if name == TORCH_SINGLE else texts
                runs[name].append(contender(chosen))
    labels = [label(read_manifest(bundle)) for bundle in plan.bundles]
    return Section("throughput", [*_rates(runs), *_ratios(runs, labels)], _notes(plan, len(texts)))


def spread(texts: Sequence[str], count: int) -> list[str]:
    """Pick texts of all lengths, so that few of them are like all of them."""
    by_length = sorted(texts, key=len)
    count = min(count, len(texts))
    return [by_length[(2 * index + 1) * len(texts) // (2 * count)] for index in range(count)]


def _start(plan: Plan, stack: ExitStack) -> dict[str, Contender]:
    measured, driver = processors()
    contenders: dict[str, Contender] = {}
    load = stack.enter_context(Worker("load", Load, driver))
    segments = stack.enter_context(Worker("segments", SegmentLoad, driver))
    for folder in plan.bundles:
        name = label(read_manifest(folder))
        server = stack.enter_context(Server(folder, measured, "--threads", "1"))
        contenders[SERVICE.format(name)] = functools.partial(_ask, load, server.address)
        contenders[SEGMENTS.format(name)] = functools.partial(_ask, segments, server.address)
        for pattern, batches in ((STATIC, OnnxBatches), (SHRINKING, ShrinkingOnnxBatches)):
            plan.say(f"throughput: loading {folder}")
            build = functools.partial(build_onnx, folder, ROWS, batches)
            contenders[pattern.format(name)] = stack.enter_context(Worker(pattern, build, measured))
    plan.say(f"throughput: loading {plan.checkpoint}")
    torch = stack.enter_context(Worker("PyTorch", functools.partial(eager.Eager, plan.checkpoint), measured))
    contenders[TORCH] = lambda texts: torch(eager.Order(texts, ROWS))
    contenders[TORCH_SINGLE] = lambda texts: torch(eager.Order(texts, 1))
    return contenders


def _ask(load: Worker[Order, Run], address: str, texts: Sequence[str]) -> Run:
    return load(Order(address, texts, IN_FLIGHT))


def _rates(runs: dict[str, list[Run]]) -> list[Figure]:
    figures = []
    for name, found in runs.items():
        figures.append(Figure.of(name, [len(run.translated) / run.seconds for run in found], "sentences/s"))
        figures.append(Figure.of(name, [run.tokens / run.seconds for run in found], "target tokens/s"))
    return figures


def _ratios(runs: dict[str, list[Run]], labels: Sequence[str]) -> list[Figure]:
    """Compare target tokens per second: what the contenders share, whatever sentences they were given."""
    figures = []
    for name in labels:
        for service, goals in ((SERVICE, GOALS), (SEGMENTS, SEGMENT_GOALS)):
            ours = [run.tokens / run.seconds for run in runs[service.format(name)]]
            for pattern, goal in goals.items():
                theirs = [run.tokens / run.seconds for run in runs[pattern.format(name)]]
                compared = f"{service} / {pattern}".format(name, name)
                figures.append(Figure.of(compared, ratios(ours, theirs), "x", goal=goal))
    return figures


def _notes(plan: Plan, sentences: int) -> list[str]:
    return [
        f"{sentences} sentences of test.tsv a round, {plan.sizes.rounds} rounds, contenders in turn within each.",
        "Ratios are of target tokens/s, round by round.",
        "The server and every offline loop run on one processor, one thread; the load runs on another.",
        f"'service': a call of Translate for each text, {IN_FLIGHT} calls in flight.",
        f"'One stream of segments': a call of TranslateSegments, {IN_FLIGHT} segments in flight, as of a whole file.",
        "Tokenizing and detokenizing are inside all of them. All offline loops sort by source length.",
        "PyTorch runs the checkpoint in float32 whatever the bundle's precision, and need not give log-probabilities.",
        f"PyTorch one by one gets {plan.sizes.single_sentences} sentences of all lengths.",
        "'Ended rows dropped' halves a batch whenever half of its rows have ended: beyond static batches, so no goal.",
    ]
