"""All metrics, by name, in one place. Labels come from closed sets; times are in seconds."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import (
    DeadlineUnreachableError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExceededError,
    ServiceError,
    UnavailableError,
)
from service.model_metrics import ACTIVITIES, SECONDS, Distribution, ModelMetrics
from service.request import FinishReason
from service.vitals import native_memory

OTHER_MODEL = "other"
"""Label of requests for a model that is not here: clients cannot make labels up."""
REJECTIONS = (
    InvalidRequestError, ModelNotFoundError, OverloadedError, QuotaExceededError, DeadlineUnreachableError,
    UnavailableError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelLabels:
    """What dragoman_model_info tells about a model."""

    model: str
    version: str
    family: str
    provider: str
    precision: str


class MethodMetrics:
    """The counters of one gRPC method."""

    def __init__(self, started: Counter, handled: Counter, handling: Histogram, labels: tuple[str, str, str]) -> None:
        self._started = started.labels(*labels)
        self._handling = handling.labels(*labels)
        self._handled_family = handled
        self._labels = labels
        self._handled: dict[str, Counter] = {}

    def start(self) -> None:
        """Count a call that came in."""
        self._started.inc()

    def finish(self, code: str, seconds: float, trace_id: str = "") -> None:
        """Count a call that ended with this gRPC code; a trace that somebody keeps is its bucket's exemplar."""
        if (counter := self._handled.get(code)) is None:
            counter = self._handled[code] = self._handled_family.labels(*self._labels, code)
        counter.inc()
        self._handling.observe(seconds, {"trace_id": trace_id} if trace_id else None)


class Metrics(Collector):
    """The registry of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._models: list[tuple[str, ModelLabels | None, ModelMetrics]] = []
        """What is held, and per name, without labels, the sum of what was held before."""
        self._versions: Callable[[], Mapping[tuple[str, str], int]] = dict
        self.loop_lag = Distribution(SECONDS)
        """How late timers of the event loop are."""
        labels = ["grpc_type", "grpc_service", "grpc_method"]
        self._started = Counter("grpc_server_started", "RPCs started.", labels, registry=registry)
        self._handled = Counter("grpc_server_handled", "RPCs ended.", [*labels, "grpc_code"], registry=registry)
        self._handling = Histogram(
            "grpc_server_handling_seconds", "Time of RPCs in the server.", labels, buckets=SECONDS, registry=registry
        )
        self._rejected = Counter(
            "dragoman_requests_rejected", "Requests refused before decoding.", ["model", "reason"], registry=registry
        )
        self._load = Gauge("dragoman_model_load_seconds", "Time to load a model.", ["model"], registry=registry)
        self._failures = Counter(
            "dragoman_model_load_failures", "Versions of a model that were refused.", ["model"], registry=registry
        )
        self._max_rows = Gauge("dragoman_max_rows", "Rows that a batch may have.", registry=registry)
        self._max_waiting = Gauge("dragoman_max_waiting", "Texts that may wait for a row.", registry=registry)

    @classmethod
    def create(cls) -> "Metrics":
        """Return the metrics of a new server, those of its process and build among them."""
        metrics = cls(CollectorRegistry())
        ProcessCollector(registry=metrics.registry)
        build = Gauge("dragoman_build_info", "This build.", ["version", "python"], registry=metrics.registry)
        build.labels(version(), platform.python_version()).set(1)
        for error in REJECTIONS:
            metrics._rejected.labels(OTHER_MODEL, error.reason)
        metrics.registry.register(metrics)
        return metrics

    def set_limits(self, max_rows: int, max_waiting: int) -> None:
        """Show how much this server takes."""
        self._max_rows.set(max_rows)
        self._max_waiting.set(max_waiting)

    def add_model(self, labels: ModelLabels, load_seconds: float, pending: Callable[[], int]) -> ModelMetrics:
        """Show a model from now on; return the observer of its engine. `pending` counts the texts in the engine."""
        self._load.labels(labels.model).set(load_seconds)
        for error in REJECTIONS:
            self._rejected.labels(labels.model, error.reason)
        self._failures.labels(labels.model)
        observer = ModelMetrics(pending)
        self._models = [*self._models, (labels.model, labels, observer)]
        return observer

    def remove_model(self, observer: ModelMetrics) -> None:
        """Show a version no more whose engine has ended; what was counted under its model's name stays."""
        (name,) = [name for name, _, one in self._models if one is observer]
        gone = [one for model, labels, one in self._models if model == name and (labels is None or one is observer)]
        others = [shown for shown in self._models if shown[2] not in gone]
        self._models = [*others, (name, None, ModelMetrics.ended(gone))]  # at once: a scrape may be under way

    def show_versions(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """Show how many versions of each model are in each state from now on; `count` is called on any thread."""
        self._versions = count

    def count_load_failure(self, model: str) -> None:
        """Count a version that was refused, whatever the reason."""
        self._failures.labels(model).inc()

    def method(self, service: str, name: str, kind: str = "unary") -> MethodMetrics:
        """Return the counters of one gRPC method."""
        return MethodMetrics(self._started, self._handled, self._handling, (kind, service, name))

    def reject(self, model: str, error: ServiceError) -> None:
        """Count a request that was refused before decoding; other errors are counted where they end."""
        if isinstance(error, REJECTIONS):
            self._rejected.labels(model or OTHER_MODEL, error.reason).inc()

    def collect(self) -> Iterable[Metric]:
        """Yield the families of all models; versions of one model are told apart by dragoman_model_info alone."""
        info = GaugeMetricFamily("dragoman_model_info", "Models held.", labels=[*ModelLabels.__dataclass_fields__])
        for held in dict.fromkeys(labels for _, labels, _ in self._models if labels is not None):
            info.add_metric(dataclasses.astuple(held), 1)
        yield info
        versions = GaugeMetricFamily("dragoman_model_versions", "Versions of a model.", labels=["model", "state"])
        for (name, state), number in self._versions().items():
            versions.add_metric([name, state], number)
        yield versions
        yield self._gauge("dragoman_requests_waiting", "Texts waiting for a row.", lambda model: model.waiting)
        yield self._gauge("dragoman_requests_running", "Texts in the batch.", lambda model: model.running)
        yield self._counter("dragoman_source_tokens", "Source tokens.", lambda model: model.source_tokens)
        yield self._counter("dragoman_target_tokens", "Target tokens.", lambda model: model.target_tokens)
        finished = CounterMetricFamily("dragoman_requests_finished", "Texts ended.", labels=["model", "finish_reason"])
        for reason in FinishReason:
            for name, value in self._sums(lambda model, reason=reason: model.finished[reason]).items():  # type: ignore[misc]
                finished.add_metric([name, reason.value], value)
        yield finished
        yield self._histogram("dragoman_queue_time_seconds", "Arrival to encoding.", lambda model: model.queue_time)
        yield self._histogram("dragoman_encode_seconds", "Encoding of a text.", lambda model: model.encode)
        yield self._histogram("dragoman_step_seconds", "One decoder step of all rows.", lambda model: model.step)
        yield self._histogram(
            "dragoman_time_to_first_token_seconds", "Arrival to the first token.", lambda model: model.first_token
        )
        yield self._histogram(
            "dragoman_inter_token_latency_seconds", "Between two tokens of a text.", lambda model: model.inter_token
        )
        yield self._histogram(
            "dragoman_decode_seconds", "Encoding to the last token's handing over.", lambda model: model.decode
        )
        yield self._histogram("dragoman_batch_rows", "Rows of a decoder step.", lambda model: model.rows)
        engine = CounterMetricFamily("dragoman_engine_seconds", "Engine thread's time.", labels=["model", "activity"])
        for activity in ACTIVITIES:
            for name, value in self._sums(lambda model, activity=activity: model.seconds()[activity]).items():  # type: ignore[misc]
                engine.add_metric([name, activity], value)
        yield engine
        lag = HistogramMetricFamily("dragoman_event_loop_lag_seconds", "How late timers of the event loop are.")
        lag.add_metric([], self.loop_lag.buckets(), self.loop_lag.total)
        yield lag
        if (native := native_memory()) is not None:
            text = "Allocated by native code, ONNX Runtime's memory among it."
            yield GaugeMetricFamily("dragoman_native_memory_bytes", text, native)

    def _sums(self, value: Callable[[ModelMetrics], float]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for name, _, model in self._models:
            sums[name] = sums.get(name, 0) + value(model)
        return sums

    def _gauge(self, name: str, text: str, value: Callable[[ModelMetrics], float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["model"])
        for model, number in self._sums(value).items():
            family.add_metric([model], number)
        return family

    def _counter(self, name: str, text: str, value: Callable[[ModelMetrics], float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=["model"])
        for model, number in self._sums(value).items():
            family.add_metric([model], number)
        return family

    def _histogram(self, name: str, text: str, pick: Callable[[ModelMetrics], Distribution]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=["model"])
        merged: dict[str, Distribution] = {}
        for model, _, observer in self._models:
            part = pick(observer)
            merged.setdefault(model, Distribution(part.bounds)).absorb(part)
        for model, whole in merged.items():
            family.add_metric([model], whole.buckets(), whole.total)
        return family


def version() -> str:
    """Return the installed version of this package."""
    try:
        return importlib.metadata.version("dragoman")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
