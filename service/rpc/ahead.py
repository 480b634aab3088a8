"""gRPC's server, asking its core for many calls ahead.

grpc.aio asks for the next call when it has taken up the last one, half a dozen turns of the event loop and two changes
of thread later. While the loop is busy with answers, calls would come in one at a time, and whoever is to be refused
would wait for all in front of him.
"""

import asyncio
import collections
import functools
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

from service.rpc.door import Guarded
from service.rpc.reception import Loop, Reception

AHEAD = 32
"""Calls that the core may hand over at once: what comes while the event loop answers the texts of a step."""

Asking = asyncio.Future[object]


class AheadServer(cygrpc.AioServer):  # type: ignore[misc]  # no types for it
    """Asks for calls ahead: of each method with a door by itself, and of all that were not registered together.

    Others that were registered are reflection's, and few.
    """

    def __init__(self, loop: Loop, *given: object) -> None:
        super().__init__(loop, *given)
        self._on = loop
        self._receptions: dict[bytes, Reception] = {}
        self._asked: collections.deque[Asking] = collections.deque()
        """The core answers them in this order."""

    def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
        """Register methods; calls of those with doors are taken up here."""
        super().add_registered_method_handlers(handlers)
        for name, handler in handlers.items():
            if isinstance(handler, Guarded):
                ask = functools.partial(self._request_registered_call, name.encode())
                self._receptions[name.encode()] = Reception(name, handler, ask, self._on)

    def _make_request_call_future(self, method: bytes | None) -> Asking:
        """Return the wait for the next call; those for the calls behind it have begun."""
        if method is not None:
            reception = self._receptions.get(method)
            asked: Asking = super()._make_request_call_future(method) if reception is None else reception.open(AHEAD)
            return asked
        while len(self._asked) < AHEAD:
            asking = super()._make_request_call_future(None)
            asking.add_done_callback(_ended)
            self._asked.append(asking)
        return self._asked.popleft()


def _ended(asking: Asking) -> None:
    """Look at what became of it: as the server stops, the core ends all with errors that nobody waits for."""
    if not asking.cancelled():
        asking.exception()
