"""The composition root: what a server is made of, and how it starts, serves, drains and stops."""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import grpc
import prometheus_client
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from service import bundle, logs
from service.admission import Admission
from service.catalog import Catalog, Served
from service.config import Settings
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import Model, OnnxModel
from service.errors import EngineFailedError, StartupError
from service.metrics import Metrics, ModelLabels
from service.planning import JobLimits
from service.repository import find_bundles
from service.request import Output
from service.rpc.border import Border
from service.rpc.servicer import SERVICE, TranslationServicer
from service.stream import Streams
from service.tokenizer import Tokenizer
from service.translator import Translator

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4 << 20
LAST_ANSWERS_SECONDS = 0.5
"""Time for answers that are complete to leave, and for health watchers to see NOT_SERVING."""
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    name: str
    version: str
    provider: str
    model: Model
    tokenizer: Tokenizer
    seconds: float


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server that serves tells its surroundings."""

    address: str
    metrics_url: str
    models: list[str]


def load_models(settings: Settings) -> list[Loaded]:
    """Load every bundle of the repository; raises StartupError."""
    return [_load(folder, settings) for folder in find_bundles(settings.model_repository)]


def run(
    settings: Settings, announce: Callable[[Ready], None], load: Callable[[Settings], list[Loaded]] = load_models
) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises StartupError."""
    log = logs.configure(settings.log_format, settings.log_level, sys.stderr)
    asyncio.run(_serve(Server(settings, functools.partial(load, settings), log), announce))
    return 0


class Server:
    """One process's server. Belongs to the event loop; `load` alone runs on a thread of its own."""

    def __init__(self, settings: Settings, load: Callable[[], list[Loaded]], log: logs.RequestLog) -> None:
        self._settings = settings
        self._log = log
        self._load = load
        self._metrics = Metrics.create()
        self._health = health.aio.HealthServicer()
        self._served: list[Served] = []
        self._grpc: grpc.aio.Server | None = None
        self._http: WSGIServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.admission = Admission(settings.capacity)

    async def start(self) -> Ready:
        """Listen, load, then serve; raises StartupError."""
        self._grpc, address = self._listen()
        self._http, metrics_url = self._listen_metrics()
        await self._set_health(NOT_SERVING)
        loop = asyncio.get_running_loop()
        for loaded in await asyncio.to_thread(self._load):
            self._served.append(self._assemble(loaded, loop))
        gc.freeze()  # what was loaded stays: no collection need look at it again
        self._add_services(self._grpc)
        for served in self._served:
            served.engine.start()
        await self._grpc.start()
        await self._set_health(SERVING)
        return Ready(
            address=address,
            metrics_url=metrics_url,
            models=[f"{served.name}@{served.version} ({served.provider})" for served in self._served],
        )

    async def drain(self) -> None:
        """Refuse what is new, and give what runs its time to finish."""
        logger.info("draining", extra={logs.FIELDS: {"texts": self.admission.admitted}})
        await self._health.enter_graceful_shutdown()
        self.admission.close("this server is shutting down; send the request to another one")
        try:
            await asyncio.wait_for(self.admission.idle(), self._settings.drain_seconds)
        except TimeoutError:
            logger.warning("still running; ending it", extra={logs.FIELDS: {"texts": self.admission.admitted}})

    async def stop(self) -> None:
        """End everything that was started, and wait for it."""
        if self._grpc is not None:
            await self._grpc.stop(LAST_ANSWERS_SECONDS)
        for served in self._served:
            await asyncio.to_thread(served.engine.stop)
        if self._http is not None:
            await asyncio.to_thread(self._http.shutdown)
            self._http.server_close()

    def _listen(self) -> tuple[grpc.aio.Server, str]:
        """Take the gRPC port before anything slow is done; return the server and its address."""
        host, port = self._settings.host, self._settings.port
        # Without this, a second server on the same port would silently take half of the first one's clients.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        server = grpc.aio.server(options=options)
        with _listening("--port", host, port):
            _probe(host, port)
            return server, _address(host, server.add_insecure_port(_address(host, port)))

    def _listen_metrics(self) -> tuple[WSGIServer, str]:
        """Serve /metrics on a thread of its own; return the server and its URL."""
        host, port = self._settings.host, self._settings.metrics_port
        with _listening("--metrics-port", host, port):
            web, _ = prometheus_client.start_http_server(port, host, self._metrics.registry)
            return web, f"http://{_address(host, web.server_port)}/metrics"

    def _assemble(self, loaded: Loaded, loop: asyncio.AbstractEventLoop) -> Served:
        """Give a model its engine, and the engine its way back to the event loop: one wake-up per step."""
        streams = Streams()
        card = loaded.model.manifest.model
        labels = ModelLabels(loaded.name, loaded.version, card.family, loaded.provider, card.precision)

        def deliver(outputs: list[Output]) -> None:
            loop.call_soon_threadsafe(streams.dispatch, outputs)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(self._engine_failed, loaded.name, streams, error)

        engine = Engine(
            model=loaded.model,
            limits=Limits(max_rows=self._settings.max_rows),
            deliver=deliver,
            observer=self._metrics.add_model(labels, loaded.seconds, pending=streams.__len__),
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

    def _add_services(self, server: grpc.aio.Server) -> None:
        settings = self._settings
        limits = JobLimits(settings.max_texts_per_request, settings.max_text_bytes, settings.max_rows)
        translator = Translator(self.admission, limits)
        servicer = TranslationServicer(Catalog(self._served), translator, settings.segments_in_flight)
        server.add_generic_rpc_handlers((servicer.handlers(Border(self._metrics, self._log)),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server)

    async def _set_health(self, status: int) -> None:
        for service in (SERVICE, health.OVERALL_HEALTH):
            await self._health.set(service, status)

    def _engine_failed(self, model: str, streams: Streams, error: BaseException) -> None:
        """Never a dead thread behind a live port: health says so, and nobody waits for it any more."""
        logger.critical("an engine ended; restart this server", extra={logs.FIELDS: {"model": model, "cause": error}})
        self.admission.close(f"the engine of {model} failed; send the request to another server")
        streams.fail(EngineFailedError("the engine failed while it decoded this; the log says why"))
        task = asyncio.create_task(self._set_health(NOT_SERVING))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(server: Server, announce: Callable[[Ready], None]) -> None:
    """Start, wait for a signal, drain, stop. A signal counts from the first moment on, while loading too."""
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    waiting = asyncio.create_task(signalled.wait())
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            ready = starting.result()
            announce(ready)
            logger.info("ready", extra={logs.FIELDS: dataclasses.asdict(ready)})
            await waiting
            await server.drain()
    finally:
        starting.cancel()
        waiting.cancel()
        await server.stop()


def _load(folder: Path, settings: Settings) -> Loaded:
    started = time.monotonic()
    read = bundle.load(folder)
    model = OnnxModel.load(read, settings.provider, settings.run_threads)
    tokenizer = Tokenizer.from_bundle(read)
    return Loaded(read.name, read.version, model.provider, model, tokenizer, time.monotonic() - started)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _probe(host: str, port: int) -> None:
    """Bind for a moment: gRPC does not say why it could not."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(address)


@contextlib.contextmanager
def _listening(flag: str, host: str, port: int) -> Iterator[None]:
    """Explain why a port cannot be had."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        advice = f"stop what listens there, or choose with --host and {flag}"
        raise StartupError(f"cannot listen on {_address(host, port)} ({reason}); {advice}") from error
