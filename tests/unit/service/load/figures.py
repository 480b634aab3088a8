"""Reports made by hand."""

from collections.abc import Sequence

from service.load.messages import Batch, Sample
from service.load.plan import Phase
from service.load.record import Record
from service.load.report import PhaseReport, Report, ServerSide


def measured(
    latencies: Sequence[float], *, rate: float = 100.0, lag: float = 0.0, errors: Sequence[str] = (), cpu: float = 0.1
) -> PhaseReport:
    """Return the report of a phase of one second whose requests took these seconds, and of some that failed."""
    record = Record(Phase(f"{rate:g}/s", 1.0, rate, rate), 1)
    good = [
        Sample(index / len(latencies) / 2, lag, latency, "OK", 5, queue=latency / 2, decode=latency / 4)
        for index, latency in enumerate(latencies)
    ]
    bad = [Sample(0.1, lag, 0.002, code) for code in errors]
    record.add(0, Batch(good + bad, in_flight=0, cpu=cpu, wall=1.0, done=True))
    return record.report(None)


def report(*phases: PhaseReport, **fields: object) -> Report:
    """Return a report of these phases."""
    made = {"server": "127.0.0.1:1", "model": "toy", "mode": "unary", "texts_per_request": 1, "version": "0"}
    texts = {"started": "2026-01-01T00:00:00+00:00", "command": "dragoman load --rate 1", "verdicts": []}
    return Report(**(made | texts | fields), phases=list(phases))  # type: ignore[arg-type]


def server_side() -> ServerSide:
    """Return what a server may tell of itself."""
    return ServerSide(
        handling_p50=0.01, handling_p99=0.05, handling_mean=0.012, queue_mean=0.001, encode_mean=0.002,
        decode_mean=0.008, rows_mean=3.0, target_tokens_per_second=500.0, cpu=0.9, resident_bytes=1e8,
        event_loop_lag_p99=0.001, engine={"encode": 0.1, "step": 0.5, "host": 0.1, "idle": 0.3}, rejected={},
        finished={"end": 100},
    )  # fmt: skip
