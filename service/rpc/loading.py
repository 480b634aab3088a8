"""The calls of the load generator: each method's answer as figures. Hot: keep it cheap."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc

MAX_MESSAGE_BYTES = 64 << 20


class Answer(NamedTuple):
    """How a request ended; what an error does not have is zero."""

    code: str
    tokens: int = 0
    first: float | None = None
    """When its first token arrived, on the clock of time.monotonic; None: all arrived at once."""
    gaps: list[float] = []  # noqa: RUF012  nobody changes it
    """Seconds between its tokens."""
    queue: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    """What the server says where the time went, in seconds."""


class Caller:
    """Connections to one server, taken in turns."""

    def __init__(self, server: str, model: str, timeout: float, connections: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        self._channels = [grpc.aio.insecure_channel(server, options=options) for _ in range(connections)]
        stubs = [translation_pb2_grpc.TranslationServiceStub(channel) for channel in self._channels]
        self._stubs: itertools.cycle[Any] = itertools.cycle(stubs)
        self._model = model
        self._timeout = timeout

    async def __aenter__(self) -> "Caller":
        """Hold the connections open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close them."""
        for channel in self._channels:
            await channel.close()

    async def ready(self) -> None:
        """Wait until all are connected."""
        for channel in self._channels:
            await channel.channel_ready()

    def method(self, mode: str) -> Callable[[Sequence[str]], Awaitable[Answer]]:
        """Return what sends one request in a mode: `unary`."""
        return {"unary": self.unary}[mode]

    async def unary(self, texts: Sequence[str]) -> Answer:
        """Translate texts in one call."""
        request = pb.TranslateRequest(texts=texts, model=self._model)
        try:
            response = await next(self._stubs).Translate(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name)
        timing = response.timing
        return Answer(
            "OK",
            tokens=sum(len(translation.hypotheses[0].tokens) for translation in response.translations),
            queue=_seconds(timing.queue),
            encode=_seconds(timing.encode),
            decode=_seconds(timing.decode),
        )


def _seconds(duration: Any) -> float:  # noqa: ANN401  google.protobuf.Duration
    return float(duration.seconds + duration.nanos * 1e-9)
