"""Waits of gRPC's server for its core, and what they leave behind."""

import asyncio
import gc
import socket
import threading
import time
import weakref

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

from service.rpc.batches import BatchLoop
from service.rpc.reception import CALL
from service.vitals import native_memory
from tests.hostile.abuse import HELLO
from tests.hostile.frames import call_fields, headers
from tests.hostile.wire import split
from tests.serving import LiveServer, loaded, reversing


class Core:
    """What grpc.aio does with a loop for one call: a task that awaits the end, and one that awaits something else."""

    def __init__(self) -> None:
        self.loop = BatchLoop(asyncio.get_running_loop())
        self.said: list[str] = []

    async def begin(self) -> None:
        """Begin the call, up to where both of its tasks wait."""
        self.call = self.loop.create_task(self._end(), name=CALL)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _end(self) -> None:
        self.handling = self.loop.create_task(self._handle())
        self.ended = self.loop.create_future()
        await self.ended
        self.handling.cancel()

    async def _handle(self) -> None:
        self.batch = self.loop.create_future()
        try:
            await self.batch
            self.said.append("freed")
            await asyncio.Event().wait()
        finally:
            self.said.append("left")


async def assert_freed_and_cancelled(core: Core) -> None:
    """Wait until who awaited the batch has left: first what was lent was freed."""
    await asyncio.wait({core.handling})
    assert ["freed", "left"] == core.said
    assert core.handling.cancelled()


async def test_a_batch_of_a_call_that_ended_is_seen_through() -> None:
    """Who awaits it when the call ends resumes once the core is done, frees it, and is cancelled then."""
    core = Core()
    await core.begin()
    core.ended.set_result(None)
    await core.call
    await asyncio.sleep(0)
    assert [] == core.said
    core.batch.set_result(None)
    await assert_freed_and_cancelled(core)


async def test_a_batch_that_is_done_as_the_call_ends_is_freed_too() -> None:
    """The core may complete both at once, before anybody has resumed."""
    core = Core()
    await core.begin()
    core.ended.set_result(None)
    core.batch.set_result(None)
    await assert_freed_and_cancelled(core)


async def test_a_batch_that_fails_is_freed_too() -> None:
    """It fails because the call has ended, which need not be told twice: the call's handler is cancelled, no more."""
    core = Core()
    await core.begin()
    core.batch.set_exception(cygrpc.ExecuteBatchError())
    core.ended.set_result(None)
    await assert_freed_and_cancelled(core)


async def test_a_batch_of_a_call_that_goes_on_is_cancelled_at_once() -> None:
    """A client that sends nothing more keeps nobody waiting who has been told to stop."""
    core = Core()
    await core.begin()
    core.handling.cancel()
    await asyncio.wait({core.handling})
    assert ["left"] == core.said
    core.ended.set_result(None)
    await core.call


async def test_a_call_leaves_no_garbage_in_cycles() -> None:
    """What knows of its ending goes with its task, without a collection."""
    loop = BatchLoop(asyncio.get_running_loop())

    async def end() -> None:
        ended = loop.create_future()
        asyncio.get_running_loop().call_soon(ended.set_result, None)
        await ended

    gc.disable()
    try:
        task = weakref.ref(call := loop.create_task(end(), name=CALL))
        await call
        del call
        await asyncio.sleep(0)
        assert task() is None
    finally:
        gc.enable()


CALLS = 120
CONNECTIONS = 20


def abandon(address: str) -> None:
    """Open many calls over each of several connections, send no message, and hang up."""
    methods = ("Translate", "StreamTranslate", "TranslateSegments")
    opened = b"".join(headers(2 * number + 1, call_fields(methods[number % 3])) for number in range(CALLS))
    for _ in range(CONNECTIONS):
        with socket.create_connection(split(address), timeout=20.0) as connection:
            connection.sendall(HELLO + opened)
            connection.recv(1)  # it has begun to read


@pytest.mark.skipif(native_memory() is None, reason="this libc has no mallinfo2")
def test_calls_whose_client_has_gone_leave_no_memory_behind() -> None:
    """What the core lent for them is given back: 140 bytes a call were lost where it is not."""
    held = []
    with LiveServer([loaded(reversing())]) as live:
        for _ in range(4):
            abandon(live.ready.address)
            assert ["cba"] == live.translate("abc")  # calls are taken up in turn, so all of those have been
            time.sleep(0.5)
            gc.collect()
            held.append(native_memory() or 0)
    calls = CALLS * CONNECTIONS
    assert 50 * calls > min(held[2:]) - held[0], f"{[f'{size / 1e6:.2f} MB' for size in held]} after {calls} calls each"


async def test_what_the_core_is_done_with_is_told_at_once() -> None:
    """On the loop's own thread, without a turn of the loop in between; on others, by way of the loop."""
    loop = BatchLoop(asyncio.get_running_loop())
    told: list[str] = []
    loop.call_soon_threadsafe(told.append, "here")
    assert ["here"] == told
    await asyncio.to_thread(loop.call_soon_threadsafe, lambda: told.append(threading.current_thread().name))
    await asyncio.sleep(0)
    assert ["here", threading.current_thread().name] == told
