"""Keeps a real server under mixed traffic for a long time, to see whether anything grows, fails or gets slow.

    python -m tests.soak [--minutes 30] [--rate 8] [--output build/soak]

Exit status 1 where a limit was not kept.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.config import EMBEDDED
from service.load.scrape import Page
from tests.benchmark.serving import Server
from tests.soak.reloading import Versions, reloads
from tests.soak.report import Look, Soak, lines, quantiles, table, write
from tests.soak.traffic import Traffic
from tests.soak.vitals import LAG, Lateness, Patient, Vitals

SENTENCES = Path(__file__).parents[2] / "service/load/sentences/ko.txt"
ROWS, WAITING = 64, 192
CAPACITY = ROWS + WAITING
OPTIONS = ("--threads", "1", "--max-rows", str(ROWS), "--max-waiting", str(WAITING),
           "--max-texts-per-request", str(CAPACITY))  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much, how often; times in seconds."""

    seconds: float = 1800.0
    rate: float = 8.0
    """Calls a second."""
    look_every: float = 5.0
    reload_every: float = 60.0
    seed: int = 1


def soak(plan: Plan, say: Callable[[str], None]) -> Soak:
    """Let traffic run against a server with the embedded model, and look at it all the while."""
    texts = SENTENCES.read_text().split("\n")[:24]
    with Server(next(EMBEDDED.glob("*/*")), None, *OPTIONS) as server:
        patient = Patient(server.pid, server.metrics_url)
        versions = Versions(server.versions, server.pid)
        _every_permit(server.address, texts)
        before, first = patient.look()
        with Lateness() as lateness, Traffic(server.address, texts, plan.rate, plan.seed) as traffic:
            looks, reloaded = _watch(plan, patient, versions, traffic, say)
        if traffic.failure is not None:
            raise traffic.failure
        patient.settle(lambda vitals: vitals.at_rest)
        permits = _every_permit(server.address, texts)
        after = patient.settle(lambda vitals: vitals.at_rest and vitals.threads <= before.threads)
        last = patient.page()
        newest = not reloaded or _serves(server.address, str(versions.newest))
    endings: dict[str, dict[str, int]] = {}
    for (kind, code), count in traffic.counts.items():
        endings.setdefault(kind, {})[code] = count
    return Soak(
        minutes=plan.seconds / 60, looks=looks, before=before, after=after, endings=endings,
        unexpected=traffic.unexpected, skipped=traffic.skipped, reloads=reloaded, reloaded=newest,
        permits=permits, capacity=CAPACITY, lag_p99=last.since(first).quantile(0.99, LAG),
        late_p99=quantiles(lateness.seconds)[1],
        status=server.status, bugs=server.log.count('"level":"ERROR"') + server.log.count('"level":"CRITICAL"'),
    )  # fmt: skip


def _watch(
    plan: Plan, patient: Patient, versions: Versions, traffic: Traffic, say: Callable[[str], None]
) -> tuple[list[Look], int]:
    """Look again and again, and bring new versions in between; return the looks and the number of reloads."""
    started = time.monotonic()
    looks: list[Look] = []
    done, page = 0, patient.page()
    can_reload = reloads(patient.pid)
    while time.monotonic() < started + plan.seconds and traffic.failure is None:
        time.sleep(plan.look_every)
        if can_reload and time.monotonic() > started + (done + 1) * plan.reload_every:
            versions.renew()
            done += 1
        before, (vitals, page) = page, patient.look()
        looks.append(_look(vitals, page.since(before), traffic))
        say(_progress(looks[-1], vitals.seconds - started, done, traffic))
    return looks, done


def _look(vitals: Vitals, grown: Page, traffic: Traffic) -> Look:
    p50, p99 = quantiles(traffic.latencies())
    return Look(vitals, p50, p99, grown.quantile(0.99, LAG), sum(traffic.counts.values()))


def _progress(look: Look, seconds: float, reloaded: int, traffic: Traffic) -> str:
    vitals = look.vitals
    return (
        f"{seconds / 60:5.1f} min  {look.calls:6,} calls  {reloaded:2} reloads  resident {vitals.resident:4.0f} MB"
        f"  native {vitals.native:4.0f} MB  {vitals.threads:3} threads  {vitals.descriptors:3} descriptors"
        f"  waiting {vitals.waiting:2}  running {vitals.running:2}  p50 {1e3 * look.p50:4.0f} ms"
        f"  p99 {1e3 * look.p99:5.0f} ms  lag {1e3 * look.lag_p99:3.0f} ms  unexpected {traffic.unexpected or 0}"
    )


def _every_permit(address: str, texts: list[str]) -> int:
    """Return how many texts are translated of a request with as many as the server ever admits."""
    asked = pb.TranslateRequest(texts=[texts[index % len(texts)] for index in range(CAPACITY)])
    asked.options.segmentation = pb.SEGMENTATION_NONE
    with grpc.insecure_channel(address) as channel:
        try:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            return len(stub.Translate(asked, timeout=120.0).translations)
        except grpc.RpcError:
            return 0


def _serves(address: str, version: str) -> bool:
    """Return whether this version answers those who ask for none."""
    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationServiceStub(channel)
        answer = stub.Translate(pb.TranslateRequest(texts=["안녕"]), timeout=60.0)
        return bool(version == answer.model_version)


def main() -> int:
    """Soak and report; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "30")))
    parser.add_argument("--rate", type=float, default=Plan().rate, help="calls a second")
    parser.add_argument("--output", type=Path, default=Path("build/soak"))
    asked = parser.parse_args()
    found = soak(Plan(seconds=60 * asked.minutes, rate=asked.rate), lambda line: print(line, flush=True))
    rows = table(found)
    write(found, rows, asked.output)
    print("\n".join(lines(found, rows)))
    print(f"written: {asked.output}/soak.json, {asked.output}/soak.png")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
