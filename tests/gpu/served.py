"""The whole service: how long a call takes, and how many texts a second it translates."""

import statistics

from export.training.corpus import read_tsv
from tests.benchmark.load import Load, OneByOne, Order, Run
from tests.benchmark.report import Figure, percentile
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker
from tests.gpu.notebook import Notebook
from tests.gpu.plan import FAMILIES, PRECISIONS, SENTENCES, Plan

MOST_CALLS = 4000


def measure(plan: Plan, book: Notebook) -> None:
    """Ask a server for each bundle: one text after another, then many at once."""
    texts = [source for source, _ in read_tsv(SENTENCES)]
    book.note(f"Through gRPC on this machine: a closed loop of single texts, the {len(texts)} of tests/data/test.tsv "
              "in turn; the random Transformer translates each into as many tokens as it may.")  # fmt: skip
    for family in FAMILIES:
        for precision in PRECISIONS:
            try:
                _measure_bundle(plan, book, (family, precision), texts)
            except Exception as error:  # noqa: BLE001  whatever it is, the other bundles are served all the same
                book.note(f"{family}, {precision}: not measured, {error}")


def _measure_bundle(plan: Plan, book: Notebook, case: tuple[str, str], texts: list[str]) -> None:
    what = ", ".join(case)
    most = max(plan.sizes.in_flight)
    options = ("--provider", plan.provider, "--max-rows", str(most), "--max-waiting", str(2 * most))
    with Server(plan.bundle(*case), None, *options) as server, Worker("load", Load, None) as load:
        seconds = OneByOne(server.address, texts[0])(plan.sizes.calls).seconds[plan.sizes.calls // 4 :]
        book.add(Figure(f"{what}: call, p50", 1e3 * statistics.median(seconds), "ms"))
        book.add(Figure(f"{what}: call, p99", 1e3 * percentile(seconds, 0.99), "ms"))
        for number in plan.sizes.in_flight:
            calls = min(MOST_CALLS, number * plan.sizes.calls)
            order = Order(server.address, (texts * (1 + calls // len(texts)))[:calls], number)
            load(order._replace(texts=order.texts[: 2 * number]))
            run: Run = load(order)
            book.add(Figure(f"{what}, {number} in flight: texts", calls / run.seconds, "texts/s"))
            book.add(Figure(f"{what}, {number} in flight: tokens", run.tokens / run.seconds, "target tokens/s"))
