"""Clients that vanish: calls of all kinds, cancelled at random moments, or with their connection."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.load.scrape import fetch

if TYPE_CHECKING:
    from dragoman.v1.translation_pb2_grpc import TranslationServiceAsyncStub as Stub

Call = Callable[["Stub", Sequence[str], pb.DecodingOptions], Coroutine[None, None, None]]

LANES = 64
HANG_UP = 0.1
"""Share of the calls that end with their connection."""
MOST_TEXTS = 4
"""In one call."""
POLL_SECONDS = 0.002
GAUGES = ("dragoman_requests_waiting", "dragoman_requests_running")


class Vanishing(NamedTuple):
    """A storm: so many calls. Each goes away `after` seconds and a random time, of this mean, from its start."""

    calls: int
    seed: int
    beam_size: int
    """Of every other call; the rest are greedy."""
    mean: float
    after: float = 0.0


class Passed(NamedTuple):
    """What became of the calls."""

    vanished: int
    answered: int
    """Before they could vanish."""
    codes: dict[str, int]
    """Of those that the server refused or failed."""
    seconds_to_rest: float
    """From the last one's end until nothing waits or runs."""


class Storm:
    """Sends storms to one server, and watches its metrics until all has passed."""

    def __init__(self, address: str, metrics_url: str, texts: Sequence[str], patience: float) -> None:
        """Take where to send and what; `patience`: seconds to wait for the server to come to rest."""
        self._address = address
        self._metrics_url = metrics_url
        self._texts = texts
        self._patience = patience

    def __call__(self, storm: Vanishing) -> Passed:
        """Let it pass; `seconds_to_rest` is infinite where the server does not come to rest."""
        ends = asyncio.run(self._storm(storm))
        seconds = self._rest()
        codes = [end for end in ends if end not in ("vanished", "OK")]
        counts = {code: codes.count(code) for code in sorted(set(codes))}
        return Passed(ends.count("vanished"), ends.count("OK"), counts, seconds)

    async def _storm(self, storm: Vanishing) -> list[str]:
        ends: list[str] = []
        numbers = iter(range(storm.calls))
        await asyncio.gather(*(self._lane(storm, lane, numbers, ends) for lane in range(LANES)))
        return ends

    async def _lane(self, storm: Vanishing, lane: int, numbers: Iterator[int], ends: list[str]) -> None:
        """Make one call after another over one connection, and a new one where that went away."""
        chance = random.Random(1000 * storm.seed + lane)  # noqa: S311  no secret
        for number in numbers:
            async with grpc.aio.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = translation_pb2_grpc.TranslationServiceStub(channel)
                for current in itertools.chain((number,), numbers):
                    options = pb.DecodingOptions(beam_size=storm.beam_size if chance.random() < 0.5 else 1)
                    texts = chance.choices(self._texts, k=chance.randint(1, MOST_TEXTS))
                    calling = asyncio.create_task(CALLS[current % len(CALLS)](stub, texts, options))
                    await asyncio.wait((calling,), timeout=storm.after + storm.mean * chance.expovariate(1.0))
                    hangs_up = chance.random() < HANG_UP
                    if hangs_up and not calling.done():
                        await channel.close(None)
                    calling.cancel()
                    ends.append(await _end(calling))
                    if hangs_up:
                        break

    def _rest(self) -> float:
        started = time.perf_counter()
        page = fetch(self._metrics_url)
        while sum(page.sum(gauge) for gauge in GAUGES):
            if time.perf_counter() - started > self._patience:
                return float("inf")
            time.sleep(POLL_SECONDS)
            page = fetch(self._metrics_url)
        return time.perf_counter() - started


async def _end(calling: "asyncio.Task[None]") -> str:
    try:
        await calling
    except (asyncio.CancelledError, grpc.aio.UsageError):
        return "vanished"
    except grpc.aio.AioRpcError as error:
        return "vanished" if error.code() is grpc.StatusCode.CANCELLED else error.code().name
    return "OK"


async def _unary(stub: "Stub", texts: Sequence[str], options: pb.DecodingOptions) -> None:
    await stub.Translate(pb.TranslateRequest(texts=texts, options=options))


async def _stream(stub: "Stub", texts: Sequence[str], options: pb.DecodingOptions) -> None:
    async for _ in stub.StreamTranslate(pb.StreamTranslateRequest(text=texts[0], options=options)):
        pass


async def _segments(stub: "Stub", texts: Sequence[str], options: pb.DecodingOptions) -> None:
    async def requests() -> AsyncIterator[pb.TranslateSegmentsRequest]:
        for number, text in enumerate(texts):
            yield pb.TranslateSegmentsRequest(segment_id=str(number), text=text, options=options)

    async for _ in stub.TranslateSegments(requests()):
        pass


CALLS: tuple[Call, ...] = (
    _unary,
    _stream,
    _segments,
)
