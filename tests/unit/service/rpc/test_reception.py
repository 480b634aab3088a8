"""Calls of a method with a door: refused there, begun together, and left to nobody as a server stops."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from service.rpc.batches import open_server
from service.rpc.door import Door, Refusal, add_methods, guarded

CALLS = 100
"""More than are asked for ahead."""
REFUSAL = Refusal(8, "no room", (("x-request-id", "an-id"), ("details-bin", b"\x00\x01")))


async def echo(request: bytes, _: object) -> bytes:
    """Answer with what was asked."""
    return request


@asynccontextmanager
async def serving(door: Door) -> AsyncIterator[tuple[grpc.aio.Server, Any]]:
    """Serve echoes behind a door; yield the server and a call of a client that has threads of its own."""
    server = open_server(())
    add_methods(server, "toy.Echo", {"Echo": guarded(grpc.unary_unary_rpc_method_handler(echo), door)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.to_thread(grpc.channel_ready_future(channel).result, 60.0)
        yield server, channel.unary_unary("/toy.Echo/Echo")
    await server.stop(0)


def send(call: Any, seconds: float) -> list[Any]:
    """Send calls and let them come in while the event loop stands still, for so many seconds."""
    calls = [call.future(b"%d" % number, timeout=60.0) for number in range(CALLS)]
    time.sleep(seconds)
    return calls


async def outcomes(call: Any, seconds: float = 0.0) -> list[object]:
    """Send calls; return answers and codes in their order."""
    calls = send(call, seconds)

    def end(one: Any) -> object:
        return one.code() if one.exception() else one.result()

    return [await asyncio.to_thread(end, one) for one in calls]


async def test_all_calls_are_taken_up_however_many_come_at_once() -> None:
    """Let in, refused, and by turns; those behind a refused one are as well off."""
    turn = iter(range(10 * CALLS))
    async with serving(lambda _: None) as (_, call):
        assert [b"%d" % number for number in range(CALLS)] == await outcomes(call, 0.2)
    async with serving(lambda _: REFUSAL) as (_, call):
        assert [grpc.StatusCode.RESOURCE_EXHAUSTED] * CALLS == await outcomes(call, 0.2)
    async with serving(lambda _: REFUSAL if next(turn) % 2 else None) as (_, call):
        found = await outcomes(call, 0.2)
        assert CALLS / 2 == found.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert CALLS / 2 == sum(isinstance(one, bytes) for one in found)


async def test_a_client_gets_all_of_a_refusal() -> None:
    """Its code, its message, and its metadata behind them."""
    async with serving(lambda _: REFUSAL) as (_, call):
        error = await asyncio.to_thread(call.future(b"a", timeout=60.0).exception)
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "no room") == (error.code(), error.details())
        assert dict(REFUSAL.trailing) == dict(error.trailing_metadata())


async def test_a_bug_at_the_door_lets_calls_in(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and the server goes on taking up calls."""

    def broken(_: object) -> Refusal | None:
        raise ZeroDivisionError

    async with serving(broken) as (_, call):
        assert [b"%d" % number for number in range(CALLS)] == await outcomes(call)
    assert CALLS == sum("a bug at the door" in record.message for record in caplog.records)


async def test_calls_that_nobody_took_up_end_as_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    """All of them, and nothing is said of what the server had asked its core for."""
    caplog.set_level(logging.WARNING)
    async with serving(lambda _: None) as (server, call):
        calls = send(call, 0.2)
        await asyncio.wait_for(server.stop(0), 60.0)
        ended = [await asyncio.to_thread(one.exception) for one in calls]
    assert CALLS == len(ended)
    assert [] == [record.message for record in caplog.records]
