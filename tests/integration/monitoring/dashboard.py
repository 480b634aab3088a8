"""The dashboard as a list of panels and expressions."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.integration.monitoring.prometheus import MONITORING

VARIABLES = {"$instance": ".+", "$model": ".+", "$__rate_interval": "15s"}
NAMES = re.compile(r"\b(?:dragoman[_:]|grpc_server_|process_)[\w:]*|\bup\b(?=\{)")


@dataclass(frozen=True, slots=True)
class Panel:
    """What a panel shows, and what Prometheus is asked for it."""

    title: str
    description: str
    kind: str
    unit: str
    legends: list[str]
    expressions: list[str]
    links: list[str]


def panels() -> list[Panel]:
    """Return all panels but the headings of rows, their variables filled in."""
    return [_panel(found) for found in read()["panels"] if found["type"] != "row"]


def read() -> dict[str, Any]:
    """Return the dashboard as it is."""
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def filled(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names, the parts of histograms by the name of the whole."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return {base(name) for name in NAMES.findall(bare)}


def base(name: str) -> str:
    """Return the name of a metric without what its parts append."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def _panel(found: dict[str, Any]) -> Panel:
    return Panel(
        title=found["title"],
        description=found["description"],
        kind=found["type"],
        unit=found["fieldConfig"]["defaults"].get("unit", ""),
        legends=[target["legendFormat"] for target in found["targets"]],
        expressions=[filled(target["expr"]) for target in found["targets"]],
        links=[link["url"] for link in found.get("links", [])],
    )
