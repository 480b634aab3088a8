"""Streams: where the engine's Outputs meet the requests that wait for them. Belongs to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType

from service.errors import ServiceError
from service.request import Output


class Stream:
    """The Outputs of one job's segments, until the last of each is there or one has failed."""

    __slots__ = ("_cancel", "_done", "_grown", "_ids", "_outputs", "_streams", "_tokens")

    def __init__(
        self, streams: "Streams", ids: Sequence[str], cancel: Callable[[str], None], done: "asyncio.Future[None]"
    ) -> None:
        self._streams = streams
        self._ids = ids
        self._cancel = cancel
        self._done = done
        self._outputs: dict[str, Output] = {}
        self._tokens: dict[str, list[int]] = {}
        """Tokens that came before the last Output and that nobody has taken."""
        self._grown: asyncio.Event | None = None
        """Set when there is something new, for whoever wants to see it before all is done."""

    def __enter__(self) -> "Stream":
        """Hold it open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it: what has not ended is cancelled, and an error that nobody waited for is no surprise."""
        if len(self._outputs) < len(self._ids):
            unfinished = [request_id for request_id in self._ids if request_id not in self._outputs]
            self._streams.close(unfinished)
            for request_id in unfinished:
                self._cancel(request_id)
        if self._done.done() and not self._done.cancelled():
            self._done.exception()

    async def collect(self) -> list[Output]:
        """Wait for all; return them in the order of the ids, or raise the error of the first that failed."""
        await self._done
        return [self._outputs[request_id] for request_id in self._ids]

    async def tokens(self, request_id: str) -> AsyncIterator[Sequence[int]]:
        """Yield the tokens of one request as they come, all that are there at once, up to its last Output.

        Raises the error of whichever request of this stream failed first.
        """
        self._grown = grown = self._grown or asyncio.Event()
        while True:
            grown.clear()
            if self._done.done():
                self._done.result()
            ended = request_id in self._outputs
            if tokens := self._tokens.pop(request_id, None):
                yield tokens
            if ended:
                return
            await grown.wait()

    def output(self, request_id: str) -> Output:
        """Return the last Output of a request that has ended."""
        return self._outputs[request_id]

    def put(self, output: Output) -> None:
        """Take one Output; only the registry calls this."""
        if output.token_ids:
            self._tokens.setdefault(output.request_id, []).extend(output.token_ids)
        if output.finish_reason is not None:
            self._outputs[output.request_id] = output
            if output.error is not None:
                self.fail(output.error)
            elif len(self._outputs) == len(self._ids) and not self._done.done():
                self._done.set_result(None)
        if self._grown is not None:
            self._grown.set()

    def fail(self, error: ServiceError) -> None:
        """End the wait by an error."""
        if not self._done.done():
            self._done.set_exception(error)
        if self._grown is not None:
            self._grown.set()


class Streams:
    """Who waits for which engine request of one model."""

    def __init__(self) -> None:
        self._open: dict[str, Stream] = {}

    def __len__(self) -> int:
        """Count the engine requests that somebody waits for."""
        return len(self._open)

    def open(self, ids: Sequence[str], cancel: Callable[[str], None]) -> Stream:
        """Open a stream for these engine requests, before they are submitted; `cancel` ends one in the engine."""
        stream = Stream(self, ids, cancel, asyncio.get_running_loop().create_future())
        for request_id in ids:
            self._open[request_id] = stream
        return stream

    def dispatch(self, outputs: Iterable[Output]) -> None:
        """Hand out the Outputs of one step; those that nobody waits for any more are dropped."""
        for output in outputs:
            if output.finish_reason is None:
                stream = self._open.get(output.request_id)
            else:
                stream = self._open.pop(output.request_id, None)
            if stream is not None:
                stream.put(output)

    def close(self, ids: Iterable[str]) -> None:
        """Forget these engine requests; only the stream calls this."""
        for request_id in ids:
            self._open.pop(request_id, None)

    def fail(self, error: ServiceError) -> None:
        """End every wait by an error: the engine is gone."""
        for stream in set(self._open.values()):
            stream.fail(error)
