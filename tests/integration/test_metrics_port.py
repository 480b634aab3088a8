"""Strangers on the port of /metrics: silent, rude or many, they cost a socket, and nobody learns who they were."""

import contextlib
import socket
import struct
import urllib.request

import pytest

from service.rpc import metrics_port
from tests.hostile.wire import split
from tests.serving import LiveServer, loaded, reversing


def scrape(live: LiveServer) -> bool:
    """Fetch the page; return whether it is whole."""
    with urllib.request.urlopen(live.ready.metrics_url, timeout=20.0) as page:  # noqa: S310
        return b"dragoman_requests_running" in page.read()


def test_silent_connections_make_room() -> None:
    """More of them than are held at once keep no scraper out: the oldest are closed."""
    with LiveServer([loaded(reversing())]) as live, contextlib.ExitStack() as held:
        address = split(live.ready.metrics_url.split("/")[2])
        silent = [
            held.enter_context(socket.create_connection(address, timeout=20.0))
            for _ in range(metrics_port.MOST_CONNECTIONS + 3)
        ]
        assert scrape(live)
        assert b"" == silent[0].recv(1)


def test_rude_connections_leave_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a traceback nor an address of whoever hangs up in the middle, or talks nonsense."""
    with LiveServer([loaded(reversing())]) as live:
        address = split(live.ready.metrics_url.split("/")[2])
        for data in (b"GET /metrics HTTP/1.1\r\n", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300):
            with socket.create_connection(address, timeout=20.0) as rude:
                rude.sendall(data)
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        assert scrape(live)
        log = live.log.getvalue()
    assert "" == capfd.readouterr().err
    assert "127.0.0.1" not in log
