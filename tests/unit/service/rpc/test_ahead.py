"""Calls that come together are taken up together, and a server that stops leaves none of them behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from service.rpc.batches import open_server

CALLS = 24
METHOD = "/toy.Echo/Echo"


class Handlers(grpc.GenericRpcHandler):
    """Answers with what was asked; notes in which turn of the event loop each call was taken up."""

    def __init__(self) -> None:
        self.turn = 0
        self.taken: list[int] = []

    def service(self, details: object) -> Any:
        """Take up a call."""
        self.taken.append(self.turn)
        return grpc.unary_unary_rpc_method_handler(self._echo)

    async def count_turns(self) -> None:
        """Count turns of the event loop."""
        while True:
            await asyncio.sleep(0)
            self.turn += 1

    async def _echo(self, request: bytes, context: object) -> bytes:
        return request


@asynccontextmanager
async def serving(handlers: Handlers) -> AsyncIterator[tuple[grpc.aio.Server, grpc.Channel]]:
    """Serve, and connect a client that has threads of its own."""
    server = open_server(())
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.to_thread(grpc.channel_ready_future(channel).result, 60.0)
        yield server, channel
    await server.stop(0)


def send(channel: grpc.Channel, seconds: float) -> list[Any]:
    """Send calls and let them come in while the event loop stands still, for so many seconds."""
    call: Any = channel.unary_unary(METHOD)
    calls = [call.future(b"%d" % number, timeout=60.0) for number in range(CALLS)]
    time.sleep(seconds)
    return calls


async def test_calls_that_came_are_taken_up_in_a_few_turns() -> None:
    """Two turns of the event loop for each; one by one, each would take six and two changes of thread."""
    handlers = Handlers()
    spans = []
    async with serving(handlers) as (_, channel):
        counting = asyncio.create_task(handlers.count_turns())
        for seconds in (0.1, 0.2, 0.4, 0.8, 1.6):  # on a crowded machine they may take long to come
            handlers.taken.clear()
            calls = send(channel, seconds)
            answers = [await asyncio.to_thread(call.result) for call in calls]
            assert [b"%d" % number for number in range(CALLS)] == answers
            spans.append(handlers.taken[-1] - handlers.taken[0])
            if spans[-1] <= 3 * CALLS:
                break
        counting.cancel()
    assert spans[-1] <= 3 * CALLS, spans


async def test_calls_that_nobody_took_up_end_as_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    """All of them, and nothing is said of what the server had asked its core for."""
    async with serving(Handlers()) as (server, channel):
        calls = send(channel, 0.2)
        await asyncio.wait_for(server.stop(0), 60.0)
        ended = [await asyncio.to_thread(call.exception) for call in calls]
    assert CALLS == len(ended)
    assert [] == caplog.records
