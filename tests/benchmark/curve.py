"""Latency against rate, from idle to half as much again as a server can take: `make curve`.

Each bundle is served by one processor and loaded from another: first as much as it takes, for its capacity, then
Poisson arrivals at shares of that. A report of `dragoman load` (.json) in place of a bundle is shown as it is.
"""

import argparse
import datetime
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from service.bundle import read_manifest
from service.config import EMBEDDED
from service.load.drive import Driver
from service.load.messages import Job
from service.load.plan import Phase
from service.load.record import REFUSED, Record
from service.load.report import Capacity, PhaseReport, Report, read, write
from service.metrics import version
from tests.benchmark.curve_page import Curve, draw, page
from tests.benchmark.plan import ROOT, Progress, machine
from tests.benchmark.report import percentile
from tests.benchmark.serving import Server
from tests.benchmark.workers import pinned, processors

SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)
"""Of the capacity."""
IN_FLIGHT = 96
"""For the capacity: half as many again as there are rows, so that the batch is always full."""
ASIDE = 30.0
"""Requests per second, at the highest rate, of a second client that does nothing else: how soon it is refused is not
how long the first one takes to read hundreds of answers."""
CROWD_NICE = 10
"""Of the first client, which shares a processor with the second: what that one waits for is the server."""
ENGINE_NICE = 3
"""Event loop and engine share a processor here."""
WAITING = 128
"""Texts that may wait: about a second's work for one processor; more are refused."""
SENTENCES = ROOT / "service/load/sentences"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw, write and print."""
    given = _parser().parse_args(argv)
    say, about = Progress(), machine()
    given.build.mkdir(parents=True, exist_ok=True)
    curves = []
    for source in given.sources or sorted(EMBEDDED.glob("*/1")):
        if source.suffix == ".json":
            curves.append(Curve(read(source)))
            continue
        curve = measure(source, given.seconds, say)
        write(curve.report, given.build / f"curve-{curve.report.model}.json")
        curves.append(curve)
    draw(given.picture, curves)
    text = page(curves, about, os.path.relpath(given.picture, given.page.parent))
    given.page.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure(bundle: Path, seconds: float, say: Progress) -> Curve:
    """Load one bundle at all rates, so many seconds each."""
    measured, driver = processors()
    card = read_manifest(bundle).model
    texts = (SENTENCES / f"{card.source_language}.txt").read_text(encoding="utf-8").split("\n")
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    options = ("--threads", "1", "--engine-nice", str(ENGINE_NICE), "--max-waiting", str(WAITING))
    with Server(bundle, measured, *options) as server:
        job = Job(server.address, [text for text in texts if text.strip()], model=card.name)
        with pinned(driver), Driver(job, server.metrics_url, _say_nothing) as driven:
            _step_back()
            with Driver(job, "", _say_nothing) as aside, ThreadPoolExecutor(1) as pool:
                driven.run(Phase("warm-up", 2.0, concurrency=8, measured=False))
                full = driven.run(Phase("full", seconds, concurrency=IN_FLIGHT))
                say(f"curve: {card.name} answers {full.goodput:.0f} requests a second")
                reports = [full]
                single = pool.submit(aside.run, Phase("aside, idle", 1.0, ASIDE, ASIDE, measured=False))
                for share in SHARES:
                    rate = share * full.goodput
                    phase = Phase(f"{share:.0%} of capacity", seconds, rate, rate, seed=len(reports))
                    if share == SHARES[-1]:
                        single = pool.submit(aside.run, Phase("aside", seconds, ASIDE, ASIDE))
                    reports.append(driven.run(phase))
                    say(f"curve: {card.name} at {phase.name}: {reports[-1].goodput:.0f} requests a second")
                refused = single.result().refused
    return Curve(
        report=_report(server.address, card.name, started, reports),
        refused_server=_refused_in(server.log),
        refused_aside=None if refused is None else refused.at(99),
    )


def _step_back() -> None:
    """Let the client processes that there are leave the processor to those that come."""
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.setpriority(os.PRIO_PROCESS, process.pid, CROWD_NICE)


def _report(address: str, model: str, started: str, phases: list[PhaseReport]) -> Report:
    return Report(
        server=address,
        model=model,
        mode="unary",
        texts_per_request=1,
        started=started,
        version=version(),
        command="make curve",
        phases=phases,
        verdicts=[],
        capacity=Capacity(phases[0].goodput, [f"{IN_FLIGHT} in flight"], []),
    )


def _refused_in(log: str) -> float | None:
    """Return the 99th percentile of what refused calls took in the server, in seconds, by its log; None: none were."""
    lines = [msgspec.json.decode(line) for line in log.splitlines() if line.startswith("{")]
    took = [line.get("total_ms", 0.0) / 1e3 for line in lines if line.get("code") == REFUSED]
    return percentile(took, 0.99) if took else None


def _say_nothing(record: Record, now: float) -> None:
    """Show nothing while a phase runs."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.curve", description=__doc__)
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="BUNDLE", help="<model>/<version>, or a report (default: the embedded)"
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="of each rate (default: %(default)g)")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/load-curve.png", help="(default: %(default)s)")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/load-curve.md", help="(default: %(default)s)")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="folder for reports (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main()
