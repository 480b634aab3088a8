"""Alerts by promtool's own unit tests, and that each alert has them, a section in the runbook, and a severity."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from service.config import Settings
from tests.integration.monitoring import dashboard
from tests.integration.monitoring.prometheus import MONITORING, missing

needs_promtool = pytest.mark.skipif(bool(missing("promtool")), reason=missing("promtool"))


def read(name: str) -> dict[str, Any]:
    """Return a YAML file of deploy/monitoring."""
    found: dict[str, Any] = msgspec.yaml.decode((MONITORING / name).read_bytes())
    return found


def alerts() -> list[dict[str, Any]]:
    """Return all alerts."""
    return [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


def cases() -> Iterator[tuple[str, bool]]:
    """Yield (alert, whether it is expected to fire) for each case of the unit tests."""
    for test in read("alerts_test.yml")["tests"]:
        for case in test["alert_rule_test"]:
            firing = len(case["exp_alerts"])
            servers = {
                found
                for one in test["input_series"]
                for found in re.findall(r'(?:instance|model)="([\w-]+)"', one["series"])
            }
            yield case["alertname"], bool(firing)
            if 0 < firing < len(servers):  # the others are expected to be quiet
                yield case["alertname"], False


def sections() -> set[str]:
    """Return the anchors of the runbook's sections."""
    return {title.lower() for title in re.findall(r"^## (\w+)$", (MONITORING / "runbook.md").read_text(), re.MULTILINE)}


@needs_promtool
def test_rules_are_valid() -> None:
    """Promtool finds nothing wrong with configuration, rules and alerts."""
    command = [shutil.which("promtool") or "", "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)  # noqa: S603
    assert 0 == done.returncode, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    """All unit tests of the alerts pass."""
    command = [shutil.which("promtool") or "", "test", "rules", "alerts_test.yml"]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)  # noqa: S603
    assert 0 == done.returncode, done.stdout + done.stderr
    firing = sum(fires for _, fires in cases())
    quiet = sum(not fires for _, fires in cases())
    sys.stdout.write(f"{len(alerts())} alerts: {firing} tests see one firing, {quiet} see one quiet\n")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_is_tested_both_ways(alert: dict[str, Any]) -> None:
    """It is seen firing, and seen quiet."""
    assert {True, False} == {fires for name, fires in cases() if name == alert["alert"]}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """It has a severity, a summary, and a section in the runbook under its own name."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
    assert f"deploy/monitoring/runbook.md#{alert['alert'].lower()}" == alert["annotations"]["runbook_url"]
    assert alert["alert"].lower() in sections()


def test_runbook_knows_no_other_alerts() -> None:
    """A section whose alert is gone goes too."""
    assert {alert["alert"].lower() for alert in alerts()} == sections()


@pytest.mark.parametrize("panel", dashboard.panels(), ids=lambda panel: panel.title)
def test_panels_explain_themselves(panel: dashboard.Panel) -> None:
    """Each has a title, a description and a unit, and its links lead to sections that exist."""
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.unit or panel.kind in {"table", "heatmap"}
    assert set() == {link.partition("#")[2] for link in panel.links} - sections()


def test_panels_do_not_overlap() -> None:
    """The grid is 24 wide; no two panels take the same place."""
    taken = [
        (x, y)
        for panel in dashboard.read()["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert 24 > max(x for x, _ in taken)


def test_compose_brings_up_what_is_there() -> None:
    """Every file that it mounts exists, and Prometheus asks the service by its name, on the default port."""
    folder = MONITORING.parent
    services = msgspec.yaml.decode((folder / "compose.yaml").read_bytes())["services"]
    mounted = [volume.split(":")[0] for one in services.values() for volume in one.get("volumes", [])]
    assert [] == [path for path in mounted if path.startswith(".") and not (folder / path).exists()]
    (scraped,) = read("prometheus.yml")["scrape_configs"]
    assert [{"targets": [f"dragoman:{Settings().metrics_port}"]}] == scraped["static_configs"]
    assert {"dragoman", "prometheus", "grafana"} == services.keys()
    (source,) = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert "http://prometheus:9090" == source["url"]
    (provider,) = read("grafana/provisioning/dashboards/dragoman.yml")["providers"]
    dashboards = [volume for volume in services["grafana"]["volumes"] if provider["options"]["path"] in volume]
    assert ["./monitoring/dashboard.json"] == [volume.split(":")[0] for volume in dashboards]
