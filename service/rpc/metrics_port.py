"""The port of /metrics: plain HTTP that strangers may reach, so whoever is slow or rude costs a socket and no more."""

import socket
import socketserver
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import prometheus_client

MOST_CONNECTIONS = 32
"""At once; one more, and the oldest is closed: a scrape takes milliseconds."""
SILENCE_SECONDS = 10.0


class Handler(WSGIRequestHandler):
    """One request, which keeps to itself who sent it."""

    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Write nothing: the line would hold the client's address."""


class MetricsServer(socketserver.ThreadingMixIn, WSGIServer):
    """Answers each connection on a thread of its own."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: prometheus_client.CollectorRegistry) -> None:
        """Listen; raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}
        super().__init__((host, port), Handler)
        self.set_app(prometheus_client.make_wsgi_app(registry))

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  as the library has it
        """Make room, and answer on a thread."""
        with self._lock:
            while len(self._open) >= MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """Forget a connection that ended."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Write nothing: a client that hangs up is no error, and its address goes nowhere."""


def serve(host: str, port: int, registry: prometheus_client.CollectorRegistry) -> MetricsServer:
    """Serve /metrics on a thread; raises OSError."""
    web = MetricsServer(host, port, registry)
    threading.Thread(target=web.serve_forever, name="metrics", daemon=True).start()
    return web


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has gone by itself
        return
