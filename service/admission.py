"""Admission: whether a request may enter, decided at once. Belongs to the event loop."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from service.errors import InvalidRequestError, OverloadedError, UnavailableError

RETRY_SECONDS = (0.1, 10.0)
SMOOTHING = 0.1


class Permit:
    """Proof that some texts were admitted; leaving its `with` block returns it."""

    __slots__ = ("_admission", "_since", "_texts", "returned")

    def __init__(self, admission: "Admission", texts: int, since: float) -> None:
        self._admission = admission
        self._texts = texts
        self._since = since
        self.returned = False

    def __enter__(self) -> "Permit":
        """Hold it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Return it, whatever happened."""
        if self.returned:
            raise RuntimeError("this is a bug: a permit was returned twice")
        self.returned = True
        self._admission.take_back(self._texts, self._since)


class Admission:
    """Counts the texts that were admitted and have not ended; refuses what would exceed the capacity."""

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._admitted = 0
        self._held_seconds = RETRY_SECONDS[0]
        self._closed: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        """Show the counters."""
        return f"<Admission {self._admitted}/{self._capacity}{' closed' if self._closed else ''}>"

    @property
    def admitted(self) -> int:
        """Texts that were admitted and have not ended."""
        return self._admitted

    def admit(self, texts: int) -> Permit:
        """Admit all texts of a request, or none: raises OverloadedError, UnavailableError or InvalidRequestError."""
        if self._closed is not None:
            raise UnavailableError(self._closed, retry_after=1.0)
        if texts > self._capacity:
            message = f"{texts} texts are more than this server ever admits ({self._capacity}); send fewer at once"
            raise InvalidRequestError("texts", message)
        if self._admitted + texts > self._capacity:
            wait = self._retry_after()
            message = f"{self._admitted} texts are waiting or running, at most {self._capacity} may be"
            raise OverloadedError(f"{message}; retry after {wait:.1f} s", retry_after=wait)
        self._admitted += texts
        self._idle.clear()
        return Permit(self, texts, self._clock())

    def take_back(self, texts: int, since: float) -> None:
        """Take a permit back; only the permit calls this."""
        self._admitted -= texts
        self._held_seconds += SMOOTHING * (self._clock() - since - self._held_seconds)
        if not self._admitted:
            self._idle.set()

    def close(self, reason: str) -> None:
        """Refuse everything from now on; what was admitted goes on."""
        self._closed = reason

    async def idle(self) -> None:
        """Wait until nothing that was admitted is left."""
        await self._idle.wait()

    def _retry_after(self) -> float:
        """Return about how long the texts in here take to be replaced by others: the smoothed time that one stays."""
        shortest, longest = RETRY_SECONDS
        return min(longest, max(shortest, self._held_seconds))
