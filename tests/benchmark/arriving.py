"""Clients for texts that arrive by themselves: a Poisson process that waits for nobody, over gRPC or HTTP."""

import asyncio
import json
import math
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from tests.benchmark.load import TIMEOUT_SECONDS, whole_texts

TOLERATED = 0.01
"""Share of the arrivals that may take longer than the bound: the bound is on the 99th percentile."""
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

Send = Callable[[str], Awaitable[None]]


class Target(NamedTuple):
    """Where to send; `http` is a server that takes `{"text": …}` at /predict."""

    protocol: str
    """`grpc` or `http`."""
    address: str


class Arrivals(NamedTuple):
    """Texts that arrive at random. The same seed gives the same texts and, but for the rate, the same times."""

    number: int
    rate: float
    """Per second; infinite: all at once."""
    seed: int
    in_flight: int | None = None
    """So many at once at most: a closed loop, where a text arrives when there is room. None: no bound."""
    bound: float = math.inf
    """Seconds. Once it is clear that the 99th percentile is above, the rest is called off; what fails is above."""


class Outcome(NamedTuple):
    """Seconds from each intended arrival to its answer, and those that all took."""

    latencies: list[float]
    seconds: float
    kept: bool
    """Whether at most one in a hundred took longer than the bound."""


class Arriving:
    """Sends texts to one server."""

    def __init__(self, target: Target, texts: Sequence[str]) -> None:
        self._target = target
        self._texts = texts

    def __call__(self, arrivals: Arrivals) -> Outcome:
        """Let texts arrive, and wait for all answers, or until they are called off."""
        return asyncio.run(self._arrive(arrivals))

    async def _arrive(self, arrivals: Arrivals) -> Outcome:
        chance = random.Random(arrivals.seed)  # noqa: S311  no secret
        texts = chance.choices(self._texts, k=arrivals.number)
        gaps = [chance.expovariate(1.0) / arrivals.rate for _ in texts]
        sender = {"grpc": over_grpc, "http": over_http}[self._target.protocol]
        async with sender(self._target.address) as send:
            await send(texts[0])  # connects
            started = time.perf_counter()
            watch = _Watch(send, arrivals)
            kept = await (watch.open(texts, gaps) if arrivals.in_flight is None else watch.closed(texts))
            return Outcome(watch.latencies, time.perf_counter() - started, kept)


class _Watch:
    """Times the answers to one lot of arrivals."""

    def __init__(self, send: Send, arrivals: Arrivals) -> None:
        self._send = send
        self._arrivals = arrivals
        self._slow: set[int] = set()
        self._hopeless = asyncio.Event()
        self.latencies: list[float] = []

    async def open(self, texts: Sequence[str], gaps: Sequence[float]) -> bool:
        """Send each text at its time, whatever became of those before it; return whether the bound was kept."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        tasks = []
        for number, (text, gap) in enumerate(zip(texts, gaps, strict=True)):
            at += gap
            await asyncio.sleep(at - loop.time())
            if self._hopeless.is_set():
                break
            tasks.append(asyncio.create_task(self._one(number, text, at)))
        ended = asyncio.gather(*tasks, return_exceptions=True)
        hopeless = asyncio.create_task(self._hopeless.wait())
        await asyncio.wait((ended, hopeless), return_when=asyncio.FIRST_COMPLETED)
        hopeless.cancel()
        for task in tasks:
            task.cancel()
        failures = [found for found in await ended if isinstance(found, Exception)]
        if failures:
            raise failures[0]
        return not self._hopeless.is_set()

    async def closed(self, texts: Sequence[str]) -> bool:
        """Send each text when there is room for it; return whether the bound was kept."""
        waiting = iter(enumerate(texts))

        async def lane() -> None:
            for number, text in waiting:
                await self._one(number, text, asyncio.get_running_loop().time())

        await asyncio.gather(*(lane() for _ in range(self._arrivals.in_flight or 1)))
        return not self._hopeless.is_set()

    async def _one(self, number: int, text: str, at: float) -> None:
        loop = asyncio.get_running_loop()
        bound = self._arrivals.bound
        alarm = None if math.isinf(bound) else loop.call_at(at + bound, self._note_slow, number)
        try:
            await self._send(text)
            seconds = loop.time() - at
        except (grpc.RpcError, OSError, EOFError):
            if alarm is None:
                raise
            seconds = math.inf
        self.latencies.append(seconds)
        if alarm is not None:
            alarm.cancel()
        if seconds > bound:
            self._note_slow(number)

    def _note_slow(self, number: int) -> None:
        self._slow.add(number)
        if len(self._slow) > TOLERATED * self._arrivals.number:
            self._hopeless.set()


@asynccontextmanager
async def over_grpc(address: str) -> AsyncIterator[Send]:
    """Send texts to `Translate` over one connection."""
    options = whole_texts()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationServiceStub(channel)

        async def send(text: str) -> None:
            await stub.Translate(pb.TranslateRequest(texts=[text], options=options), timeout=TIMEOUT_SECONDS)

        yield send


@asynccontextmanager
async def over_http(address: str) -> AsyncIterator[Send]:
    """Send texts as JSON over connections that stay open: in a few lines, so that the client costs next to nothing."""
    host, _, port = address.rpartition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(text: str) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        try:
            body = json.dumps({"text": text}).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(answer)
            await reader.readexactly(int(length.group(1)) if length else 0)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(answer.decode(errors="replace"))
        except BaseException:
            writer.close()
            raise
        idle.append((reader, writer))

    try:
        yield send
    finally:
        for _, writer in idle:
            writer.close()
