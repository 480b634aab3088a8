"""Streams: where the engine's Outputs meet the requests that wait for them. Belongs to the event loop."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType

from service.errors import ServiceError
from service.request import Output


class Stream:
    """The last Outputs of one client request's texts, until all are there or one has failed."""

    __slots__ = ("_done", "_ids", "_outputs", "_streams")

    def __init__(self, streams: "Streams", ids: Sequence[str], done: "asyncio.Future[None]") -> None:
        self._streams = streams
        self._ids = ids
        self._outputs: dict[str, Output] = {}
        self._done = done

    def __enter__(self) -> "Stream":
        """Hold it open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it: Outputs that come later are dropped."""
        self._streams.close(self._ids)

    @property
    def unfinished(self) -> list[str]:
        """The ids whose last Output has not come, in order."""
        return [request_id for request_id in self._ids if request_id not in self._outputs]

    async def collect(self) -> list[Output]:
        """Wait for all; return them in the order of the ids, or raise the error of the first that failed."""
        await self._done
        return [self._outputs[request_id] for request_id in self._ids]

    def put(self, output: Output) -> None:
        """Take one last Output; only the registry calls this."""
        self._outputs[output.request_id] = output
        if output.error is not None:
            self.fail(output.error)
        elif len(self._outputs) == len(self._ids) and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: ServiceError) -> None:
        """End the wait by an error."""
        if not self._done.done():
            self._done.set_exception(error)


class Streams:
    """Who waits for which engine request of one model."""

    def __init__(self) -> None:
        self._open: dict[str, Stream] = {}

    def __len__(self) -> int:
        """Count the engine requests that somebody waits for."""
        return len(self._open)

    def open(self, ids: Sequence[str]) -> Stream:
        """Open a stream for these engine requests, before they are submitted."""
        stream = Stream(self, ids, asyncio.get_running_loop().create_future())
        for request_id in ids:
            self._open[request_id] = stream
        return stream

    def dispatch(self, outputs: Iterable[Output]) -> None:
        """Hand out the last Outputs of one step; those that nobody waits for any more are dropped."""
        for output in outputs:
            if output.finish_reason is not None and (stream := self._open.pop(output.request_id, None)):
                stream.put(output)

    def close(self, ids: Iterable[str]) -> None:
        """Forget these engine requests; only the stream calls this."""
        for request_id in ids:
            self._open.pop(request_id, None)

    def fail(self, error: ServiceError) -> None:
        """End every wait by an error: the engine is gone."""
        for stream in set(self._open.values()):
            stream.fail(error)
