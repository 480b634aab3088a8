"""Where and how the gRPC server listens: limits against abuse, TLS whose certificates are read anew on change."""

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import grpc
import prometheus_client
from grpc_health.v1 import health

from service.config import Settings
from service.errors import StartupError
from service.logs import FIELDS
from service.rpc import metrics_port
from service.rpc.batches import open_server
from service.rpc.health import Probes
from service.rpc.metrics_port import MetricsServer
from service.watch import Watch

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 16 << 10
HANDSHAKE_SECONDS = 10
"""For TLS and HTTP/2 to begin, so that connections that say nothing do not pile up."""
DEAD_PEER_SECONDS = (60, 20)
"""A silent connection is pinged after the first, and closed when nothing answers for the second."""
MAX_PENDING_CALLS = 20_000
"""Calls that have come and that nobody has taken up yet, 16 kB each. Beyond, gRPC ends whoever's call comes as
CANCELLED, which no client retries; streams that are opened and reset at once would fill its own 1,000 within
milliseconds."""
PENDING_SECONDS = 600
"""How long a call may wait to be taken up; gRPC would end it after 30 s, as CANCELLED too. Deadlines end it sooner."""
PING_SECONDS = 20
"""A client that pings more often while it has no call is sent away (GOAWAY, too many pings)."""


def server_options(settings: Settings, *, shared: bool = False) -> list[tuple[str, int]]:
    """Return the limits of the gRPC server, by gRPC's names (grpc/impl/channel_arg_names.h).

    Unless its port is shared on purpose, a second server there is an error: it would silently take half of the clients.
    """
    quiet, patience = DEAD_PEER_SECONDS
    options = [
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
        ("grpc.server_max_unrequested_time_in_server", PENDING_SECONDS),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.keepalive_time_ms", quiet * 1000),
        ("grpc.keepalive_timeout_ms", patience * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS * 1000),
        ("grpc.http2.max_ping_strikes", 2),
    ]
    if settings.connection_age_seconds:
        options.append(("grpc.max_connection_age_ms", round(settings.connection_age_seconds * 1000)))
        options.append(("grpc.max_connection_age_grace_ms", round(settings.connection_grace_seconds * 1000)))
    return options


def listen(server: grpc.aio.Server, settings: Settings) -> str:
    """Take the gRPC port; return the address."""
    host, port = settings.host, settings.port
    certificates = read_certificates(settings)
    with listening("--port", host, port):
        if not settings.is_worker:
            _probe(host, port)
        if certificates is None:
            return address(host, server.add_insecure_port(address(host, port)))
        return address(host, server.add_secure_port(address(host, port), certificates.credentials()))


async def serve_health(
    servicer: health.aio.HealthServicer, settings: Settings
) -> tuple[grpc.aio.Server | None, str | None]:
    """Answer health probes in plain text, on a port of their own where there is one; return server and address."""
    host, port = settings.host, settings.health_port
    if port is None:
        return None, None
    server = open_server(server_options(settings))
    with listening("--health-port", host, port):
        _probe(host, port)
        taken = address(host, server.add_insecure_port(address(host, port)))
    server.add_generic_rpc_handlers((Probes(servicer).handlers(),))
    await server.start()
    return server, taken


def listen_for_metrics(
    registry: prometheus_client.CollectorRegistry, host: str, port: int
) -> tuple[MetricsServer, str]:
    """Serve /metrics on a thread of its own; return the server and its URL."""
    with listening("--metrics-port", host, port):
        web = metrics_port.serve(host, port, registry)
        return web, f"http://{address(host, web.server_port)}/metrics"


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port for servers that share it, without listening there; yield it. Nobody else may be there before."""
    family, kind, protocol, _, bound = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as kept:
        with listening("--port", host, port):
            _probe(host, port)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                kept.setsockopt(socket.SOL_SOCKET, option, 1)
            kept.bind(bound)
        yield kept.getsockname()[1]


def listen_for_operator(server: grpc.aio.Server, socket_path: Path) -> str:
    """Take a Unix socket that only this user, and root, may open; return the address."""
    place = f"unix:{socket_path}"
    before = os.umask(0o177)  # from its first moment on
    try:
        server.add_insecure_port(place)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {place} ({error}); choose with --admin-socket") from error
    finally:
        os.umask(before)
    return place


class Certificates:
    """The server's certificate and key, and who signs its clients' certificates."""

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None) -> None:
        self._files = (certificate, key, client_authority)
        self._watch = Watch([path for path in self._files if path is not None])

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask for new certificates at each connection."""
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._fetch)  # None: no change
        return grpc.dynamic_ssl_server_credentials(
            self.read(), fetch, require_client_authentication=self._files[2] is not None
        )

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files; raises StartupError where they are no certificate and its key."""
        certificate, key, authority = self._files
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks on a terminal
            if authority is not None:
                context.load_verify_locations(authority)
            return grpc.ssl_server_certificate_configuration(
                [(key.read_bytes(), certificate.read_bytes())], authority.read_bytes() if authority else None
            )
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = ", ".join(str(path) for path in self._files if path is not None)
            raise StartupError(f"no usable certificate in {files} ({error}); give PEM files that match") from error

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what a new connection is to use from now on; None: what there is. On a thread of gRPC."""
        if not self._watch.changed():
            return None
        try:
            found = self.read()
        except StartupError as error:
            logger.error("the certificates changed and cannot be used; the old ones stay", extra=_cause(error))
            return None
        logger.info("certificates read anew")
        return found


def read_certificates(settings: Settings) -> Certificates | None:
    """Return the certificates of a server with TLS; raises StartupError."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    certificates = Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_authority)
    certificates.read()
    return certificates


def address(host: str, port: int) -> str:
    """Return host and port as gRPC and URLs want them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def listening(flag: str, host: str, port: int) -> Iterator[None]:
    """Explain why a port cannot be had."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        advice = f"stop what listens there, or choose with --host and {flag}"
        raise StartupError(f"cannot listen on {address(host, port)} ({reason}); {advice}") from error


def _probe(host: str, port: int) -> None:
    """Bind for a moment: gRPC does not say why it could not."""
    family, kind, protocol, _, bound = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(bound)


def _cause(error: Exception) -> dict[str, object]:
    return {FIELDS: {"cause": str(error)}}
