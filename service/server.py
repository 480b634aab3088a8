"""The composition root: what a server is made of, and how it starts, serves, drains and stops."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from service import gpu_vitals, logs, pages, tracing, vitals
from service.admission import Admission
from service.assembly import Assembly
from service.catalog import Catalog
from service.config import Settings
from service.errors import EngineFailedError
from service.link import Beat, Ready
from service.metrics import Metrics
from service.model_manager import Bounds, ModelManager
from service.models import Source
from service.planning import JobLimits
from service.rpc import transport
from service.rpc.access import Access
from service.rpc.batches import open_server
from service.rpc.border import Border
from service.rpc.door import add_methods
from service.rpc.health import SERVICE, Probes, tell
from service.rpc.metrics_port import MetricsServer
from service.rpc.model_servicer import ModelServicer
from service.rpc.servicer import AllTexts, NoTexts, TranslationServicer
from service.stream import Streams
from service.translator import Translator
from service.versions import Versions
from service.watchdog import Watchdog

logger = logging.getLogger(__name__)

LAST_ANSWERS_SECONDS = 0.5
"""Time for answers that are complete to leave, and for health watchers to see NOT_SERVING."""
STALLED = 70
"""Exit status where an engine stands still: EX_SOFTWARE of sysexits.h."""


class Server:
    """One process's server. Belongs to the event loop; `source` alone is asked on threads."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        log: logs.RequestLog,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """Store what it is made of; `end` ends the process with a status, whatever its threads do.

        Raises SettingError.
        """
        self._settings = settings
        self._end = end
        self._log = log
        self._metrics = Metrics.create()
        self._health = health.aio.HealthServicer()
        self._watchdog = Watchdog(settings.stall_seconds)
        self._ready, self._alive, self._stalled = False, True, False
        self._started = asyncio.Event()
        self._access: Access | None = None
        self._spans: tracing.Spans = tracing.NoSpans()
        self._grpc: grpc.aio.Server | None = None
        self._probed: grpc.aio.Server | None = None
        self._operated: grpc.aio.Server | None = None
        self._http: MetricsServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.admission = Admission(settings.capacity)
        versions = Versions.from_setting(settings.models)
        self._catalog = Catalog(default=versions.default)
        assembly = Assembly(settings, self._metrics, self._watchdog, self._engine_failed, self._set_health)
        bounds = Bounds(settings.model_megabytes * 10**6 or None, settings.drain_seconds)
        self._manager = ModelManager(source, versions, self._catalog, assembly, bounds)
        self._metrics.show_versions(self._manager.count)

    async def start(self) -> Ready:
        """Listen, load, then serve; raises StartupError."""
        settings = self._settings
        self._access = Access.from_file(settings.clients) if settings.clients else None
        self._spans = tracing.open_spans(settings.otlp_endpoint, settings.trace_share, SERVICE)
        self._grpc = open_server(transport.server_options(settings, shared=settings.is_worker))
        address = metrics_url = ""
        if not settings.is_worker:
            address = transport.listen(self._grpc, settings)  # before anything slow is done
            registry, host, port = self._metrics.registry, settings.host, settings.metrics_port
            self._http, metrics_url = transport.listen_for_metrics(registry, host, port)
        if settings.log_texts == "always":
            logger.warning("TEXTS AND TRANSLATIONS ENTER THE LOG (log_texts); whoever reads the log reads them")
        await self._set_health()
        self._probed, health_address = await transport.serve_health(self._health, settings)
        await self._manager.start()
        gc.freeze()  # what was loaded stays: no collection need look at it again
        self._add_services(self._grpc)
        if settings.is_worker:  # the others take what connects until it can serve
            address = transport.listen(self._grpc, settings)
        await self._grpc.start()
        await self._serve_operator()
        self._ready = True
        self._started.set()
        await self._set_health()
        self._spawn(self._watchdog.watch(self._report_stalled))
        self._spawn(vitals.watch_loop(self._metrics.loop_lag.add))
        self.watch_gpus(gpu_vitals.open_gpus())
        if settings.model_poll_seconds:
            self._spawn(self._manager.poll(settings.model_poll_seconds))
        self._metrics.set_limits(settings.max_rows, settings.max_waiting)
        return Ready(
            address=address,
            metrics_url=metrics_url,
            models=[f"{served.name}@{served.version} ({served.provider})" for served in self._catalog.models],
            health_address=health_address,
        )

    def watch_gpus(self, gpus: gpu_vitals.GpuVitals | None) -> None:
        """Show GPUs in the metrics, if there are any."""
        if gpus is not None:
            self._metrics.registry.register(gpus)

    def reload(self) -> None:
        """Begin to hold what the repository has now, as soon as the server has started."""
        self._spawn(self._reload())

    async def _reload(self) -> None:
        await self._started.wait()
        await self._manager.reload()

    def beat(self) -> Beat:
        """Return how it is, with all metrics, for the parent of a worker."""
        return Beat(self._is_ready, self._is_alive, pages.page(self._metrics.registry))

    async def drain(self) -> None:
        """Be not ready any more, serve on for a while, then refuse what is new and let finish what runs."""
        settings = self._settings
        logger.info("draining", extra={logs.FIELDS: {"texts": self.admission.admitted}})
        self._ready = False
        await self._set_health()
        await asyncio.sleep(settings.grace_seconds)
        self.admission.close("this server is shutting down; send the request to another one")
        try:
            await asyncio.wait_for(self.admission.idle(), settings.drain_seconds)
        except TimeoutError:
            logger.warning("still running; ending it", extra={logs.FIELDS: {"texts": self.admission.admitted}})

    async def leave(self) -> None:
        """Come to rest with the port open, as the last thing before the process ends and closes it.

        A call that arrives at that moment fails as UNAVAILABLE, and its client tries another server; stopping gRPC
        would end it as CANCELLED, which no client retries.
        """
        await self._manager.close()
        await asyncio.sleep(LAST_ANSWERS_SECONDS)

    async def stop(self) -> None:
        """End everything that was started, and wait for it."""
        if self._grpc is not None:
            await self._grpc.stop(LAST_ANSWERS_SECONDS)
        for other in (self._probed, self._operated):
            if other is not None:
                await other.stop(0)
        for task in self._tasks:
            task.cancel()
        await self._manager.close()
        if self._http is not None:
            await asyncio.to_thread(self._http.shutdown)
            self._http.server_close()
        await asyncio.to_thread(self._spans.close)

    def _add_services(self, server: grpc.aio.Server) -> None:
        settings = self._settings
        limits = JobLimits(settings.max_texts_per_request, settings.max_text_bytes, settings.max_rows)
        translator = Translator(self.admission, limits)
        texts = AllTexts() if settings.log_texts == "always" else NoTexts()
        servicer = TranslationServicer(self._catalog, translator, settings.segments_in_flight, texts)
        border = Border(self._metrics, self._log, self._access, self._spans)
        add_methods(server, SERVICE, servicer.methods(border))
        guarded = self._access if settings.health_access == "clients" else None
        server.add_generic_rpc_handlers((Probes(self._health, guarded).handlers(),))
        if settings.mode == "development":
            reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server)

    async def _serve_operator(self) -> None:
        """Answer ModelService on a socket of its own, if one is set."""
        if (path := self._settings.admin_socket) is not None:
            self._operated = open_server(transport.server_options(self._settings))
            transport.listen_for_operator(self._operated, path)
            border = Border(self._metrics, self._log)
            self._operated.add_generic_rpc_handlers((ModelServicer(self._manager).handlers(border),))
            await self._operated.start()

    @property
    def _is_alive(self) -> bool:
        return self._alive and not self._stalled

    @property
    def _is_ready(self) -> bool:
        return self._ready and self._is_alive and bool(self._catalog.models)

    async def _set_health(self) -> None:
        await tell(self._health, ready=self._is_ready, alive=self._is_alive)

    async def _report_stalled(self, models: list[str]) -> None:
        """Let health say that engines stand still, or that they get on again."""
        self._stalled = bool(models)
        await self._set_health()
        if not models:
            logger.warning("the engines get on again")
            return
        logger.critical("engines stand still", extra={logs.FIELDS: {"models": models}})
        if self._settings.stall_action == "exit":
            self._end(STALLED)

    def _engine_failed(self, model: str, streams: Streams, error: BaseException) -> None:
        """Never a dead thread behind a live port: health says so, and nobody waits for it any more."""
        logger.critical("an engine ended; restart this server", extra={logs.FIELDS: {"model": model, "cause": error}})
        self._alive = False
        self.admission.close(f"the engine of {model} failed; send the request to another server")
        streams.fail(EngineFailedError("the engine failed while it decoded this; the log says why"))
        self._spawn(self._set_health())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
