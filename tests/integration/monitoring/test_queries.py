"""Every expression of dashboard, rules and alerts, asked of the real Prometheus that scrapes a server under load."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.gpu_vitals import GpuVitals
from tests.integration.monitoring import dashboard
from tests.integration.monitoring.prometheus import Prometheus, missing
from tests.nvml import RecordedNvml
from tests.serving import LiveServer, loaded, reversing, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing("prometheus")), reason=missing("prometheus")),
]

LOAD_SECONDS = 8.0
PANELS = dashboard.panels()
NOT_SHOWN = {
    "process_virtual_memory_bytes": "reserved addresses say nothing; resident and native memory are shown",
}
"""What is exported and stands on no panel, each with its reason."""


def call(live: LiveServer, text: str, timeout: float, model: str = "") -> str:
    """Send one text; return the code that it ended with."""
    try:
        live.stub.Translate(pb.TranslateRequest(texts=[text], model=model), timeout=timeout)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def drive(live: LiveServer) -> set[str]:
    """Keep a small server busy for a while, with good calls, bad ones, late ones and too many; return their codes."""
    codes = set()
    end = time.monotonic() + LOAD_SECONDS
    with ThreadPoolExecutor(24) as clients:
        while time.monotonic() < end:
            good = [clients.submit(call, live, "abcdefgh", 20.0) for _ in range(20)]
            late = clients.submit(call, live, "abcdefghijklmnop", 0.01)
            bad = clients.submit(call, live, "abc", 20.0, "made-up")
            codes |= {one.result() for one in (*good, late, bad)}
            codes |= {call(live, "abcd", 20.0) for _ in range(4)}
    return codes


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that has watched a server under load."""
    model = reversing(lambda rows: time.sleep(0.002))
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        LiveServer([loaded(model)], max_rows=4, max_waiting=8) as live,
        Prometheus(folder, live.ready.metrics_url) as started,
    ):
        live.server.watch_gpus(GpuVitals(RecordedNvml()))
        codes = drive(live)
        assert {"OK", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"} == codes
        wait_until(lambda: bool(started.query("dragoman:failed:ratio5m > 0")), "rules are evaluated")
        yield started


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_has_data(prometheus: Prometheus, panel: dashboard.Panel) -> None:
    """Each of a panel's expressions runs and gives a number."""
    empty = [expression for expression in panel.expressions if not prometheus.query(expression)]
    assert [] == empty


def test_every_rule_runs(prometheus: Prometheus) -> None:
    """Recording rules and alerts are evaluated without an error, and all that is recorded has data."""
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), "all rules were evaluated")
    rules = prometheus.rules()
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [] == [rule["query"] for rule in rules if rule.get("lastError")]
    assert [] == [name for name in recorded if not prometheus.query(name)]
    assert [] == [
        rule["query"] for rule in rules if rule["type"] == "recording" and not prometheus.query(rule["query"])
    ]
    for rule in rules:
        prometheus.query(rule["query"])  # an alert has no data while nothing is wrong
    expressions = sum(len(panel.expressions) for panel in PANELS)
    ran = f"{len(recorded)} recording rules and {len(rules) - len(recorded)} alerts"
    sys.stdout.write(f"{expressions} expressions of {len(PANELS)} panels, {ran} ran\n")


def test_what_is_named_exists(prometheus: Prometheus) -> None:
    """Every metric that an alert, a rule or a panel names is one that Prometheus has seen."""
    expressions = [rule["query"] for rule in prometheus.rules()]
    expressions += [expression for panel in PANELS for expression in panel.expressions]
    named = set().union(*map(dashboard.metrics_in, expressions))
    seen = {dashboard.base(name) for name in prometheus.names()}
    assert set() == named - seen


def test_what_is_exported_is_shown(prometheus: Prometheus) -> None:
    """Whatever the server exports stands on a panel, by itself or through a recording rule, or is listed as not."""
    recorded = {rule["name"]: rule["query"] for rule in prometheus.rules() if rule["type"] == "recording"}
    expressions = [expression for panel in PANELS for expression in panel.expressions]
    shown = set().union(*map(dashboard.metrics_in, expressions))
    shown |= set().union(*(dashboard.metrics_in(recorded[name]) for name in shown & recorded.keys()))
    exported = {
        dashboard.base(name) for name in prometheus.names()
        if name.startswith(("dragoman_", "grpc_", "process_")) and not name.endswith("_created")
    }  # fmt: skip
    assert NOT_SHOWN.keys() == exported - shown


def test_variables_have_values(prometheus: Prometheus) -> None:
    """The menus of the dashboard are filled from metrics that exist."""
    queries = [one["definition"] for one in dashboard.read()["templating"]["list"] if one["type"] == "query"]
    metrics = [dashboard.filled(query).removeprefix("label_values(").rpartition(",")[0] for query in queries]
    assert 2 == len(metrics)
    assert [] == [metric for metric in metrics if not prometheus.query(metric)]
