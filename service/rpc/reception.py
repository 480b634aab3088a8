"""Taking up the calls of a method that has a door: each is refused there, or begun at once.

grpc.aio's own main loop has a task for each call that it asks for and another turn for each that came; and a call that
it takes up costs two tasks and three batches of operations before anybody can refuse it. Here a call that is refused
costs one batch and no task, its message is never read, and one that is let in is saved the way through the main loop.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

from service.rpc.access import Context
from service.rpc.door import Guarded, Refusal

logger = logging.getLogger(__name__)

CALL = "rpc_task"
"""What grpc.aio names the task of a call, which awaits its end."""

Call = Any
"""grpc.aio's state of a call, which has no type."""


class Loop(Protocol):
    """What a server needs of an event loop."""

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a wait."""

    def create_task(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> "asyncio.Task[Any]":
        """Start a task."""


class Reception:
    """Takes up the calls of one method, several asked for ahead; belongs to a server's loop."""

    def __init__(self, name: str, handler: Guarded, ask: Callable[[], Coroutine[Any, Any, Call]], loop: Loop) -> None:
        self._name = name
        self._handler = handler
        self._ask = ask
        self._loop = loop
        self._asking: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        """The event loop itself keeps only weak references."""

    def open(self, ahead: int) -> "asyncio.Future[Call]":
        """Take up calls, so many asked for ahead; return what gets an error when the core ends a wait, as it stops."""
        failed: asyncio.Future[Call] = self._loop.create_future()
        while len(self._asking) < ahead:
            asking = self._loop.create_task(self._receive())
            self._asking.add(asking)
            asking.add_done_callback(functools.partial(self._report, failed))
        return failed

    def resolve_handler(self, _: object) -> Guarded:
        """Return what handles a call; grpc.aio asks."""
        return self._handler

    async def _receive(self) -> None:
        while True:
            call = await self._ask()
            refusal = self._knock(cygrpc._ServicerContext(call, None, None, self._loop))  # noqa: SLF001  as grpc.aio
            if refusal is None:
                self._begin(call)
            else:
                _refuse(call, refusal, self._loop)
            del call  # freed when it has ended, not when the next one comes

    def _knock(self, context: Context) -> Refusal | None:
        """Ask the door; where it fails, the call goes the common way."""
        try:
            return self._handler.door(context)
        except Exception:  # nobody would take up calls any more
            logger.exception("a bug at the door; the call is let in")
            return None

    def _begin(self, call: Call) -> None:
        """Begin a call as grpc.aio's main loop does."""
        handling = cygrpc._handle_rpc(self._name, self, (), call, self._loop, False)  # noqa: FBT003, SLF001
        ending = cygrpc._schedule_rpc_coro(handling, call, self._loop, self._name)  # noqa: SLF001
        task = self._loop.create_task(ending, name=CALL)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _report(self, failed: "asyncio.Future[Call]", asking: "asyncio.Task[None]") -> None:
        """Say that a wait ended: the server goes on by opening anew, or stops."""
        self._asking.discard(asking)
        error = None if asking.cancelled() else asking.exception()
        if error is not None and not failed.done():
            failed.set_exception(error)


def _refuse(call: Call, refusal: Refusal, loop: Loop) -> None:
    """End a call, in one batch: what it takes to wait for its end goes with it.

    Nobody waits for it, as its client may not read; and no task does, which would cost 30 µs.
    """
    batch = (
        cygrpc.SendInitialMetadataOperation((), 0),
        cygrpc.SendStatusFromServerOperation(refusal.trailing, refusal.code, refusal.message, 0),
        cygrpc.ReceiveCloseOnServerOperation(0),
    )
    ending = cygrpc.execute_batch(call, batch, loop)
    with contextlib.suppress(cygrpc.ExecuteBatchError):  # its client has gone
        waiting: asyncio.Future[None] = ending.send(None)
        waiting.add_done_callback(functools.partial(_see_through, ending))


def _see_through(ending: Coroutine[Any, Any, None], _: "asyncio.Future[None]") -> None:
    """Let what sent a batch free what it took."""
    with contextlib.suppress(StopIteration, cygrpc.ExecuteBatchError):
        ending.send(None)
