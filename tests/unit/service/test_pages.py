"""Pages of metrics, made one of many."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service import pages
from service.metrics import Metrics, ModelLabels

SUMMED = {
    "dragoman_max_waiting", "dragoman_native_memory_bytes", "dragoman_requests_running", "dragoman_requests_waiting",
    "process_max_fds", "process_open_fds", "process_resident_memory_bytes", "process_virtual_memory_bytes",
}  # fmt: skip


class Server:
    """A registry with one metric of each kind, as a worker might have it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["grpc_method"]
        self.started = Counter("grpc_server_started", "Started.", labels, registry=self.registry)
        self.handled = Counter("grpc_server_handled", "Ended.", [*labels, "grpc_code"], registry=self.registry)
        self.rows = Gauge("dragoman_max_rows", "Rows.", registry=self.registry)
        self.waiting = Gauge("dragoman_requests_waiting", "Waiting.", ["model"], registry=self.registry)
        self.seconds = Histogram("seconds", "Seconds.", buckets=(1.0, 2.0), registry=self.registry)

    def page(self) -> list[pages.Family]:
        """Return what it shows."""
        return pages.page(self.registry)


def values(page: pages.Page) -> dict[str, float]:
    """Return every line by its name and the values of its labels; not the times of creation."""
    return {
        " ".join([line.name, *(value for _, value in line.labels)]): line.value
        for family in page
        for line in family.samples
        if not line.name.endswith("_created")
    }


def two() -> tuple[Server, Server]:
    """Return two servers that counted different things."""
    one, other = Server(), Server()
    for server, calls in ((one, 2), (other, 3)):
        server.started.labels("Translate").inc(calls)
        server.handled.labels("Translate", "OK").inc(calls - 1)
        server.rows.set(64)
        server.waiting.labels("toy").set(calls)
        server.seconds.observe(calls - 0.5)
    return one, other


def test_workers_are_summed() -> None:
    """Counters, buckets and gauges that count are added up; what only describes stays what it is."""
    one, other = two()
    assert {
        "grpc_server_started_total Translate": 5,
        "grpc_server_handled_total OK Translate": 3,
        "dragoman_max_rows": 64,
        "dragoman_requests_waiting toy": 5,
        "seconds_bucket 1.0": 0,
        "seconds_bucket 2.0": 1,
        "seconds_bucket +Inf": 2,
        "seconds_count": 2,
        "seconds_sum": 4.0,
    } == values(pages.merged([one.page(), other.page()]))


def test_a_worker_that_ended_stays_in_the_sums() -> None:
    """Nothing that was counted goes backwards; its open calls are Unavailable, and gauges go with it."""
    one, other = two()
    before = values(pages.merged([one.page(), other.page()]))
    after = values(pages.merged([one.page(), pages.retired(other.page())]))
    gauges = {name for name in before if name.startswith("dragoman_requests_waiting")}
    assert all(after[name] >= before[name] for name in before.keys() - gauges)
    assert 2 == after["dragoman_requests_waiting toy"]
    assert 1 == after["grpc_server_handled_total Unavailable Translate"]
    ended = values(pages.retired(pages.retired(other.page())))
    assert (
        3
        == ended["grpc_server_started_total Translate"]
        == sum(value for name, value in ended.items() if name.startswith("grpc_server_handled_total"))
    )


def test_the_oldest_creation_counts() -> None:
    """What began first began the sum."""
    one, other = two()
    created = [
        line.value
        for page in (one.page(), other.page())
        for family in page
        for line in family.samples
        if line.name == "seconds_created"
    ]
    (found,) = [
        line.value
        for family in pages.merged([other.page(), one.page()])
        for line in family.samples
        if line.name == "seconds_created"
    ]
    assert min(created) == found


def test_openmetrics_with_exemplars_survives() -> None:
    """A merged page is valid OpenMetrics, and the newest exemplar of a bucket is kept."""
    one, other = two()
    one.seconds.observe(0.5, {"trace_id": "old"})
    other.seconds.observe(0.5, {"trace_id": "new"})
    page = pages.merged([other.page(), one.page()])

    class Shown(Collector):
        def collect(self) -> list[Metric]:
            return list(pages.metrics(page))

    registry = CollectorRegistry()
    registry.register(Shown())
    text: str = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    exemplars = [line.exemplar for family in families for line in family.samples if line.exemplar]
    assert ["new"] == [exemplar.labels["trace_id"] for exemplar in exemplars]
    assert {"seconds", "grpc_server_started", "dragoman_max_rows"} <= {family.name for family in families}


def test_every_gauge_is_decided_on() -> None:
    """A new gauge must be said to be one that is summed over workers, or one that describes."""
    metrics = Metrics.create()
    metrics.add_model(ModelLabels("toy", "1", "reversing", "cpu", "fp32"), 0.1, pending=lambda: 0)
    found = {family.name for family in pages.page(metrics.registry) if family.kind == "gauge"}
    assert set() == found - SUMMED - pages.DESCRIBING
    assert {"dragoman_max_rows", "process_start_time_seconds"} <= found & pages.DESCRIBING


@pytest.mark.parametrize("count", [1, 3])
def test_pages_of_a_real_server_are_merged(count: int) -> None:
    """Of equal workers the sums are multiples, line by line, in the same order."""
    metrics = Metrics.create()
    metrics.add_model(ModelLabels("toy", "1", "reversing", "cpu", "fp32"), 0.1, pending=lambda: 2)
    page = pages.page(metrics.registry)
    merged = pages.merged([page] * count)
    assert [line.name for family in page for line in family.samples] == [
        line.name for family in merged for line in family.samples
    ]
    assert 2 * count == values(merged)["dragoman_requests_waiting toy"]
