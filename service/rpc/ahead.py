"""gRPC's server, asking its core for many calls ahead, and refusing at the door.

grpc.aio asks for the next call when it has taken up the last one, half a dozen turns of the event loop and two changes
of thread later. While the loop is busy with answers, calls would come in one at a time, and whoever is to be refused
would wait for all in front of him.

A call that it takes up costs it two tasks and three batches of operations before anybody can refuse it. Where a method
has a door, a call that is not let in costs one batch, and no task: its message is never read.
"""

import asyncio
import collections
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

from service.rpc.access import Context
from service.rpc.door import Door, Refusal

logger = logging.getLogger(__name__)

AHEAD = 32
"""Calls that the core may hand over at once: what comes while the event loop answers the texts of a step."""


class AheadServer(cygrpc.AioServer):  # type: ignore[misc]  # no types for it
    """Asks for calls ahead: of each method that was registered, and of all others together."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        self._arrivals: dict[bytes | None, Arrivals] = {}
        self._doors: dict[bytes, Door] = {}

    def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
        """Register methods, with the doors that some have."""
        super().add_registered_method_handlers(handlers)
        self._doors |= {name.encode(): handler.door for name, handler in handlers.items() if hasattr(handler, "door")}

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Return the wait for the next call; those for the calls behind it have begun."""
        if (arrivals := self._arrivals.get(method)) is None:
            ask = self._request_call if method is None else functools.partial(self._request_registered_call, method)
            arrivals = self._arrivals[method] = Arrivals(ask, self._doors.get(method or b""))
        return arrivals.next()


class Arrivals:
    """The calls that come, in the order in which they do; those that the door refuses are none."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Any]], door: Door | None) -> None:
        self._ask = ask
        self._door = door
        self._asking: set[asyncio.Task[Any]] = set()
        self._came: collections.deque[asyncio.Task[Any]] = collections.deque()
        self._next: asyncio.Future[Any] | None = None
        """What the server waits for."""

    def next(self) -> "asyncio.Future[Any]":
        """Return the wait for the next call, or that call."""
        while len(self._asking) + len(self._came) < AHEAD:
            asking = asyncio.create_task(self._ask() if self._door is None else self._let_in(self._door))
            self._asking.add(asking)
            asking.add_done_callback(self._arrive)
        if self._came:
            return self._came.popleft()
        self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def _let_in(self, door: Door) -> object:
        """Return the next call that is let in. None is waited for that leaves: its client may not read."""
        loop = asyncio.get_running_loop()
        while True:
            call = await self._ask()
            refusal = _knock(door, cygrpc._ServicerContext(call, None, None, loop))  # noqa: SLF001  as grpc.aio's own
            if refusal is None:
                return call
            _refuse(call, refusal, loop)
            del call  # freed when it has ended, not when the next one comes

    def _arrive(self, asked: "asyncio.Task[Any]") -> None:
        """Hand a call over; as the server stops, the core ends all waits with errors."""
        self._asking.discard(asked)
        if asked.cancelled():
            return
        error = asked.exception()
        if self._next is None or self._next.done():
            self._came.append(asked)
        elif error is None:
            self._next.set_result(asked.result())
        else:
            self._next.set_exception(error)


def _knock(door: Door, context: Context) -> Refusal | None:
    """Ask the door; where it fails, the call goes the common way."""
    try:
        return door(context)
    except Exception:  # a server whose main loop gets an error stops
        logger.exception("a bug at the door; the call is let in")
        return None


def _refuse(call: object, refusal: Refusal, loop: asyncio.AbstractEventLoop) -> None:
    """End a call, in one batch: what it takes to wait for its end goes with it. No task waits: it would cost 30 µs."""
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
