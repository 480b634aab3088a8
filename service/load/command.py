"""`dragoman load`: from flags to phases, from phases to reports and an exit status."""

import argparse
import contextlib
import dataclasses
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from service.config import colour_wanted
from service.load import live, plan, report
from service.load.capacity import Search
from service.load.compare import Row, compare
from service.load.doubts import doubts
from service.load.drive import Driver
from service.load.messages import Job
from service.load.objective import Objective, read_objective
from service.load.page import page
from service.load.plan import Phase, PlanError
from service.metrics import version
from service.rpc.channel import Connection
from service.rpc.client import Client
from service.terminal import ModelRow

MISSED = 3
METRICS_PORT = 9464
SENTENCES = Path(__file__).parent / "sentences"


def run(given: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises PlanError and ClientError."""
    if given.compare:
        old, new = (report.read(path) for path in given.compare)
        return _tell_comparison(compare(old, new))
    if given.mode != "unary" and given.texts_per_request > 1:
        raise PlanError(f"--mode {given.mode} sends one text at a time; leave --texts-per-request out")
    objectives = [read_objective(text) for text in given.slo]
    if given.find_capacity and not objectives:
        raise PlanError("--find-capacity: say what must hold, such as --slo p99=200ms")
    baseline = report.read(given.baseline) if given.baseline else None
    job = _job(given)
    screen = live.Live(sys.stderr, terminal=sys.stderr.isatty() and colour_wanted())
    with Driver(job, given.metrics_url or _metrics_url(given.server), screen.show) as driver:
        done = _drive(given, driver, objectives, screen)
    if driver.metrics_error:
        done.warnings.append(driver.metrics_error)
    rows = compare(baseline, done) if baseline else []
    _tell(done, rows)
    if given.json:
        report.write(done, given.json)
    if given.html:
        given.html.write_text(page(done, rows))
    missed = not done.capacity.rate if done.capacity else not all(verdict.kept for verdict in done.verdicts)
    return MISSED if missed else 0


def _job(given: argparse.Namespace) -> Job:
    """Return what the client processes are to do, after a look at the server; raises ClientError."""
    connection = Connection.from_arguments(given)
    with Client(connection, given.timeout) as client:
        models = client.models()
    model = _named(models, given.model)
    return Job(
        server=given.server,
        texts=_texts(given.texts, model.languages[0]),
        mode=given.mode,
        model=given.model or model.name,
        texts_per_request=given.texts_per_request,
        connections=given.connections,
        timeout=given.timeout,
        shown=[str(file) if file else None for file in dataclasses.astuple(connection)[1:]],
        processes=given.processes,
    )


def _named(models: Sequence[ModelRow], wanted: str) -> ModelRow:
    name = wanted.partition("@")[0]
    found = next((model for model in models if name in {"", model.name}), None)
    if found is None:
        held = ", ".join(sorted({model.name for model in models})) or "none"
        raise PlanError(f"--model {wanted}: the server does not hold it; it holds {held}")
    return found


def _texts(path: Path | None, language: str) -> list[str]:
    if path is None:
        path = SENTENCES / f"{language}.txt"
        if not language.isalpha() or not path.exists():
            raise PlanError(
                f"there are no built-in sentences in {language or 'its language'}; name a file with --texts"
            )
    try:
        texts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise PlanError(f"cannot read {path} ({error})") from error
    if not texts:
        raise PlanError(f"{path} holds no text; write one on each line")
    return texts


def _metrics_url(server: str) -> str:
    host = urlsplit(f"//{server}").hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{METRICS_PORT}/metrics"


def _drive(
    given: argparse.Namespace, driver: Driver, objectives: Sequence[Objective], screen: live.Live
) -> report.Report:
    reports: list[report.PhaseReport] = []
    started = datetime.datetime.now(datetime.UTC)

    def measure(phase: Phase) -> report.PhaseReport:
        measured = driver.run(phase)
        if phase.measured:
            screen.ended(measured)
            reports.append(measured)
        return measured

    phases = _phases(given)
    if given.warm_up:
        measure(plan.warm_up(phases[0], given.warm_up))
    capacity = None
    if given.find_capacity:
        search = Search(measure, objectives)
        capacity = search.find(given.first_rate, given.duration, given.arrivals, given.seed)
        verdicts = search.verdicts
    else:
        with contextlib.suppress(KeyboardInterrupt):  # what was measured so far is reported
            for phase in phases:
                measure(phase)
        verdicts = [objective.judge(measured) for measured in reports for objective in objectives]
    return report.Report(
        server=given.server,
        model=driver.job.model,
        mode=given.mode,
        texts_per_request=given.texts_per_request,
        started=started.isoformat(timespec="seconds"),
        version=version(),
        command=shlex.join(["dragoman", *sys.argv[1:]]),
        phases=reports,
        verdicts=verdicts,
        capacity=capacity,
        warnings=doubts(reports),
    )


def _phases(given: argparse.Namespace) -> list[Phase]:
    if given.concurrency:
        return plan.closed_phases(given.concurrency, given.duration)
    rate = f"{given.first_rate:g}" if given.find_capacity else given.rate
    return plan.open_phases(rate, given.duration, given.arrivals, given.seed)


def _tell(done: report.Report, rows: Sequence[Row]) -> None:
    print("\nLatency in ms:", live.summary(done.phases), sep="\n")
    print("\nWhere the time went, in ms:", live.breakdown(done.phases), sep="\n")
    if done.capacity is None and done.verdicts:
        print("", live.judged(done.verdicts), sep="\n")
    if done.capacity is not None:
        kept = ", ".join(done.capacity.objectives)
        print(f"\nCapacity: {done.capacity.rate:.4g} requests per second keep {kept}.")
    if rows:
        _tell_comparison(rows)
    for warning in done.warnings:
        print(f"\nWARNING: {warning}", file=sys.stderr)


def _tell_comparison(rows: Sequence[Row]) -> int:
    """Print a comparison; return the exit status that it stands for."""
    if not rows:
        raise PlanError("the two reports have no phase in common; give both loads the same --rate or --concurrency")
    print("", live.compared(rows), sep="\n")
    return MISSED if any(row.verdict == "worse" for row in rows) else 0
