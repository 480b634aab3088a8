"""From the start of the process to ready, and what it keeps in memory."""

from pathlib import Path

from service.bundle import read_manifest
from tests.benchmark.load import Load, Order, Run
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.serving import Server
from tests.benchmark.workers import Worker, processors

READY_GOAL = Goal("<=", 1.5)
MEMORY_GOAL = Goal("<=", 250)


def measure(plan: Plan) -> Section:
    """Start servers one after another, and send each some requests."""
    figures: list[Figure] = []
    with Worker("load", Load, processors()[1]) as load:
        for folder in plan.bundles:
            figures += _measure_bundle(plan, folder, load)
    note = (
        f"{plan.sizes.starts} starts; ready: the line that the server prints when health says SERVING. Not pinned; the "
        f"files are in the page cache. Resident memory in 10^6 bytes; requests: {plan.sizes.start_requests} sentences, "
        "64 in flight."
    )
    return Section("startup", figures, [note])


def _measure_bundle(plan: Plan, folder: Path, load: Worker[Order, Run]) -> list[Figure]:
    name = label(read_manifest(folder))
    texts = plan.texts(plan.sizes.start_requests)
    ready, idle, used = [], [], []
    for number in range(plan.sizes.starts):
        plan.say(f"startup: {number + 1} of {plan.sizes.starts}, {name}")
        with Server(folder, None) as server:
            ready.append(server.ready_seconds)
            idle.append(server.resident_mb())
            load(Order(server.address, texts))
            used.append(server.resident_mb())
    return [
        Figure.of(f"process start to ready, {name}", ready, "s", READY_GOAL),
        Figure.of(f"resident when ready, {name}", idle, "MB", MEMORY_GOAL),
        Figure.of(f"resident after the requests, {name}", used, "MB", MEMORY_GOAL),
    ]
