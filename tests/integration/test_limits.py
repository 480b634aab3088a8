"""What the port bears: bytes that are no HTTP/2, headers without end, silence, pings, more calls than one may have."""

import json
import random
import socket
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.rpc import transport
from tests.integration.test_restart import documented_config
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"\x00" * 8
GOAWAY = 7


def connect(live: LiveServer) -> socket.socket:
    """Open a connection of bare bytes."""
    host, port = live.ready.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20.0)


def frames(data: bytes) -> list[int]:
    """Return the types of HTTP/2 frames (RFC 9113, section 4.1)."""
    found = []
    while len(data) >= 9:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3]) :]
    return found


def read_to_goodbye(connection: socket.socket) -> bytes:
    """Read until the server says goodbye, or closes the connection."""
    found = b""
    try:
        while GOAWAY not in frames(found) and (part := connection.recv(65536)):
            found += part
    except ConnectionError:
        pass
    return found


def test_garbage_on_the_port() -> None:
    """Whatever comes, half a frame or a greeting of another protocol, the next client is served."""
    chance = random.Random(7)  # noqa: S311
    starts = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        PREFACE,
        PREFACE + SETTINGS,
        PREFACE + SETTINGS + PING[:5],
    ]
    with LiveServer([loaded(reversing())]) as live:
        for number in range(120):
            with connect(live) as connection:
                try:
                    connection.sendall(starts[number % len(starts)] + chance.randbytes(chance.randrange(200)))
                except ConnectionError:
                    continue
        assert ["cba"] == live.translate("abc")
        assert "SERVING" == live.health()


def test_pings_without_end_are_answered_with_goodbye() -> None:
    """A client that only pings is sent away (GOAWAY), and others are served."""
    with LiveServer([loaded(reversing())]) as live:
        with connect(live) as connection:
            connection.sendall(PREFACE + SETTINGS)
            try:
                for _ in range(50):
                    connection.sendall(PING)
            except ConnectionError:
                pass
            received = read_to_goodbye(connection)
        assert GOAWAY in frames(received)
        assert b"too_many_pings" in received
        assert ["cba"] == live.translate("abc")


def test_giant_metadata_is_refused() -> None:
    """Beyond the bound a call ends at once, and the connection lives."""
    with LiveServer([loaded(reversing())]) as live:
        giant = (("x-giant", "a" * (2 * transport.MAX_METADATA_BYTES)),)
        with pytest.raises(grpc.RpcError) as caught:
            live.stub.Translate(pb.TranslateRequest(texts=["abc"]), metadata=giant, timeout=20.0)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
        assert ["cba"] == live.translate("abc")


def test_calls_beyond_the_bound_of_a_connection_wait() -> None:
    """The client holds them back or, where it counts otherwise than the server, sends them again: all are answered."""
    gate = Gate()
    options = [("grpc.service_config", json.dumps(documented_config())), ("grpc.use_local_subchannel_pool", 1)]
    with (
        LiveServer([loaded(reversing(gate))], max_streams_per_connection=2) as live,
        grpc.insecure_channel(live.ready.address, options=options) as channel,
    ):
        translate = translation_pb2_grpc.TranslationServiceStub(channel).Translate
        calls: list[Any] = [translate.future(pb.TranslateRequest(texts=["abc"]), timeout=20.0) for _ in range(5)]
        wait_until(lambda: live.server.admission.admitted > 0, "the first are in the server")
        most = live.server.admission.admitted
        gate.open()
        assert ["cba"] * 5 == [call.result(20.0).translations[0].hypotheses[0].text for call in calls]
        assert 2 >= most


def test_old_connections_are_renewed() -> None:
    """A client is asked to connect anew when its connection is old, and loses no call by it."""
    with LiveServer([loaded(reversing())], connection_age_seconds=0.1) as live:
        with connect(live) as connection:
            connection.sendall(PREFACE + SETTINGS)
            assert GOAWAY in frames(read_to_goodbye(connection))
        assert [["cba"]] * 20 == [live.translate("abc") for _ in range(20)]
