"""The report of a load, as it is written to JSON. Times are in seconds, rates per second."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from hdrh.histogram import HdrHistogram

from service.load.plan import Phase, PlanError

FORMAT = 1
SHORTEST, LONGEST, DIGITS = 1, 3_600_000_000, 3
"""What a histogram can tell apart: from a microsecond to an hour, to three digits."""
PERCENTILES = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.99, 100.0)


class Quantiles(msgspec.Struct, frozen=True):
    """A distribution of times."""

    count: int
    mean: float
    values: dict[str, float]
    """By percentile."""
    histogram: str
    """All of it, as an HdrHistogram of microseconds (V2, compressed, base64)."""

    def at(self, percentile: float) -> float:
        """Return the value at any percentile, in seconds."""
        found = self.values.get(f"{percentile:g}")
        return self.several([percentile])[0] if found is None else found

    def several(self, percentiles: Sequence[float]) -> list[float]:
        """Return the values at some percentiles, in seconds."""
        histogram = HdrHistogram.decode(self.histogram)
        return [float(histogram.get_value_at_percentile(percentile) / 1e6) for percentile in percentiles]


class Times:
    """Gathers times for Quantiles: an HDR histogram (https://hdrhistogram.org), whose size does not grow."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(SHORTEST, LONGEST, DIGITS)
        self.count = 0
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """Count one time; below a microsecond counts as one."""
        self._histogram.record_value(min(LONGEST, max(SHORTEST, round(seconds * 1e6))))
        self.count += 1
        self._total += seconds

    def at(self, percentile: float) -> float:
        """Return the value at a percentile, in seconds; zero while there is none."""
        return float(self._histogram.get_value_at_percentile(percentile) / 1e6) if self.count else 0.0

    def quantiles(self) -> Quantiles | None:
        """Return what was gathered; None: nothing was."""
        if not self.count:
            return None
        return Quantiles(
            count=self.count,
            mean=self._total / self.count,
            values={f"{percentile:g}": self.at(percentile) for percentile in PERCENTILES},
            histogram=self._histogram.encode().decode(),
        )


class Second(msgspec.Struct, frozen=True):
    """One second of a phase: what was due in it and how long that took; what was answered in it."""

    at: int
    due: int
    ok: int
    failed: int
    p50: float
    p99: float


class ClientSide(msgspec.Struct, frozen=True):
    """How the load generator itself fared."""

    processes: int
    busiest_cpu: float
    """Share of one processor that the busiest client process used."""
    lag: Quantiles | None
    """From due to sent."""


class ServerSide(msgspec.Struct, frozen=True):
    """What the server's own metrics say of the same time; a figure that it does not export is zero or left out."""

    handling_p50: float
    handling_p99: float
    """Between the bounds of a bucket, as histogram_quantile has it."""
    handling_mean: float
    queue_mean: float
    encode_mean: float
    decode_mean: float
    """Per text."""
    rows_mean: float
    target_tokens_per_second: float
    cpu: float
    """Processors used."""
    resident_bytes: float
    event_loop_lag_p99: float
    engine: dict[str, float]
    """Shares of the time in encode, step, host and idle."""
    rejected: dict[str, int]
    finished: dict[str, int]


class PhaseReport(msgspec.Struct, frozen=True):
    """What one phase did."""

    phase: Phase
    seconds: float
    """From its start to its last answer, and at least as long as it was meant to be."""
    sent: int
    ok: int
    errors: dict[str, int]
    """By gRPC code."""
    goodput: float
    """Requests answered well, per second."""
    target_tokens_per_second: float
    latency: Quantiles | None
    """Of requests answered well; in an open loop, from when they were due."""
    refused: Quantiles | None
    """Time to RESOURCE_EXHAUSTED, from when they were sent."""
    first_token: Quantiles | None
    inter_token: Quantiles | None
    shares: dict[str, float]
    """Mean seconds of a request answered well: queue, encode, decode (the server's word), and the rest."""
    timeline: list[Second]
    client: ClientSide
    server: ServerSide | None

    @property
    def error_share(self) -> float:
        """Share of requests that were not answered well."""
        return 1.0 - self.ok / self.sent if self.sent else 0.0


class Verdict(msgspec.Struct, frozen=True):
    """Whether an objective was kept in a phase."""

    phase: str
    objective: str
    actual: float | None
    kept: bool


class Capacity(msgspec.Struct, frozen=True):
    """The highest rate, in requests per second, that kept the objectives, and the rates that were tried."""

    rate: float
    objectives: list[str]
    tried: list[tuple[float, bool]]


class Report(msgspec.Struct, frozen=True):
    """A whole load."""

    server: str
    model: str
    mode: str
    texts_per_request: int
    started: str
    """UTC, ISO 8601."""
    version: str
    command: str
    phases: list[PhaseReport]
    verdicts: list[Verdict]
    capacity: Capacity | None = None
    warnings: list[str] = []
    format: int = FORMAT


def write(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> Report:
    """Read a report; raises PlanError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise PlanError(f"cannot read {path} ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise PlanError(f"{path} is no report of dragoman load ({error}); write one with --json") from error
