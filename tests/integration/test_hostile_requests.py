"""`make fuzz`, cut short: hostile calls and connections of every kind against a server process.

DRAGOMAN_SEED repeats a run.
"""

import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.hostile.abuse import ABUSES, HELLO, rapid_reset
from tests.hostile.frames import DATA, END_STREAM, call_fields, frame, headers, kinds, message, translate
from tests.hostile.messages import PATIENT, SERVICE, Ask, twisted
from tests.hostile.storm import judge, rounds
from tests.hostile.wire import split
from tests.integration.test_process import needs_embedded
from tests.serving import LiveServer, loaded, reversing

REQUESTS = 800


@needs_embedded
def test_hostile_requests_end_well() -> None:
    """Others get right answers all the while, calls end with proper codes, the log keeps quiet, and nothing is left."""
    seed = int(os.environ.get("DRAGOMAN_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    found = rounds(REQUESTS, REQUESTS, seed, lambda _: None)
    assert [] == [row for row in judge(found) if not row.kept], f"seed {seed}: {found.improper[:3]} {found.faults[:3]}"
    assert REQUESTS <= found.endings.total() < REQUESTS + 10  # a drawn call comes with all of its copies
    assert len(ABUSES) / 2 < sum(kind.startswith("HTTP/2 ") for kind in {kind for kind, _ in found.endings})


def reset(address: str, chance: random.Random) -> None:
    """Open streams over connection after connection, and reset each stream at once."""
    for _ in range(12):
        with socket.create_connection(split(address), timeout=20.0) as connection:
            connection.sendall(HELLO + rapid_reset(chance))


def test_streams_that_are_reset_at_once_end_nobody_elses_calls() -> None:
    """They wait to be taken up, so many at once that gRPC by itself would cancel the calls of others."""
    with LiveServer([loaded(reversing())]) as live, ThreadPoolExecutor(4) as attackers:
        attacks = [attackers.submit(reset, live.ready.address, random.Random(seed)) for seed in range(4)]  # noqa: S311
        assert [["cba"]] * 5 == [live.translate("abc") for _ in range(5)]
        for attack in attacks:
            attack.result(60.0)
        assert ["cba"] == live.translate("abc")


def test_tokens_that_are_no_text_stay_out_of_the_log() -> None:
    """Bytes that are no UTF-8 in metadata are not written down, whatever header they are in."""
    fields = [*call_fields(), (b"authorization", b"Bearer canary-\xff\xfe")]
    with LiveServer([loaded(reversing())]) as live:
        with socket.create_connection(split(live.ready.address), timeout=20.0) as connection:
            data = message(translate("abc"))
            connection.sendall(HELLO + headers(1, fields) + frame(DATA, END_STREAM, 1, data))
            received = b""
            while "headers" not in kinds(received) and "reset" not in kinds(received):
                part = connection.recv(65536)
                assert part, "the connection was closed without an answer"
                received += part
        assert ["cba"] == live.translate("abc")
        assert "canary" not in live.log.getvalue()


def test_probes_that_are_no_message_are_refused() -> None:
    """INVALID_ARGUMENT, as for any call, and no bug in the log."""
    with LiveServer([loaded(reversing())], health_port=0) as live:
        assert live.ready.health_address is not None
        for address in (live.ready.address, live.ready.health_address):
            with grpc.insecure_channel(address) as channel:
                probe: Callable[..., bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
                with pytest.raises(grpc.RpcError) as caught:
                    probe(b"\xff\xff", timeout=20.0)
            assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
        assert "ERROR" not in live.log.getvalue()


def test_twisted_calls_are_other_calls() -> None:
    """Nearly all copies have other bytes or less patience, and say of which kind they are."""
    asked = Ask("fields", SERVICE + "Translate", (False, False), [b"\x0a\x03abc"])
    chance = random.Random(1)  # noqa: S311
    copies = [twisted(asked, chance) for _ in range(200)]
    assert {"wire", "deadlines", "cancelled"} == {copy.kind for copy in copies}
    assert 150 < sum(copy._replace(kind="fields") != asked for copy in copies)
    assert {PATIENT} == {copy.timeout for copy in copies if copy.kind != "deadlines"}
