"""The process around a server: its signals, its log, its exit status."""

import asyncio
import dataclasses
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from service import bundle, logs, vitals
from service.admission import Admission
from service.clients import read_clients
from service.config import Settings
from service.link import Ready
from service.models import Repository, Source
from service.repository import find
from service.rpc import transport
from service.server import Server
from service.versions import Versions

logger = logging.getLogger(__name__)

TIDY_SECONDS = 10.0
LOOK_SECONDS = 0.25
"""How often an idle moment is looked for, once it is time to tidy up."""
LOOKS, FEW_TEXTS = 40, 256
"""After so many looks, a moment with few texts will do: a full collection takes 2 ms beside 64 texts, 5 beside 192."""
COLLECTION_THRESHOLDS = 1_000, 20, 10_000
"""Of Python's three generations of garbage: full collections are left to `tidy_up`. gRPC leaves five objects of each
call in a cycle; ten thousand of them at once kept the event loop for 10 ms, and cost as much in all."""
SWITCH_SECONDS = 0.001
"""How long the engine's thread may wait for the interpreter lock while the event loop is busy; Python's 5 ms are as
long as several steps."""


Attend = Callable[[Server], Coroutine[Any, Any, None]]
"""Work beside a server; when it ends, so does the server."""


def run(
    settings: Settings,
    announce: Callable[[Ready], None],
    source: Callable[[Settings], Source] = Repository,
    attend: Attend | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, reload on SIGHUP; return the exit status. Raises StartupError."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    vitals.share_arenas()
    log = logs.configure(settings.log_format, settings.log_level, sys.stderr)
    # A call crosses the loop a dozen times: uvloop takes a quarter off what each costs.
    uvloop.run(_serve(Server(settings, source(settings), log), announce, attend))
    return 0


def check(settings: Settings) -> list[str]:
    """Read all files that a server would read, without serving; return what is there. Raises StartupError."""
    found = []
    if transport.read_certificates(settings) is not None:
        found.append(f"certificates: {'mutual ' if settings.tls_client_authority else ''}TLS")
    if settings.clients is not None:
        found.append(f"clients: {len(read_clients(settings.clients))}")
    for wanted in Versions.from_setting(settings.models).required(find(settings.model_repository)):
        read = bundle.load(wanted.folder)
        found.append(f"model: {wanted.spelled}, {sum(map(len, read.contents.values())) / 1e6:.1f} MB")
    return [*found, "these settings can be served"]


async def tidy_up(admission: Admission, end: "asyncio.Task[bool]") -> None:
    """Until the end, tidy up when nobody waits, or in the long run when few do: it is as long as some steps.

    Garbage is collected in full, and what malloc keeps for later goes back to the system: peaks leave holes in it.
    """
    while not end.done():
        await asyncio.wait({end}, timeout=TIDY_SECONDS)
        looks = 0
        while admission.admitted > (0 if looks < LOOKS else FEW_TEXTS) and not end.done():
            looks += 1
            await asyncio.wait({end}, timeout=LOOK_SECONDS)
        if not end.done():
            gc.collect()
            await asyncio.to_thread(vitals.give_memory_back)


async def _serve(server: Server, announce: Callable[[Ready], None], attend: Attend | None) -> None:
    """Start, wait for a signal, drain, stop. A signal counts from the first moment on, while loading too."""
    signalled = asyncio.Event()

    def receive(number: int) -> None:
        if signalled.is_set():
            logger.warning("a second signal; ending at once")
            os._exit(128 + number)  # whatever its threads do
        signalled.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    if attend is not None:
        attending = asyncio.create_task(attend(server))
        attending.add_done_callback(lambda _: signalled.set())
    waiting = asyncio.create_task(signalled.wait())
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            ready = starting.result()
            announce(ready)
            logger.info("ready", extra={logs.FIELDS: dataclasses.asdict(ready)})
            await tidy_up(server.admission, waiting)
            await server.drain()
            await server.leave()
            sys.stdout.flush()
            os._exit(0)
    finally:
        await server.stop()
