"""Clients of the server, to run in a process of their own: many requests in flight, or one after another."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc

if TYPE_CHECKING:
    from dragoman.v1.translation_pb2_grpc import TranslationServiceAsyncStub as Stub

TIMEOUT_SECONDS = 120.0
Answer = TypeVar("Answer")


class Order(NamedTuple):
    """What to send. `pause` is the mean of a random time, in seconds, before each request."""

    address: str
    texts: Sequence[str]
    in_flight: int = 64
    pause: float = 0.0
    beam_size: int = 1
    attention: bool = False
    connections: int = 1


def whole_texts(beam_size: int = 1, attention: bool = False) -> pb.DecodingOptions:
    """Return how to decode: every text as one segment, so that all contenders decode the same sources."""
    return pb.DecodingOptions(beam_size=beam_size, return_attention=attention, segmentation=pb.SEGMENTATION_NONE)


class Translated(NamedTuple):
    """One answer: the text, and its subword pieces without the end symbol."""

    text: str
    pieces: list[str]


class Run(NamedTuple):
    """The answers, in the order of the texts, and the seconds from the first request to the last answer."""

    translated: list[Translated]
    seconds: float

    @property
    def tokens(self) -> int:
        """Target tokens, end symbols left out."""
        return sum(len(one.pieces) for one in self.translated)


class Load:
    """A closed loop of single-text requests: each answer makes room for the next request."""

    def __call__(self, order: Order) -> Run:
        """Send all texts of an order."""
        answers, seconds = asyncio.run(closed_loop(order, _translate))
        return Run([_translated(answer.translations[0]) for answer in answers], seconds)


async def closed_loop(
    order: Order, call: Callable[["Stub", Order, str], Awaitable[Answer]]
) -> tuple[list[Answer], float]:
    """Pass each text to a call; return the answers in the order of the texts, and the seconds that all took."""
    answers: dict[int, Answer] = {}
    texts = iter(enumerate(order.texts))
    async with AsyncExitStack() as stack:
        stubs = []
        for _ in range(order.connections):
            options = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share a connection
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(order.address, options=options))
            await asyncio.wait_for(channel.channel_ready(), TIMEOUT_SECONDS)
            stubs.append(translation_pb2_grpc.TranslationServiceStub(channel))

        async def lane(number: int, texts: Iterator[tuple[int, str]]) -> None:
            stub = stubs[number % len(stubs)]
            chance = random.Random(number)  # noqa: S311  no secret
            for index, text in texts:
                if order.pause:
                    await asyncio.sleep(chance.expovariate(1 / order.pause))
                answers[index] = await call(stub, order, text)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(order.in_flight):
                group.create_task(lane(number, texts))
        seconds = time.perf_counter() - started
    return [answers[index] for index in range(len(order.texts))], seconds


async def _translate(stub: "Stub", order: Order, text: str) -> pb.TranslateResponse:
    request = pb.TranslateRequest(texts=[text], options=whole_texts(order.beam_size, order.attention))
    return await stub.Translate(request, timeout=TIMEOUT_SECONDS)


def _translated(translation: pb.Translation) -> Translated:
    best = translation.hypotheses[0]
    return Translated(best.text, list(best.tokens))


class SegmentLoad:
    """One stream of segments: each answer makes room for the next one, as where a file is translated."""

    def __call__(self, order: Order) -> Run:
        """Send all texts of an order."""
        answers, seconds = asyncio.run(one_stream(order))
        return Run([_translated(answer.translation) for answer in answers], seconds)


async def one_stream(order: Order) -> tuple[list[pb.TranslateSegmentsResponse], float]:
    """Pass all texts through a stream; return the answers in the order of the texts, and the seconds that all took."""
    answers: dict[int, pb.TranslateSegmentsResponse] = {}
    room = asyncio.Semaphore(order.in_flight)
    options = whole_texts(order.beam_size, order.attention)

    async def requests() -> AsyncIterator[pb.TranslateSegmentsRequest]:
        for number, text in enumerate(order.texts):
            await room.acquire()
            yield pb.TranslateSegmentsRequest(segment_id=str(number), text=text, options=options)

    async with grpc.aio.insecure_channel(order.address) as channel:
        await asyncio.wait_for(channel.channel_ready(), TIMEOUT_SECONDS)
        stub = translation_pb2_grpc.TranslationServiceStub(channel)
        started = time.perf_counter()
        async for answer in stub.TranslateSegments(requests(), timeout=TIMEOUT_SECONDS):
            answers[int(answer.segment_id)] = answer
            room.release()
        seconds = time.perf_counter() - started
    return [answers[number] for number in range(len(order.texts))], seconds


class Repeated(NamedTuple):
    """Seconds of each call, and the decoder steps that one took."""

    seconds: list[float]
    steps: int


class OneByOne:
    """Sends one text again and again over one connection and waits for each answer."""

    def __init__(self, address: str, text: str) -> None:
        self._stub = translation_pb2_grpc.TranslationServiceStub(grpc.insecure_channel(address))
        self._request = pb.TranslateRequest(texts=[text], options=whole_texts())

    def __call__(self, times: int) -> Repeated:
        """Time so many calls."""
        seconds, steps = [], 0
        for _ in itertools.repeat(None, times):
            started = time.perf_counter()
            answer = self._stub.Translate(self._request, timeout=TIMEOUT_SECONDS)
            seconds.append(time.perf_counter() - started)
            steps = answer.timing.steps
        return Repeated(seconds, steps)
