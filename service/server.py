"""The composition root: what a server is made of, and how it starts, serves, drains and stops."""

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIServer

import grpc
import prometheus_client
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from service import logs, tracing, vitals
from service.admission import Admission
from service.bundle import Manifest
from service.catalog import Catalog, Served
from service.config import Settings
from service.engine.engine import Engine
from service.engine.layout import Layout
from service.engine.scheduler import Limits
from service.errors import EngineFailedError
from service.metrics import Metrics, ModelLabels
from service.models import Loaded
from service.planning import JobLimits
from service.request import Output
from service.rpc import transport
from service.rpc.access import Access, GuardedHealth
from service.rpc.border import Border
from service.rpc.servicer import SERVICE, TranslationServicer
from service.stream import Streams
from service.translator import Translator
from service.watchdog import Watchdog

logger = logging.getLogger(__name__)

LAST_ANSWERS_SECONDS = 0.5
"""Time for answers that are complete to leave, and for health watchers to see NOT_SERVING."""
STALLED = 70
"""Exit status where an engine stands still: EX_SOFTWARE of sysexits.h."""
LIVE = "live"
"""The service whose health is that of the process: an orchestrator asks for it to know whether to start another."""
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server that serves tells its surroundings."""

    address: str
    metrics_url: str
    models: list[str]
    health_address: str | None = None


class Server:
    """One process's server. Belongs to the event loop; `load` alone runs on a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], list[Loaded]],
        log: logs.RequestLog,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """Store what it is made of; `end` ends the process with a status, whatever its threads do."""
        self._settings = settings
        self._end = end
        self._log = log
        self._load = load
        self._metrics = Metrics.create()
        self._health = health.aio.HealthServicer()
        self._watchdog = Watchdog(settings.stall_seconds)
        self._ready, self._alive, self._stalled = False, True, False
        self._access: Access | None = None
        self._spans: tracing.Spans = tracing.NoSpans()
        self._served: list[Served] = []
        self._grpc: grpc.aio.Server | None = None
        self._probed: grpc.aio.Server | None = None
        self._http: WSGIServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.admission = Admission(settings.capacity)

    async def start(self) -> Ready:
        """Listen, load, then serve; raises StartupError."""
        settings = self._settings
        self._access = Access.from_file(settings.clients) if settings.clients else None
        self._spans = tracing.open_spans(settings.otlp_endpoint, settings.trace_share, SERVICE)
        self._grpc = grpc.aio.server(options=transport.server_options(settings))
        address = transport.listen(self._grpc, settings)  # before anything slow is done
        self._http, metrics_url = self._listen_metrics()
        await self._set_health()
        health_address = await self._serve_health()
        loop = asyncio.get_running_loop()
        for loaded in await asyncio.to_thread(self._load):
            self._served.append(self._assemble(loaded, loop))
        gc.freeze()  # what was loaded stays: no collection need look at it again
        self._add_services(self._grpc)
        for served in self._served:
            served.engine.start()
        await self._grpc.start()
        self._ready = True
        await self._set_health()
        self._spawn(self._watchdog.watch(self._report_stalled))
        self._spawn(vitals.watch_loop(self._metrics.loop_lag.add))
        self._metrics.set_limits(settings.max_rows, settings.max_waiting)
        return Ready(
            address=address,
            metrics_url=metrics_url,
            models=[f"{served.name}@{served.version} ({served.provider})" for served in self._served],
            health_address=health_address,
        )

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
        for served in self._served:
            await asyncio.to_thread(served.engine.stop)
        await asyncio.sleep(LAST_ANSWERS_SECONDS)

    async def stop(self) -> None:
        """End everything that was started, and wait for it."""
        if self._grpc is not None:
            await self._grpc.stop(LAST_ANSWERS_SECONDS)
        if self._probed is not None:
            await self._probed.stop(0)
        for task in self._tasks:
            task.cancel()
        for served in self._served:
            await asyncio.to_thread(served.engine.stop)
        if self._http is not None:
            await asyncio.to_thread(self._http.shutdown)
            self._http.server_close()
        await asyncio.to_thread(self._spans.close)

    async def _serve_health(self) -> str | None:
        """Answer health probes on a port of their own, from before the models are loaded; return its address."""
        if (port := self._settings.health_port) is None:
            return None
        self._probed = grpc.aio.server(options=transport.server_options(self._settings))
        address = transport.listen_for_health(self._probed, self._settings.host, port)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
        await self._probed.start()
        return address

    def _listen_metrics(self) -> tuple[WSGIServer, str]:
        """Serve /metrics on a thread of its own; return the server and its URL."""
        host, port = self._settings.host, self._settings.metrics_port
        with transport.listening("--metrics-port", host, port):
            web, _ = prometheus_client.start_http_server(port, host, self._metrics.registry)
            return web, f"http://{transport.address(host, web.server_port)}/metrics"

    def _assemble(self, loaded: Loaded, loop: asyncio.AbstractEventLoop) -> Served:
        """Give a model its engine, and the engine its way back to the event loop: one wake-up per step."""
        streams = Streams()
        card = loaded.model.manifest.model
        labels = ModelLabels(loaded.name, loaded.version, card.family, loaded.provider, card.precision)

        def hand_over(outputs: list[Output]) -> None:
            now = time.monotonic()
            handed = [output.handed_over(now) for output in outputs]
            observer.observe_outputs(handed)
            streams.dispatch(handed)

        def deliver(outputs: list[Output]) -> None:
            loop.call_soon_threadsafe(hand_over, outputs)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._engine_failed, loaded.name, streams, error)

        observer = self._metrics.add_model(labels, loaded.seconds, pending=streams.__len__)
        self._watchdog.add(
            loaded.name, streams.__len__, lambda: sum(observer.step.counts) + sum(observer.encode.counts)
        )
        engine = Engine(
            model=loaded.model,
            limits=self._limits(loaded.model.manifest),
            deliver=deliver,
            observer=observer,
            on_failure=fail,
        )
        return Served(
            name=loaded.name,
            version=loaded.version,
            provider=loaded.provider,
            manifest=loaded.model.manifest,
            tokenizer=loaded.tokenizer,
            engine=engine,
            streams=streams,
        )

    def _limits(self, manifest: Manifest) -> Limits:
        """Return the bounds of a model's engine: caches are bounded in tokens, settings in bytes."""
        token_bytes = Layout.of(manifest).token_bytes
        tokens = self._settings.cache_megabytes * 10**6 // token_bytes if token_bytes else None
        return Limits(max_rows=self._settings.max_rows, max_cache_tokens=tokens)

    def _add_services(self, server: grpc.aio.Server) -> None:
        settings = self._settings
        limits = JobLimits(settings.max_texts_per_request, settings.max_text_bytes, settings.max_rows)
        translator = Translator(self.admission, limits)
        servicer = TranslationServicer(Catalog(self._served), translator, settings.segments_in_flight)
        border = Border(self._metrics, self._log, self._access, self._spans)
        server.add_generic_rpc_handlers((servicer.handlers(border),))
        guarded = self._access if settings.health_access == "clients" else None
        checked = self._health if guarded is None else GuardedHealth(self._health, guarded)
        health_pb2_grpc.add_HealthServicer_to_server(checked, server)
        if settings.mode == "development":
            reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server)

    async def _set_health(self) -> None:
        """Ready: send requests here. Alive: no need to start this process anew; so it is while it loads and drains."""
        ready, alive = self._ready and self._alive and not self._stalled, self._alive and not self._stalled
        for service, holds in ((SERVICE, ready), (health.OVERALL_HEALTH, ready), (LIVE, alive)):
            await self._health.set(service, SERVING if holds else NOT_SERVING)

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
