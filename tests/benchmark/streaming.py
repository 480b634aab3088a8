"""A client of StreamTranslate that notes when each piece of text arrives."""

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from dragoman.v1 import translation_pb2 as pb
from tests.benchmark.load import TIMEOUT_SECONDS, Order, closed_loop, whole_texts

if TYPE_CHECKING:
    from dragoman.v1.translation_pb2_grpc import TranslationServiceAsyncStub as Stub


class Streamed(NamedTuple):
    """Over all texts: seconds from a request to its first piece of text, and between that and each next one."""

    first: list[float]
    gaps: list[float]


class StreamLoad:
    """A closed loop of streams: each one that ends makes room for the next."""

    def __call__(self, order: Order) -> Streamed:
        """Send all texts of an order."""
        found, _ = asyncio.run(closed_loop(order, _stream))
        return Streamed([one[0] for one in found], [gap for one in found for gap in one[1:]])


async def _stream(stub: "Stub", order: Order, text: str) -> list[float]:
    """Return the seconds before each piece of text; of an empty translation, until its end."""
    seconds: list[float] = []
    last = time.perf_counter()
    request = pb.StreamTranslateRequest(text=text, options=whole_texts(order.beam_size, order.attention))
    async for message in stub.StreamTranslate(request, timeout=TIMEOUT_SECONDS):
        if message.text_delta or (not seconds and message.HasField("translation")):
            now = time.perf_counter()
            seconds.append(now - last)
            last = now
    return seconds
