"""The server's own figures: its /metrics page before and after a phase, and what lies between."""

import math
import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from service.load.report import ServerSide

FETCH_SECONDS = 5.0
Labels = frozenset[tuple[str, str]]


class Page:
    """Samples of a /metrics page by name and labels; the difference of two pages is one too."""

    def __init__(self, samples: Mapping[tuple[str, Labels], float]) -> None:
        self._samples = samples

    @classmethod
    def read(cls, text: str) -> "Page":
        """Read a page in Prometheus's text format."""
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples})

    def since(self, before: "Page") -> "Page":
        """Return by how much every sample has grown."""
        return Page({key: value - before._samples.get(key, 0.0) for key, value in self._samples.items()})  # noqa: SLF001

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels."""
        wanted = set(labels.items())
        return math.fsum(v for (found, has), v in self._samples.items() if found == name and wanted <= has)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Add up the samples of a name for each value of a label."""
        sums: dict[str, float] = {}
        for (found, labels), value in self._samples.items():
            if found == name:
                key = dict(labels).get(label, "")
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def mean(self, name: str, **labels: str) -> float:
        """Return the mean of a histogram; zero where it is empty."""
        count = self.sum(f"{name}_count", **labels)
        return self.sum(f"{name}_sum", **labels) / count if count else 0.0

    def quantile(self, share: float, name: str, **labels: str) -> float:
        """Return a quantile of a histogram as PromQL's histogram_quantile has it: evenly spread within a bucket."""
        wanted = set(labels.items())
        counts: dict[float, float] = {}
        for (found, has), value in self._samples.items():
            if found == f"{name}_bucket" and wanted <= has:
                bound = float(dict(has)["le"])
                counts[bound] = counts.get(bound, 0.0) + value
        total = counts.get(math.inf, 0.0)
        lower, below = 0.0, 0.0
        for bound, count in sorted(counts.items()):
            if total and count >= share * total:
                inside = (share * total - below) / (count - below) if count > below else 0.0
                return lower if bound == math.inf else lower + (bound - lower) * inside
            lower, below = bound, count
        return 0.0


def fetch(url: str) -> Page:
    """Read a server's page; raises OSError."""
    with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310  the operator's own address
        return Page.read(answer.read().decode())


def server_side(before: Page, after: Page, seconds: float, method: str) -> ServerSide:
    """Say what the server did between two pages that lie so many seconds apart."""
    grown = after.since(before)
    handling = "grpc_server_handling_seconds"
    engine = grown.by("dragoman_engine_seconds_total", "activity")
    whole = math.fsum(engine.values())
    return ServerSide(
        handling_p50=grown.quantile(0.5, handling, grpc_method=method),
        handling_p99=grown.quantile(0.99, handling, grpc_method=method),
        handling_mean=grown.mean(handling, grpc_method=method),
        queue_mean=grown.mean("dragoman_queue_time_seconds"),
        encode_mean=grown.mean("dragoman_encode_seconds"),
        decode_mean=grown.mean("dragoman_decode_seconds"),
        rows_mean=grown.mean("dragoman_batch_rows"),
        target_tokens_per_second=grown.sum("dragoman_target_tokens_total") / seconds,
        cpu=grown.sum("process_cpu_seconds_total") / seconds,
        resident_bytes=after.sum("process_resident_memory_bytes"),
        event_loop_lag_p99=grown.quantile(0.99, "dragoman_event_loop_lag_seconds"),
        engine={name: value / whole for name, value in engine.items()} if whole else {},
        rejected=_counted(grown.by("dragoman_requests_rejected_total", "reason")),
        finished=_counted(grown.by("dragoman_requests_finished_total", "finish_reason")),
    )


def _counted(sums: dict[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in sums.items() if value}
