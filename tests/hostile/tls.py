"""Hostile beginnings of TLS: hellos that break off, lie about their length, or are none."""

import collections
import contextlib
import random
import socket
import ssl
from pathlib import Path

import grpc
import trustme

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.config import EMBEDDED
from service.rpc.channel import Connection
from tests.benchmark.serving import Server
from tests.hostile.behaved import TEXTS
from tests.hostile.wire import split
from tests.soak.vitals import Patient, Vitals

ASK_EVERY = 50
"""Hostile connections between two proper ones."""


class Hellos:
    """Connections to a server with TLS, and a proper client between them."""

    def __init__(self, folder: Path) -> None:
        """Take a folder for the keys."""
        self._folder = folder
        self.endings: collections.Counter[tuple[str, str]] = collections.Counter()
        self.faults: list[str] = []
        self.log = ""

    def send(self, count: int, seed: int) -> tuple[Vitals, Vitals]:
        """Send so many; return how the server was before and after."""
        authority = trustme.CA()
        keys = authority.issue_cert("localhost", "127.0.0.1")
        keys.private_key_pem.write_to_path(self._folder / "key.pem")
        keys.cert_chain_pems[0].write_to_path(self._folder / "certificate.pem")
        authority.cert_pem.write_to_path(self._folder / "authority.pem")
        options = ("--threads", "1", "--tls-certificate", str(self._folder / "certificate.pem"),
                   "--tls-key", str(self._folder / "key.pem"))  # fmt: skip
        with Server(next(EMBEDDED.glob("*/*")), None, *options) as server:
            patient = Patient(server.pid, server.metrics_url)
            proper = Connection(server.address, self._folder / "authority.pem")
            self._ask(proper)
            before, _ = patient.look()
            chance, client = random.Random(seed), ssl.create_default_context()  # noqa: S311  no secret
            for number in range(count):
                self.endings["TLS hellos", _send(server.address, _hello(client, chance))] += 1
                if number % ASK_EVERY == 0:
                    self._ask(proper)
            after = patient.settle(
                lambda vitals: vitals.descriptors <= before.descriptors and vitals.threads <= before.threads
            )
        self.log = server.log
        return before, after

    def _ask(self, proper: Connection) -> None:
        with proper.open() as channel:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            try:
                stub.Translate(pb.TranslateRequest(texts=[TEXTS[0]]), timeout=20.0)
            except grpc.RpcError as error:
                self.faults.append(f"over TLS: {error}")


def _hello(client: ssl.SSLContext, chance: random.Random) -> bytes:
    """Return a real hello of a client, broken."""
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    hello = bytearray(said.read())
    match chance.randrange(4):
        case 0:
            return bytes(hello[: chance.randrange(len(hello))])
        case 1:
            hello[chance.randrange(1, 9)] ^= chance.randrange(1, 256)
        case 2:
            for _ in range(20):
                hello[chance.randrange(len(hello))] = chance.randrange(256)
        case _:
            return bytes(hello) + chance.randbytes(chance.randrange(1, 400))
    return bytes(hello)


def _send(address: str, hello: bytes) -> str:
    with socket.create_connection(split(address), timeout=20.0) as connection:
        try:
            connection.sendall(hello)
            connection.settimeout(0.02)
            heard = connection.recv(65536)
        except TimeoutError:
            return "waits"
        except ConnectionError:
            return "closed"
    return {b"": "closed", b"\x15": "alert", b"\x16": "answered"}.get(heard[:1], "other")
