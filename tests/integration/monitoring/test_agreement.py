"""Three clocks on the same load: the client's own, the report of the load generator, and Prometheus's histograms."""

import asyncio
import bisect
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from service.config import EMBEDDED
from service.load.command import SENTENCES
from service.load.messages import Batch, Job, Start
from service.load.plan import Phase
from service.load.record import Record
from service.load.report import PhaseReport
from service.load.worker import Client
from service.model_metrics import SECONDS
from service.rpc.channel import Connection
from service.rpc.loading import Answer, Caller
from tests.integration.monitoring.process import served
from tests.integration.monitoring.prometheus import Prometheus, missing
from tests.serving import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("prometheus")), reason=missing("prometheus")),
    pytest.mark.skipif(not any(EMBEDDED.glob("*/*/bundle.json")), reason="no embedded bundle"),
]

PHASE = Phase("20/s", seconds=15.0, first_rate=20.0, last_rate=20.0)
HANDLING = 'grpc_server_handling_seconds{}{{grpc_method="Translate"}}'
SENTENCE_END = re.compile(r"[.?!]")
LONG = 30
"""Characters of a whole sentence: what a call costs by itself is a larger share of a phrase."""
LATE_SECONDS = 0.015
"""A client that is later than this with one request in a hundred is kept waiting by its machine."""
TRIALS = 3
PARTS = ("queue_time", "encode", "decode")


async def drive(server: str) -> tuple[list[float], PhaseReport]:
    """Drive the phase from this process; return the seconds of each call by the caller's own clock, and the report.

    Only single sentences: what the server splits counts for each part in the engine, and once as a call.
    """
    texts = [
        line
        for line in (SENTENCES / "ko.txt").read_text().splitlines()
        if len(line) >= LONG and len(SENTENCE_END.findall(line)) == 1
    ]
    record = Record(PHASE, 1)
    seconds: list[float] = []
    async with Caller(Connection(server), "", 30.0, 1) as caller:
        await caller.ready()

        async def timed(texts: Sequence[str]) -> Answer:
            begun = time.monotonic()
            answer = await caller.unary(texts)
            seconds.append(time.monotonic() - begun)
            return answer

        def take(batch: Batch) -> None:
            record.add(0, batch)

        await Client(Job(server, texts), timed, take).run(Start(PHASE, time.monotonic() + 0.1))
    return seconds, record.report(None)


Measured = tuple[list[float], PhaseReport, Prometheus]


@contextmanager
def measurement(folder: Path) -> Iterator[Measured]:
    """Load a fresh server with the embedded model at a fixed rate, watched by Prometheus, which has seen all of it."""
    with served() as (address, metrics_url), Prometheus(folder, metrics_url) as prometheus:
        seconds, report = asyncio.run(drive(address))
        seen = HANDLING.format("_count")
        wait_until(lambda: prometheus.query(seen) == [float(len(seconds))], "Prometheus has seen every call")
        yield seconds, report, prometheus


def is_late(report: PhaseReport) -> bool:
    """Whether the client could not send when it should: what it measures then is its machine, not the server."""
    return report.client.lag is not None and report.client.lag.at(99) > LATE_SECONDS


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """Measure, and again where the machine had no time for it."""
    for trial in range(TRIALS):
        with measurement(tmp_path_factory.mktemp("prometheus")) as found:
            if trial == TRIALS - 1 or not is_late(found[1]):
                yield found
                return


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
def test_all_clocks_agree(measured: Measured, percentile: float) -> None:
    """Client, report and histogram_quantile lie in the same bucket, or in neighbouring ones."""
    seconds, report, prometheus = measured
    assert report.latency is not None
    expression = f"histogram_quantile({percentile / 100}, sum by (le) ({HANDLING.format('_bucket')}))"
    figures = [float(np.percentile(seconds, percentile)), report.latency.at(percentile), *prometheus.query(expression)]
    assert 3 == len(figures)
    buckets = [bisect.bisect_left(SECONDS, figure) for figure in figures]
    if is_late(report) and max(buckets) - min(buckets) > 1:
        pytest.skip(f"this machine is too busy: its client was late in {TRIALS} trials, so there is nothing to compare")
    assert 1 >= max(buckets) - min(buckets), f"p{percentile:g}: {figures}"


def test_the_parts_explain_the_whole(measured: Measured) -> None:
    """Queue, encode and decode add up to nearly all of the handling time, and never to more.

    Where the machine is crowded too: waiting for the event loop is part of them, but for the writing of the answer.
    """
    _, _, prometheus = measured
    parts = math.fsum(prometheus.query(f"sum(dragoman_{part}_seconds_sum)")[0] for part in PARTS)
    handling, calls = (prometheus.query(HANDLING.format(name))[0] for name in ("_sum", "_count"))
    sys.stdout.write(f"queue, encode and decode explain {parts / handling:.2%} of {handling / calls * 1e3:.1f} ms\n")
    assert 0.95 <= parts / handling <= 1.0, f"{parts} of {handling} s, {calls} calls"
