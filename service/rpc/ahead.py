"""gRPC's server, asking its core for many calls ahead.

grpc.aio asks for the next call when it has taken up the last one, half a dozen turns of the event loop and two changes
of thread later. While the loop is busy with answers, calls would come in one at a time, and whoever is to be refused
would wait for all in front of him.
"""

import asyncio
import collections

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no types for it

AHEAD = 32
"""Calls that the core may hand over at once: what comes while the event loop answers the texts of a step."""

Asking = asyncio.Task[object]


class AheadServer(cygrpc.AioServer):  # type: ignore[misc]  # no types for it
    """Asks for calls ahead, but for methods that were registered: only reflection's are, and they are few."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        self._asked: collections.deque[Asking] = collections.deque()
        """The core answers them in this order."""

    def _make_request_call_future(self, method: bytes | None) -> Asking:
        """Return the wait for the next call; those for the calls behind it have begun."""
        while method is None and len(self._asked) < AHEAD:
            asking = super()._make_request_call_future(None)
            asking.add_done_callback(_ended)
            self._asked.append(asking)
        asked: Asking = super()._make_request_call_future(method) if method else self._asked.popleft()
        return asked


def _ended(asking: Asking) -> None:
    """Look at what became of it: as the server stops, the core ends all with errors that nobody waits for."""
    if not asking.cancelled():
        asking.exception()
