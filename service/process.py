"""The process around a server: its signals, its log, its exit status."""

import asyncio
import dataclasses
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable

import uvloop

from service import logs
from service.config import Settings
from service.server import Loaded, Ready, Server, load_models

logger = logging.getLogger(__name__)


def run(
    settings: Settings, announce: Callable[[Ready], None], load: Callable[[Settings], list[Loaded]] = load_models
) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises StartupError."""
    log = logs.configure(settings.log_format, settings.log_level, sys.stderr)
    # A call crosses the loop a dozen times: uvloop takes a quarter off what each costs.
    uvloop.run(_serve(Server(settings, functools.partial(load, settings), log), announce))
    return 0


async def _serve(server: Server, announce: Callable[[Ready], None]) -> None:
    """Start, wait for a signal, drain, stop. A signal counts from the first moment on, while loading too."""
    signalled = asyncio.Event()

    def receive(number: int) -> None:
        if signalled.is_set():
            logger.warning("a second signal; ending at once")
            os._exit(128 + number)  # whatever its threads do
        signalled.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
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
        await server.stop()
