"""The calls of the load generator: each method's answer as figures. Hot: keep it cheap."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.rpc.channel import Connection

MAX_MESSAGE_BYTES = 64 << 20
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


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

    def __init__(self, connection: Connection, model: str, timeout: float, connections: int) -> None:
        self._channels = connection.open_many(connections, [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
        stubs = [translation_pb2_grpc.TranslationServiceStub(channel) for channel in self._channels]
        self._stubs: itertools.cycle[Any] = itertools.cycle(stubs)
        self._streams = [SegmentStream(stub) for stub in stubs]
        self._turns = itertools.cycle(self._streams)
        self._model = model
        self._timeout = timeout

    async def __aenter__(self) -> "Caller":
        """Hold the connections open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close them."""
        for stream in self._streams:
            stream.close()
        for channel in self._channels:
            await channel.close()

    async def ready(self) -> None:
        """Wait until all are connected."""
        for channel in self._channels:
            await channel.channel_ready()

    def method(self, mode: str) -> Callable[[Sequence[str]], Awaitable[Answer]]:
        """Return what sends one request in a mode: `unary`, `stream` or `segments`."""
        return {"unary": self.unary, "stream": self.stream, "segments": self.segment}[mode]

    async def unary(self, texts: Sequence[str]) -> Answer:
        """Translate texts in one call."""
        request = pb.TranslateRequest(texts=texts, model=self._model)
        try:
            response = await next(self._stubs).Translate(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name)
        return _told(response.translations, response.timing)

    async def stream(self, texts: Sequence[str]) -> Answer:
        """Translate one text as a stream; note when what of it arrives."""
        request = pb.StreamTranslateRequest(text=texts[0], model=self._model)
        arrivals: list[float] = []
        last = pb.StreamTranslateResponse()
        try:
            async for message in next(self._stubs).StreamTranslate(request, timeout=self._timeout):
                if message.text_delta:
                    arrivals.append(time.monotonic())
                last = message
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name)
        gaps = [after - before for before, after in itertools.pairwise(arrivals)]
        answer = _told([last.translation], last.timing)
        return answer._replace(first=arrivals[0] if arrivals else None, gaps=gaps)

    async def segment(self, texts: Sequence[str]) -> Answer:
        """Translate one text as a segment of a connection's stream, which stays open for those that follow."""
        request = pb.TranslateSegmentsRequest(text=texts[0], model=self._model)
        try:
            response = await asyncio.wait_for(next(self._turns).ask(request), self._timeout)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name)
        except TimeoutError:
            return Answer("DEADLINE_EXCEEDED")
        if response.HasField("error"):
            return Answer(CODES.get(response.error.code, "UNKNOWN"))
        return _told([response.translation], response.timing)


class SegmentStream:
    """One TranslateSegments call, opened anew where it ended; answers find whoever asked by their id."""

    def __init__(self, stub: Any) -> None:  # noqa: ANN401  the asynchronous stub, which only type checkers know
        self._stub = stub
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: dict[str, asyncio.Future[pb.TranslateSegmentsResponse]] = {}
        self._serial = itertools.count()
        self._writing = asyncio.Lock()

    async def ask(self, request: pb.TranslateSegmentsRequest) -> pb.TranslateSegmentsResponse:
        """Send a segment and wait for what becomes of it; raises AioRpcError where the stream breaks."""
        request.segment_id = str(next(self._serial))
        answered: asyncio.Future[pb.TranslateSegmentsResponse] = asyncio.get_running_loop().create_future()
        self._asked[request.segment_id] = answered
        try:
            async with self._writing:  # a stream takes one message after the other
                if self._reading is None or self._reading.done():
                    self._call = self._stub.TranslateSegments()
                    self._reading = asyncio.create_task(self._read(self._call))
                with contextlib.suppress(asyncio.InvalidStateError):  # it broke; its reader says why
                    await self._call.write(request)
            return await answered
        finally:
            self._asked.pop(request.segment_id, None)

    def close(self) -> None:
        """End the call."""
        if self._call is not None:
            self._call.cancel()

    async def _read(self, call: Any) -> None:  # noqa: ANN401
        try:
            async for response in call:
                if (waiting := self._asked.get(response.segment_id)) is not None and not waiting.done():
                    waiting.set_result(response)
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            )
        except grpc.aio.AioRpcError as error:
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(error)


def _told(translations: Sequence[pb.Translation], timing: pb.Timing) -> Answer:
    return Answer(
        "OK",
        tokens=sum(len(translation.hypotheses[0].tokens) for translation in translations if translation.hypotheses),
        queue=_seconds(timing.queue),
        encode=_seconds(timing.encode),
        decode=_seconds(timing.decode),
    )


def _seconds(duration: Any) -> float:  # noqa: ANN401  google.protobuf.Duration
    return float(duration.seconds + duration.nanos * 1e-9)
