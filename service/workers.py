"""Several servers on one port, each a process with engines of its own; and the parent that speaks for all of them.

1. The parent keeps the port without listening there, and starts the workers as fresh processes.
2. A worker that can serve listens on the same port; the kernel deals new connections out among those that do.
3. Each tells its parent twice a second how it is, with all its metrics: the parent answers scrapes and probes.
4. One that ends is replaced: at once, or after a pause that doubles where it never served. Where none serves and
   several ends in a row came before serving, the parent gives up, with the reason.
5. SIGTERM goes on to all, and the parent leaves when the last has drained. SIGHUP goes on too.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from grpc_health.v1 import health
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.registry import Collector

from service import logs, pages
from service.config import Settings
from service.errors import StartupError
from service.link import Beat, Failed, Message, Ready, Serving, packed, receive
from service.pages import Page
from service.rpc import transport
from service.rpc.health import tell

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "service.worker")
"""-P: what lies in the folder where the parent was started is none of its modules."""
ATTEMPTS = 5
"""So many ends in a row before serving are one too many."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
LOOK_SECONDS = 1.0
LEAVE_SECONDS = 10.0
"""What a worker gets to leave on top of the time that its settings give it to drain."""


class Worker:
    """One worker from its start to its end, as its parent sees it."""

    def __init__(
        self, process: asyncio.subprocess.Process, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self._process = process
        self._reader, self._writer = streams
        self._heard = math.inf
        """When it last said something; who has said nothing yet is still being started."""
        self._leave_by: float | None = None
        self.ready, self.alive, self.has_served = False, True, False
        self.page: Page = []
        self.models: list[str] = []
        self.reason = ""

    @classmethod
    async def start(cls, command: Sequence[str], settings: Settings) -> "Worker":
        """Start a process and tell it its settings."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command, str(theirs.fileno()), pass_fds=[theirs.fileno()],
                process_group=0,  # a terminal's interrupt is for the parent, which passes it on
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(packed(settings))
        return cls(process, (reader, writer))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def listen(self) -> bool:
        """Take note of the next thing that it says; return False when it has ended."""
        message: Message | None = await receive(self._reader)
        self._heard = time.monotonic()
        if isinstance(message, Beat):
            self.ready, self.alive, self.page = message.ready, message.alive, message.page
        elif isinstance(message, Serving):
            self.ready, self.has_served, self.models = True, True, message.models
        elif isinstance(message, Failed):
            self.reason = message.reason
        return message is not None

    async def ended(self) -> int:
        """Wait for its end; return its status."""
        self._writer.close()
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def leave(self, patience: float) -> None:
        """Ask it once to drain and end, within so many seconds."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + patience
            self.send(signal.SIGTERM)

    def end_if_stuck(self, silence: float) -> None:
        """End it where it does not leave, or has said nothing for so many seconds; 0: it may be silent."""
        now = time.monotonic()
        overdue = self._leave_by is not None and now > self._leave_by
        if overdue or (silence and now - self._heard > silence):
            logger.error("a worker is stuck; ending it", extra={logs.FIELDS: {"pid": self.pid}})
            self.send(signal.SIGKILL)


class Workers(Collector):
    """The parent. Belongs to its event loop; scrapes come on a thread of their own."""

    def __init__(self, settings: Settings, announce: Callable[[Ready], None], command: Sequence[str] = COMMAND) -> None:
        self._settings = settings
        self._announce = announce
        self._command = command
        self._patience = settings.grace_seconds + settings.drain_seconds + LEAVE_SECONDS
        self._ending = asyncio.Event()
        self._opened, self._told_ready = False, False
        self._health = health.aio.HealthServicer()
        self._surface = Ready("", "", [])
        self._own = CollectorRegistry()
        self._ready = Gauge("dragoman_workers_ready", "Workers that serve.", registry=self._own)
        self._restarts = Counter("dragoman_worker_restarts", "Workers that were replaced.", registry=self._own)
        self._pages = threading.Lock()
        """Held while a page changes sides, from a worker to those that ended."""
        self._workers: dict[int, Worker] = {}
        self._retired: Page = []

    async def serve(self) -> None:
        """Serve until a signal; raises StartupError."""
        settings, loop = self._settings, asyncio.get_running_loop()
        ProcessCollector(registry=self._own)
        registry = CollectorRegistry()
        registry.register(self)
        with transport.reserved(settings.host, settings.port) as port:
            web, metrics_url = transport.listen_for_metrics(registry, settings.host, settings.metrics_port)
            await tell(self._health, ready=False, alive=True)
            probed, health_address = await transport.serve_health(self._health, settings)
            self._surface = Ready(transport.address(settings.host, port), metrics_url, [], health_address)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._receive, number)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            given = dataclasses.replace(settings, port=port, health_port=None, provider="cpu", stall_action="exit")
            places = [asyncio.create_task(self._keep(place, given)) for place in range(settings.workers)]
            watching = asyncio.create_task(self._watch())
            try:
                await asyncio.gather(*places)
            finally:
                for task in (watching, *places):
                    task.cancel()
                await asyncio.gather(watching, *places, return_exceptions=True)
                self._send(signal.SIGKILL)
                await asyncio.gather(*(worker.ended() for worker in self._workers.values()))
                if probed is not None:
                    await probed.stop(0)
                web.shutdown()
                web.server_close()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all workers, of those that ended, and of this process, as one server's."""
        with self._pages:
            self._ready.set(sum(worker.ready for worker in self._workers.values()))
            shown = [*(worker.page for worker in self._workers.values()), self._retired]
        return pages.metrics(pages.merged([*shown, pages.page(self._own)]))

    async def _keep(self, place: int, given: Settings) -> None:
        """Have a worker at this place until the end."""
        failures = 0
        while not self._ending.is_set():
            worker = await Worker.start(self._command, given)
            with self._pages:
                self._workers[place] = worker
            if self._ending.is_set():
                worker.leave(self._patience)
            while await worker.listen():
                if not worker.alive:
                    worker.leave(self._patience)
                await self._speak()
            status = await worker.ended()
            with self._pages:
                del self._workers[place]
                self._retired = pages.merged([self._retired, pages.retired(worker.page)])
            failures = 0 if worker.has_served else failures + 1
            await self._speak()
            if not self._ending.is_set():
                pause = self._pause(worker, status, failures)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), pause)

    def _pause(self, worker: Worker, status: int, failures: int) -> float:
        """Return how long to wait before the next worker, in seconds; raises StartupError where there is no hope."""
        hopeless = failures >= ATTEMPTS or (worker.reason and not self._opened)
        if hopeless and not (self._opened and any(other.ready for other in self._workers.values())):
            ended = f"workers ended {failures} times before they served, the last with status {status}"
            raise StartupError(worker.reason or f"{ended}; their log may say why")
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (failures - 1)) if failures else 0.0
        about = {"pid": worker.pid, "status": status, "reason": worker.reason, "pause_seconds": pause}
        logger.error("a worker ended; another takes its place", extra={logs.FIELDS: about})
        self._restarts.inc()
        return pause

    async def _speak(self) -> None:
        """Say how all are: ready for the first time when every one is, from then on while at least one is."""
        ready = [worker.ready for worker in self._workers.values()]
        if not self._opened and sum(ready) == self._settings.workers:
            self._opened = True
            surface = dataclasses.replace(self._surface, models=self._workers[0].models)
            self._announce(surface)
            about = dataclasses.asdict(surface) | {"workers": len(ready)}
            logger.info("ready", extra={logs.FIELDS: about})
        holds = self._opened and any(ready) and not self._ending.is_set()
        if holds != self._told_ready:
            self._told_ready = holds
            await tell(self._health, ready=holds, alive=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in self._workers.values():
                worker.end_if_stuck(self._settings.stall_seconds)
            await self._speak()

    def _receive(self, number: signal.Signals) -> None:
        """Let all drain; at the second signal, end at once."""
        if self._ending.is_set():
            logger.warning("a second signal; ending at once")
            self._send(signal.SIGKILL)
            os._exit(128 + number)
        self._ending.set()
        for worker in self._workers.values():
            worker.leave(self._patience)

    def _reload(self) -> None:
        """Let all look for models anew; who does not serve yet is about to."""
        for worker in self._workers.values():
            if worker.has_served:
                worker.send(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            worker.send(number)


def run(settings: Settings, announce: Callable[[Ready], None], command: Sequence[str] = COMMAND) -> int:
    """Serve with several workers until SIGTERM or SIGINT; return the exit status. Raises StartupError."""
    logs.configure(settings.log_format, settings.log_level, sys.stderr)
    asyncio.run(Workers(settings, announce, command).serve())
    return 0
