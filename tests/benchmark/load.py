"""Clients of the server, to run in a process of their own: many requests in flight, or one after another."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc

TIMEOUT_SECONDS = 120.0


class Order(NamedTuple):
    """What to send. `pause` is the mean of a random time, in seconds, before each request."""

    address: str
    texts: Sequence[str]
    in_flight: int = 64
    pause: float = 0.0


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
        return asyncio.run(_send(order))


async def _send(order: Order) -> Run:
    answers: list[pb.TranslateResponse | None] = [None] * len(order.texts)
    texts = iter(enumerate(order.texts))
    async with grpc.aio.insecure_channel(order.address) as channel:
        stub = translation_pb2_grpc.TranslationServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), TIMEOUT_SECONDS)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for lane in range(order.in_flight):
                group.create_task(_lane(stub, texts, answers, random.Random(lane), order.pause))  # noqa: S311
        seconds = time.perf_counter() - started
    return Run([_translated(answer) for answer in answers if answer is not None], seconds)


async def _lane(
    stub: "translation_pb2_grpc.TranslationServiceAsyncStub",
    texts: Iterator[tuple[int, str]],
    answers: list[pb.TranslateResponse | None],
    chance: random.Random,
    pause: float,
) -> None:
    for index, text in texts:
        if pause:
            await asyncio.sleep(chance.expovariate(1 / pause))
        answers[index] = await stub.Translate(pb.TranslateRequest(texts=[text]), timeout=TIMEOUT_SECONDS)


def _translated(answer: pb.TranslateResponse) -> Translated:
    best = answer.translations[0].hypotheses[0]
    return Translated(best.text, list(best.tokens))


class Repeated(NamedTuple):
    """Seconds of each call, and the decoder steps that one took."""

    seconds: list[float]
    steps: int


class OneByOne:
    """Sends one text again and again over one connection and waits for each answer."""

    def __init__(self, address: str, text: str) -> None:
        self._stub = translation_pb2_grpc.TranslationServiceStub(grpc.insecure_channel(address))
        self._request = pb.TranslateRequest(texts=[text])

    def __call__(self, times: int) -> Repeated:
        """Time so many calls."""
        seconds, steps = [], 0
        for _ in itertools.repeat(None, times):
            started = time.perf_counter()
            answer = self._stub.Translate(self._request, timeout=TIMEOUT_SECONDS)
            seconds.append(time.perf_counter() - started)
            steps = answer.timing.steps
        return Repeated(seconds, steps)
