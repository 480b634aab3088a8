"""Sends the calls that hypothesis draws, many at once, and writes down how each ends."""

import asyncio
import collections
import contextlib
import random
import threading
import time
from typing import Any

import grpc
import hypothesis

from tests.hostile.messages import Ask, any_call, twisted

AT_ONCE = 48
CHANNELS = 6
CHUNK = 2000
"""Examples of one run of hypothesis, which remembers all of them."""
DRAWING = hypothesis.settings(
    database=None, deadline=None, phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck)
)
TWISTS = 4
"""Copies of each drawn call that are sent after it, with other bytes or less patience."""
BROKEN_OFF = "Internal error from Core"
"""What the client itself says where it still writes to a stream that the server has ended, and loses the answer."""
ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "broken off"}
PROPER = {
    "fields": ANSWERS,
    "wire": ANSWERS,
    "deadlines": ANSWERS | {"DEADLINE_EXCEEDED"},
    "cancelled": ANSWERS | {"CANCELLED"},
    "giant metadata": ANSWERS,
    "giant messages": ANSWERS - {"OK"},
}
"""How calls of our methods may end. What gRPC answers for others is its own affair."""


class Asking:
    """A thread with the connections of hostile clients, from entering to leaving."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asking")
        self._free = threading.Semaphore(AT_ONCE)
        self._channels: list[grpc.aio.Channel] = []
        self._turn = 0
        self.endings: collections.Counter[tuple[str, str]] = collections.Counter()
        """Calls by kind and code."""
        self.improper: list[str] = []
        """Calls that ended as they must not, with what they were."""

    def __enter__(self) -> "Asking":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.rest()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def rest(self) -> None:
        """Wait for all answers, and hang up."""
        for _place in range(AT_ONCE):
            self._free.acquire()
        self._run(self._close())
        self._free.release(AT_ONCE)

    def ask(self, count: int, seed: int) -> None:
        """Send so many calls, many at once: some that hypothesis draws, and each with its twisted copies."""
        chance = random.Random(seed)  # noqa: S311  no secret
        self._run(self._connect())
        left = count
        while left > 0:
            left -= self._draw(min(CHUNK, -(-left // (1 + TWISTS))), seed + left, chance)

    def _draw(self, examples: int, seed: int, chance: random.Random) -> int:
        """Let hypothesis draw so many calls; return how many were sent."""
        sent: list[int] = []

        @hypothesis.seed(seed)
        @hypothesis.settings(DRAWING, max_examples=examples)
        @hypothesis.given(any_call())
        def draw(asked: Ask) -> None:
            for copy in (asked, *(twisted(asked, chance) for _ in range(TWISTS))):
                self._free.acquire()
                asyncio.run_coroutine_threadsafe(self._send(copy), self._loop)
                sent.append(1)

        draw()
        return len(sent)

    async def _send(self, asked: Ask) -> None:
        self._turn += 1
        try:
            code = await _ending(self._channels[self._turn % CHANNELS], asked)
        finally:
            self._free.release()
        self.endings[asked.kind, code] += 1
        if code not in PROPER.get(asked.kind, {code}):
            self.improper.append(f"{time.strftime('%H:%M:%S')} {code} after {str(asked)[:1000]}")

    async def _connect(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 8 << 20)]
        self._channels = [grpc.aio.insecure_channel(self._address, options) for _ in range(CHANNELS)]

    async def _close(self) -> None:
        for channel in self._channels:
            await channel.close()
        self._channels = []

    def _run(self, work: "asyncio.Future[None] | object") -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60.0)  # type: ignore[arg-type]


async def _ending(channel: grpc.aio.Channel, asked: Ask) -> str:
    """Make the call as it is; return the code that the server gave, or CANCELLED."""
    call = _call(channel, asked)
    ending = asyncio.create_task(_finish(call, asked))
    told = asyncio.create_task(call.code())
    if asked.cancel_after is not None:
        await asyncio.wait((ending,), timeout=asked.cancel_after)
        call.cancel()
    await asyncio.wait((ending, told), return_when=asyncio.FIRST_COMPLETED)
    await told
    details = await call.details()
    code: grpc.StatusCode = await call.code()  # what the client made up before is replaced by what the server said
    ending.cancel()
    if code is not grpc.StatusCode.INTERNAL or asked.kind == "strange methods":
        return code.name
    return "broken off" if details.startswith(BROKEN_OFF) else f"INTERNAL: {details}"


async def _finish(call: Any, asked: Ask) -> None:
    """Send what is to be sent and take what comes, whatever becomes of it: the code of the call will say."""
    with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError):
        if asked.streams[0]:
            await _write(call, asked.messages)
        if asked.streams[1]:
            async for _ in call:
                pass
        else:
            await call


async def _write(call: Any, messages: list[bytes]) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it may have ended before
        for message in messages:
            await call.write(message)
        await call.done_writing()


def _call(channel: Any, asked: Ask) -> Any:
    about: dict[str, Any] = {"timeout": asked.timeout, "metadata": asked.metadata}
    match asked.streams:
        case (False, False):
            return channel.unary_unary(asked.method)(asked.messages[0], **about)
        case (True, False):
            return channel.stream_unary(asked.method)(**about)
        case (False, True):
            return channel.unary_stream(asked.method)(asked.messages[0], **about)
        case _:
            return channel.stream_stream(asked.method)(**about)
