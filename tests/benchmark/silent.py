"""`dragoman` with a server that counts nothing: `python -m tests.benchmark.silent serve`."""

import sys
from collections.abc import Callable
from typing import Any, cast

from service import cli, server
from service.errors import ServiceError
from service.metrics import MethodMetrics, Metrics, ModelLabels
from service.model_metrics import ModelMetrics


class SilentMethod(MethodMetrics):
    """Counts no calls."""

    def start(self) -> None:
        """Count nothing."""

    def finish(self, code: str, seconds: float, trace_id: str = "") -> None:
        """Count nothing."""


class SilentMetrics(Metrics):
    """Names all metrics and moves none."""

    def add_model(self, labels: ModelLabels, load_seconds: float, pending: Callable[[], int]) -> ModelMetrics:
        """Return an observer that notes nothing."""
        observer = super().add_model(labels, load_seconds, pending)
        cast("Any", observer).observe_step = cast("Any", observer).observe_outputs = _nothing
        return observer

    def method(self, service: str, name: str, kind: str = "unary") -> MethodMetrics:
        """Return counters that stand still."""
        return SilentMethod(self._started, self._handled, self._handling, (kind, service, name))

    def reject(self, model: str, error: ServiceError) -> None:
        """Count nothing."""


def _nothing(_: object) -> None:
    """Note nothing."""


if __name__ == "__main__":
    cast("Any", server).Metrics = SilentMetrics
    sys.exit(cli.main())
