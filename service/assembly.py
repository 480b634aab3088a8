"""What a loaded model is given to serve: an engine, a way back to the event loop, metrics, somebody who watches it."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from service.bundle import Manifest
from service.catalog import Served
from service.config import Settings
from service.delivery import Delivery
from service.engine.device.batch import AnyModel
from service.engine.engine import Engine
from service.engine.fleet import Fleet
from service.engine.layout import Layout
from service.engine.scheduler import Limits
from service.metrics import Metrics, ModelLabels
from service.model_metrics import ModelMetrics
from service.models import Loaded
from service.request import Output
from service.stream import Streams
from service.watchdog import Watchdog


class Assembly:
    """Puts models up and takes them down; the Surroundings of a ModelManager. Belongs to the event loop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        watchdog: Watchdog,
        engine_failed: Callable[[str, Streams, BaseException], None],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """Store what models are given; `engine_failed` is called on the event loop."""
        self._settings = settings
        self._metrics = metrics
        self._watchdog = watchdog
        self._engine_failed = engine_failed
        self._changed = changed
        self._observers: dict[Served, list[ModelMetrics]] = {}

    def put_up(self, loaded: Loaded) -> Served:
        """Give a model an engine on each device, and the engines their way back to the event loop."""
        streams, observers = Streams(), list[ModelMetrics]()
        engines = [self._engine(loaded, model, streams, observers) for model in loaded.models]
        served = Served(
            name=loaded.name,
            version=loaded.version,
            provider=loaded.provider,
            manifest=loaded.manifest,
            tokenizer=loaded.tokenizer,
            engine=engines[0] if len(engines) == 1 else Fleet(engines),
            streams=streams,
        )
        self._observers[served] = observers
        served.engine.start()
        for engine in engines if self._settings.engine_nice else ():
            if engine.thread_id is not None:
                os.setpriority(os.PRIO_PROCESS, engine.thread_id, self._settings.engine_nice)
        return served

    def _engine(self, loaded: Loaded, model: AnyModel, streams: Streams, observers: list[ModelMetrics]) -> Engine:
        """Make one of a model's engines: one wake-up of the event loop per step."""
        loop, card = asyncio.get_running_loop(), model.manifest.model
        labels = ModelLabels(loaded.name, loaded.version, card.family, loaded.provider, card.precision)

        def hand_out(outputs: list[Output]) -> None:
            observer.observe_outputs(outputs)
            streams.dispatch(outputs)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._engine_failed, loaded.name, streams, error)

        def pending() -> int:
            return len(streams) if len(loaded.models) == 1 else engine.inside

        observer = self._metrics.add_model(labels, loaded.seconds, pending)
        engine = Engine(model, self._limits(model.manifest), Delivery(loop, hand_out), observer, fail)
        observers.append(observer)
        self._watchdog.add(loaded.name, pending, lambda: sum(observer.step.counts) + sum(observer.encode.counts))
        return engine

    def take_down(self, served: Served) -> None:
        """Forget a model whose engines have ended; what was counted stays counted."""
        for observer in self._observers.pop(served):
            self._watchdog.remove(observer.pending)
            self._metrics.remove_model(observer)
            observer.pending = lambda: 0  # the engine's own count would keep the engine, and its model, alive

    def refused(self, name: str) -> None:
        """Count a version of this model that could not be loaded."""
        self._metrics.count_load_failure(name)

    async def changed(self) -> None:
        """Say that other models are held now."""
        await self._changed()

    def _limits(self, manifest: Manifest) -> Limits:
        """Return the bounds of a model's engine: caches are bounded in tokens, settings in bytes."""
        token_bytes = Layout.of(manifest).token_bytes
        tokens = self._settings.cache_megabytes * 10**6 // token_bytes if token_bytes else None
        return Limits(max_rows=self._settings.max_rows, max_cache_tokens=tokens)
