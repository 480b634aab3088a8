"""Hostile connections: bare sockets that send bytes, take what comes, or hold on and say nothing."""

import collections
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Mapping

from tests.hostile import frames as h2
from tests.hostile.abuse import ABUSES, HELLO

THREADS = 8
LISTEN_SECONDS = 0.05
"""How long an attacker waits for an answer: it wants none."""
HTTP: tuple[bytes, ...] = (
    b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nabc",
    b"PATCH /\xff HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET  \x00 HTTP/1.1\r\n",
    b"\r\n" * 500,
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"GET /metrics?name[]=%s HTTP/1.1\r\n\r\n" % (b"a" * 8000),
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nAccept: " + b"a" * 66_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"X-A: b\r\n" * 300 + b"\r\n",
    b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n" * 3,
    b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=9;escaping=x\r\n\r\n",
)
STARTS = (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n", h2.PREFACE, HELLO, HELLO[:-3])
MIX = {"HTTP/2": 5, "garbage": 3, "HTTP/1 on metrics": 2, "garbage on metrics": 1, "HTTP/2 on probes": 1}
Address = tuple[str, int]


def split(address: str) -> Address:
    """Return host and port."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Connections:
    """Attacks by connections: each is one hostile request."""

    def __init__(self, address: str, metrics_address: str, health_address: str) -> None:
        self._ports = {"": split(address), "metrics": split(metrics_address), "probes": split(health_address)}
        self._lock = threading.Lock()
        self.endings: collections.Counter[tuple[str, str]] = collections.Counter()
        """Connections by kind, and by what the server did."""

    def attack(self, count: int, seed: int) -> None:
        """Make so many hostile connections, several at once."""
        threads = [
            threading.Thread(target=self._attack, args=(count // THREADS + (index < count % THREADS), seed + index))
            for index in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _attack(self, count: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secret
        for _ in range(count):
            (kind,) = chance.choices(list(MIX), list(MIX.values()))
            name, data = _bytes(kind, chance)
            ending = self._send(self._ports[kind.partition(" on ")[2]], data, chance)
            with self._lock:
                self.endings[name, ending] += 1

    def _send(self, port: Address, data: bytes, chance: random.Random) -> str:
        """Send bytes over a new connection and leave, politely or not; return what the server did."""
        try:
            with socket.create_connection(port, timeout=20.0) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.settimeout(2.0)
                    _say(connection, data, chance)
                connection.settimeout(LISTEN_SECONDS)
                heard, closed = _listen(connection)
                if chance.random() < 0.3:  # a reset instead of a farewell
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except TimeoutError:
            return "does not take it"
        return _meaning(heard, closed=closed)


class Held:
    """Connections that hold on: they read nothing, or write a byte now and then, from entering to leaving."""

    def __init__(self, ports: Mapping[str, str], each: int, seed: int) -> None:
        """Take the ports by name, and how many of each kind."""
        self._ports = ports
        self._each = each
        self._chance = random.Random(seed)  # noqa: S311  no secret
        self._open: list[tuple[socket.socket, bytes]] = []
        self._ended = threading.Event()
        self._trickle = threading.Thread(target=self._write_slowly, name="trickle")
        self.endings: collections.Counter[tuple[str, str]] = collections.Counter()

    def __enter__(self) -> "Held":
        """Connect and begin."""
        for name, address in self._ports.items():
            for _ in range(self._each):
                for kind in ("reader", "writer"):
                    self._hold(f"slow {kind} on {name}", split(address), *_slow(kind, name, self._chance))
        self._trickle.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self._ended.set()
        self._trickle.join()
        for connection, _unsent in self._open:
            connection.close()

    def _hold(self, kind: str, port: Address, at_once: bytes, slowly: bytes) -> None:
        connection = socket.create_connection(port, timeout=20.0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(at_once)
        connection.settimeout(0.0)
        self._open.append((connection, slowly))
        self.endings[kind, "held"] += 1

    def _write_slowly(self) -> None:
        at = 0
        while not self._ended.wait(0.05):
            for connection, slowly in self._open:
                with contextlib.suppress(OSError):
                    connection.send(slowly[at : at + 1])
            at += 1


def _bytes(kind: str, chance: random.Random) -> tuple[str, bytes]:
    """Return the name and the bytes of one attack of a kind."""
    match kind:
        case "HTTP/2":
            name = chance.choice(list(ABUSES))
            return f"HTTP/2 {name}", HELLO + ABUSES[name](chance)
        case "HTTP/2 on probes":
            return kind, HELLO + ABUSES[chance.choice(list(ABUSES))](chance)
        case "HTTP/1 on metrics":
            return kind, chance.choice(HTTP)
        case _:
            return kind, chance.choice(STARTS) + chance.randbytes(chance.randrange(400))


def _slow(kind: str, port: str, chance: random.Random) -> tuple[bytes, bytes]:
    """Return what a slow client says at once, and what it says byte by byte."""
    if port == "metrics":
        return (HTTP[0] * 20, b"") if kind == "reader" else (b"", HTTP[0][:-2] + b"X-A: b\r\n" * 1000)
    if kind == "reader":
        return HELLO + ABUSES["unread answers"](chance), b""
    call = h2.whole_call(1, h2.translate("가나다"))
    begun = chance.choice((0, 9, len(HELLO), len(HELLO) + 40, len(HELLO + call) - 9))
    return (HELLO + call)[:begun], (HELLO + call)[begun:-1]


def _say(connection: socket.socket, data: bytes, chance: random.Random) -> None:
    """Send in one piece or in several."""
    pieces = chance.choice((1, 1, 1, 3))
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        connection.sendall(data[start : start + size])


def _listen(connection: socket.socket) -> tuple[bytes, bool]:
    """Return what comes, and whether the server closed the connection."""
    heard = b""
    try:
        while part := connection.recv(65536):
            heard += part
    except TimeoutError:
        return heard, False
    except ConnectionError:
        pass
    return heard, True


def _meaning(heard: bytes, *, closed: bool) -> str:
    if heard.startswith(b"HTTP/1"):
        return heard[9:12].decode(errors="replace")
    found = h2.kinds(heard)
    for kind, meaning in (("goodbye", "GOAWAY"), ("reset", "RST_STREAM"), ("headers", "answered")):
        if kind in found:
            return meaning
    return "closed" if closed else "waits"
