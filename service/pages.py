"""Pages of metrics: taken from a registry to travel from a worker to its parent, and many made one.

Workers are summed, so one target stays one instance to rules and dashboards. Counters and histograms of a worker that
ended stay in the sums, so that no sum goes backwards; what it was doing then counts as what its clients were told.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Exemplar

DESCRIBING = {
    "dragoman_build_info", "dragoman_gpu_memory_bytes", "dragoman_gpu_memory_used_bytes",
    "dragoman_gpu_utilization_ratio", "dragoman_max_rows", "dragoman_model_info", "dragoman_model_load_seconds",
    "dragoman_model_versions", "process_start_time_seconds",
}  # fmt: skip
"""Gauges of which workers have the same, or the newest counts: the largest stands for all. Other gauges are summed."""
COUNTED = ("counter", "histogram")
STARTED, HANDLED = "grpc_server_started_total", "grpc_server_handled_total"
LOST = ("grpc_code", "Unavailable")

Labels: TypeAlias = tuple[tuple[str, str], ...]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One line of a page. The exemplar: labels, value, time."""

    name: str
    labels: Labels
    value: float
    exemplar: tuple[dict[str, str], float, float] | None = None


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric's lines."""

    name: str
    documentation: str
    kind: str
    samples: list[Sample]


Page: TypeAlias = Sequence[Family]


def page(registry: CollectorRegistry) -> list[Family]:
    """Return what a registry shows now."""
    return [
        Family(found.name, found.documentation, found.type, [_sample(*line) for line in found.samples])
        for found in registry.collect()
    ]


def merged(pages: Iterable[Page]) -> list[Family]:
    """Return one page of many."""
    families: dict[str, tuple[Family, dict[tuple[str, Labels], Sample]]] = {}
    for family in (family for page in pages for family in page):
        _, lines = families.setdefault(family.name, (family, {}))
        for sample in family.samples:
            key = sample.name, sample.labels
            lines[key] = _joined(family, lines[key], sample) if key in lines else sample
    return [Family(one.name, one.documentation, one.kind, list(lines.values())) for one, lines in families.values()]


def retired(page: Page) -> list[Family]:
    """Return what stays of a worker that ended: what it counted, and the calls that it left as Unavailable."""
    values = {(sample.name, sample.labels): sample.value for family in page for sample in family.samples}
    open_calls = {labels: value for (name, labels), value in values.items() if name == STARTED}
    for (name, labels), value in values.items():
        if name == HANDLED:
            open_calls[tuple(label for label in labels if label[0] != LOST[0])] -= value
    lost = [Sample(HANDLED, tuple(sorted((*labels, LOST))), left) for labels, left in open_calls.items() if left > 0]
    kept = [family for family in page if family.kind in COUNTED]
    return merged([kept, [Family(HANDLED.removesuffix("_total"), "RPCs ended.", "counter", lost)]])


def metrics(page: Page) -> Iterable[Metric]:
    """Return the page as a registry's collector yields it."""
    for family in page:
        shown = Metric(family.name, family.documentation, family.kind)
        for sample in family.samples:
            exemplar = Exemplar(*sample.exemplar) if sample.exemplar else None
            shown.add_sample(sample.name, dict(sample.labels), sample.value, exemplar=exemplar)
        yield shown


def _sample(name: str, labels: dict[str, str], value: float, _: Any, exemplar: Exemplar | None, *__: Any) -> Sample:  # noqa: ANN401  of the library's line
    kept = (dict(exemplar.labels), exemplar.value, float(exemplar.timestamp or 0)) if exemplar else None
    return Sample(name, tuple(sorted(labels.items())), value, kept)


def _joined(family: Family, one: Sample, other: Sample) -> Sample:
    value = {"sum": one.value + other.value, "max": max(one.value, other.value), "min": min(one.value, other.value)}
    exemplar = max((one.exemplar, other.exemplar), key=lambda kept: kept[2] if kept else 0.0)
    return Sample(one.name, one.labels, value[_rule(family, one)], exemplar)


def _rule(family: Family, sample: Sample) -> Literal["sum", "max", "min"]:
    """Return how two workers' values become one; a counter is as old as its oldest part."""
    if sample.name.endswith("_created"):
        return "min"
    return "max" if family.name in DESCRIBING else "sum"
