"""Latency against rate, from idle to half as much again as a server can take: `make curve`.

Each bundle is served by one processor and loaded from another: first as much as it takes, for its capacity, then
Poisson arrivals at shares of that, in several rounds, since machines get faster and slower; of each rate, the round
with the middle p99 is shown. What a virtual machine's host disturbs is driven again, a few times at most. A report of
`dragoman load` (.json) in place of a bundle is shown as it is.
"""

import argparse
import contextlib
import datetime
import functools
import itertools
import math
import multiprocessing
import os
import signal
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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
from tests.benchmark.virtual import Quiet, awake
from tests.benchmark.workers import leave, pinned, processors

SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)
"""Of the capacity."""
IN_FLIGHT = 96
"""For the capacity: half as many again as there are rows, so that the batch is always full."""
ASIDE = 0.2
"""Of the requests at the highest rate, the share that a second client sends, which does nothing else: how soon it is
refused is not how long the first one takes to read hundreds of answers."""
AHEAD = -18
"""Nice value of the server and of the second client, where it is allowed: what else runs here is not what is measured,
and what that client waits for is the server. Engine threads and the first client keep their distance."""
CROWD_NICE = 8
"""Of the first client: it shares a processor with the second."""
ENGINE_NICE = 19
"""Event loop and engine share a processor here, and calls should not wait for a step's end."""
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
        with awake():
            curve = measure(source, given, say)
        write(curve.report, given.build / f"curve-{curve.report.model}.json")
        curves.append(curve)
    draw(given.picture, curves)
    text = page(curves, about, os.path.relpath(given.picture, given.page.parent))
    given.page.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


class Round(NamedTuple):
    """The phases of one round, by rate."""

    phases: list[PhaseReport]
    of_full: float
    """What is answered at the highest rate, as a share of what the server answered right before and after."""
    refused: float | None
    """By the second client, the 99th percentile in seconds; None: none were."""

    @property
    def kept(self) -> float:
        """What is answered at the highest rate, as a share of the most at any."""
        return self.phases[-1].goodput / max(phase.goodput for phase in self.phases)


def measure(bundle: Path, given: argparse.Namespace, say: Progress) -> Curve:
    """Load one bundle at all rates."""
    measured, driver = processors()
    card = read_manifest(bundle).model
    texts = (SENTENCES / f"{card.source_language}.txt").read_text(encoding="utf-8").split("\n")
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    options = ("--threads", "1", "--engine-nice", str(ENGINE_NICE), "--max-waiting", str(WAITING))
    rounds, quiet = [], Quiet(given.tries)
    with Server(bundle, measured, *options) as server:
        job = Job(server.address, [text for text in texts if text.strip()], model=card.name)
        with pinned(driver), Driver(job, server.metrics_url, _say_nothing) as crowd:
            others = _children()
            _hurry(others, AHEAD + CROWD_NICE)
            with Driver(job, "", _say_nothing) as aside:
                _hurry([*(_children() - others), server.pid], AHEAD)
                for driven in (crowd, aside):
                    driven.run(Phase("warm-up", 2.0, concurrency=8, measured=False))
                full = middle([quiet(lambda: crowd.run(_full(given.seconds))) for _ in range(given.rounds)])
                say(f"curve: {card.name} answers {full.goodput:.0f} requests a second")
                for number in range(given.rounds):
                    rounds.append(one := _round(crowd, aside, full.goodput, given.seconds, number, quiet))
                    say(
                        f"curve: {one.kept:.1%} of the peak amid overload, {one.of_full:.1%} of what it answers with"
                        f" {IN_FLIGHT} in flight, refusals in {(one.refused or 0.0) * 1e3:.1f} ms; {quiet}"
                    )
    refused = [one.refused for one in rounds if one.refused is not None]
    return Curve(
        report=_report(server.address, card.name, started, [full, *map(middle, _by_rate(rounds))]),
        refused_server=_refused_in(server.log),
        refused_aside=statistics.median(refused) if refused else None,
        kept=statistics.median(one.kept for one in rounds),
        of_full=statistics.median(one.of_full for one in rounds),
        stolen=str(quiet),
    )


def _round(crowd: Driver, aside: Driver, capacity: float, seconds: float, number: int, quiet: Quiet) -> Round:
    """Load the server at all rates; at the highest, the second client sends a part."""
    rates = {f"{share:.0%} of capacity": share * capacity for share in SHARES}
    seeds = itertools.count(number * len(SHARES))
    *below, beyond = (Phase(name, seconds, rate, rate, seed=next(seeds)) for name, rate in rates.items())
    phases = [quiet(functools.partial(crowd.run, phase)) for phase in below]
    overload, full, refused = quiet(functools.partial(_overload, crowd, aside, beyond))
    return Round([*phases, overload], overload.goodput / full, refused)


def _overload(crowd: Driver, aside: Driver, phase: Phase) -> tuple[PhaseReport, float, float | None]:
    """Return what becomes of a rate beyond capacity; the goodput before and after; the p99 of refusals in seconds."""
    before = crowd.run(_full(phase.seconds))
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(aside.run, _part(phase, ASIDE))
        report, other = crowd.run(_part(phase, 1 - ASIDE)), alone.result()
    after = crowd.run(_full(phase.seconds))
    whole = msgspec.structs.replace(report, phase=phase, goodput=report.goodput + other.goodput)
    refused = None if other.refused is None else other.refused.at(99)
    return whole, (before.goodput + after.goodput) / 2, refused


def _full(seconds: float) -> Phase:
    return Phase("full", seconds, concurrency=IN_FLIGHT)


def _part(phase: Phase, share: float) -> Phase:
    rate = share * phase.rate
    return msgspec.structs.replace(phase, first_rate=rate, last_rate=rate)


def _by_rate(rounds: Sequence[Round]) -> list[tuple[PhaseReport, ...]]:
    """Return what all rounds found at each rate."""
    return list(zip(*(one.phases for one in rounds), strict=True))


def middle(phases: Sequence[PhaseReport]) -> PhaseReport:
    """Return the phase with the middle p99."""
    ordered = sorted(phases, key=lambda phase: phase.latency.at(99) if phase.latency else math.inf)
    return ordered[(len(ordered) - 1) // 2]


def _children() -> set[int]:
    return {process.pid for process in multiprocessing.active_children() if process.pid is not None}


def _hurry(processes: Iterable[int], nice: int) -> None:
    """Let all threads of some processes go before others by so much, where this is allowed."""
    tasks = [int(task.name) for process in processes for task in Path(f"/proc/{process}/task").iterdir()]
    with contextlib.suppress(PermissionError):
        for task in tasks:
            os.setpriority(os.PRIO_PROCESS, task, os.getpriority(os.PRIO_PROCESS, task) + nice)


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
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate (default: %(default)g)")
    parser.add_argument("--rounds", type=int, default=3, help="of all rates (default: %(default)s)")
    parser.add_argument(
        "--tries", type=int, default=4, help="of what a virtual machine's host disturbs (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/load-curve.png", help="(default: %(default)s)")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/load-curve.md", help="(default: %(default)s)")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="folder for reports (default: %(default)s)")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    main()
