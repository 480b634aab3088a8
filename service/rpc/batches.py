"""gRPC's server, without what it leaks of calls whose client has gone (https://github.com/grpc/grpc/issues/43360).

For each thing that a call needs of the core, grpc.aio hands over a batch and awaits it. When the client has gone, who
awaits is cancelled at once, and what the batch took is never freed: 140 bytes, each in a page of its own. But the core
is done with the batches of such a call at once too. So here the wait is seen through, and cancelled then.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

from service.rpc.ahead import AheadServer
from service.rpc.reception import CALL


class Ending:
    """Whether a call has ended. Holds its task only until that awaits the end: a cycle would wait for a collection."""

    __slots__ = ("came", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.came = False
        """Whether the core has said so; from then on it completes whatever it is given."""

    def note(self, _: "asyncio.Future[None]") -> None:
        """Take note that it came."""
        self.came = True


class Batch(asyncio.Future[None]):
    """The wait for the core to complete a batch; cancelled when the call has ended, it goes on until that is done.

    Each call has several: what they need is set from outside, which costs less than a constructor in Python.
    """

    __slots__ = ("ending", "waiting")
    ending: Ending
    waiting: "asyncio.Task[Any] | None"

    def cancel(self, msg: object = None) -> bool:
        """Cancel, or let who waits resume when the batch is done, and cancel it at what it awaits next."""
        if self.waiting is None or not self.ending.came:
            return super().cancel(msg)
        self.add_done_callback(self._resumed)
        return True

    def set_exception(self, error: "type[BaseException] | BaseException", /) -> None:
        """Be done all the same where a batch fails: its call has ended, which the task of the call is told too."""
        if isinstance(error, cygrpc.ExecuteBatchError):
            self.set_result(None)
        else:
            super().set_exception(error)

    def _resumed(self, _: "asyncio.Future[None]") -> None:
        """Cancel who waited; it was woken before this is called."""
        if self.waiting is not None:
            self.waiting.cancel()


class BatchLoop:
    """An event loop for gRPC's server alone, whose futures are waits for batches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a loop, on its own thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        self._ending: contextvars.ContextVar[Ending | None] = contextvars.ContextVar("ending", default=None)

    def create_future(self) -> "asyncio.Future[Any]":
        """Return the wait for a batch of the current call, or another future."""
        if (ending := self._ending.get()) is None:
            return self._loop.create_future()
        batch = Batch(loop=self._loop)
        batch.ending = ending
        batch.waiting = waiting = asyncio.current_task()
        if waiting is ending.task:
            ending.task = None
            batch.add_done_callback(ending.note)  # the first, so it is called before the task resumes
        return batch

    def create_task(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> "asyncio.Task[Any]":
        """Start a task; where it is that of a call, it and all that it starts know its ending."""
        if name != CALL:
            return self._loop.create_task(work, name=name)
        context = contextvars.copy_context()
        ending = Ending()
        context.run(self._ending.set, ending)
        ending.task = self._loop.create_task(work, name=name, context=context)
        return ending.task

    def call_soon_threadsafe(self, callback: Callable[..., object], *given: object) -> None:
        """Call, at once on the loop's own thread: there, gRPC asks for it where the core is done with a batch.

        It calls its own loop's without asking, and takes this one for another thread's.
        """
        if threading.get_ident() == self._thread:
            callback(*given)
        else:
            self._loop.call_soon_threadsafe(callback, *given)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the loop has
        """Leave all else to the loop."""
        return getattr(self._loop, name)


def open_server(options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """Return a server of grpc.aio that sees its batches through, and asks for calls ahead.

    It takes neither a loop nor a core's server from anybody, so they are slipped in.
    """
    made = cygrpc.AioServer
    cygrpc.AioServer = lambda loop, *others: AheadServer(BatchLoop(loop), *others)
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = made
