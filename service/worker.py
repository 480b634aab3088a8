"""One of several servers on a port: `python -m service.worker DESCRIPTOR`, a socket to the parent that starts it."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence

from service import process
from service.config import Settings
from service.errors import StartupError
from service.link import Failed, Ready, Serving, packed, receive_settings
from service.models import Repository, Source
from service.server import Server

BEAT_SECONDS = 0.5
"""Between two messages on how it is; no longer than a drained server waits before it leaves."""
MAX_UNREAD_BYTES = 1 << 24
"""A parent that does not read for so long is told nothing more."""


class Parent:
    """A worker's side of the socket. Belongs to the event loop."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._models: list[str] = []
        self._serving = asyncio.Event()

    def announce(self, ready: Ready) -> None:
        """Take note that the server serves; the parent is told at once."""
        self._models = ready.models
        self._serving.set()

    async def attend(self, server: Server) -> None:
        """Tell the parent how the server is, until there is no parent any more."""
        reader, writer = await asyncio.open_unix_connection(sock=self._connection)
        beating = asyncio.create_task(self._beat(server, writer))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        beating.cancel()

    async def _beat(self, server: Server, writer: asyncio.StreamWriter) -> None:
        told = False
        while not writer.is_closing():
            if self._serving.is_set() and not told:
                writer.write(packed(Serving(self._models)))
                told = True
            if writer.transport.get_write_buffer_size() < MAX_UNREAD_BYTES:
                writer.write(await asyncio.to_thread(_packed_beat, server))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(BEAT_SECONDS) if told else self._serving.wait(), BEAT_SECONDS)


def _packed_beat(server: Server) -> bytes:
    """Collect and pack, which takes a millisecond or more: on a thread, as scrapes are answered."""
    return packed(server.beat())


def main(arguments: Sequence[str], source: Callable[[Settings], Source] = Repository) -> int:
    """Serve until SIGTERM, or until the parent has ended; return the exit status."""
    connection = socket.socket(fileno=int(arguments[0]))
    settings = receive_settings(connection)
    parent = Parent(connection.dup())  # the event loop closes what it is given
    try:
        return process.run(settings, parent.announce, source, parent.attend)
    except StartupError as error:
        connection.settimeout(None)
        connection.sendall(packed(Failed(str(error))))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
