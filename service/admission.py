"""Admission: whether a request may enter, decided at once or, for bulk work, in turn. Belongs to the event loop."""

import asyncio
import collections
import time
from collections.abc import Callable
from types import TracebackType

from service.errors import InvalidRequestError, OverloadedError, UnavailableError

RETRY_SECONDS = (0.1, 10.0)
SMOOTHING = 0.1
WAITERS_SHARE = 0.75
"""Of the capacity, what those who wait in line may fill: the rest is for those who would be refused."""


class Permit:
    """Proof that some segments were admitted; leaving its `with` block returns it."""

    __slots__ = ("_admission", "_segments", "_since", "returned")

    def __init__(self, admission: "Admission", segments: int, since: float) -> None:
        self._admission = admission
        self._segments = segments
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
        self._admission.take_back(self._segments, self._since)

    def grow(self, more: int) -> None:
        """Hold more segments than at first, or raise as `admit` does and hold what it held."""
        self._admission.take(more, self._segments)
        self._segments += more


class Admission:
    """Counts the segments that were admitted and have not ended; refuses what would exceed the capacity."""

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._admitted = 0
        self._held_seconds = RETRY_SECONDS[0]
        self._closed: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._told: tuple[tuple[int, float], OverloadedError | None] = (0, 0.0), None
        """Texts and wait of the last refusal that was asked for, and that."""
        self._line: collections.deque[tuple[int, asyncio.Future[Permit]]] = collections.deque()

    def __repr__(self) -> str:
        """Show the counters."""
        line = f" {len(self._line)} in line" if self._line else ""
        return f"<Admission {self._admitted}/{self._capacity}{line}{' closed' if self._closed else ''}>"

    @property
    def admitted(self) -> int:
        """Segments that were admitted and have not ended."""
        return self._admitted

    def admit(self, segments: int) -> Permit:
        """Admit all segments of a request, or none: raises OverloadedError, UnavailableError or InvalidRequestError."""
        self.take(segments)
        return Permit(self, segments, self._clock())

    async def wait(self, segments: int) -> Permit:
        """Admit as `admit` does, but wait in line instead of being refused; first come, first served."""
        self._check(segments)
        if not self._line and self._fits_waiter(segments):
            return self.admit(segments)
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        place = (segments, turn)
        self._line.append(place)
        try:
            return await turn
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
            elif turn.done() and not turn.cancelled():  # its turn and its end came at once
                turn.result().__exit__(None, None, None)
            self._call_up()
            raise

    def take(self, segments: int, held: int = 0) -> None:
        """Count segments of a request that already holds some; only this module calls it."""
        self._check(held + segments)
        self.expect_room(segments)
        self._admitted += segments
        self._idle.clear()

    def expect_room(self, segments: int = 1) -> None:
        """Raise OverloadedError where so many would be refused now; nothing is taken."""
        if self._admitted + segments > self._capacity:
            raise self._overloaded(self._admitted, self._retry_after())

    def refusal(self, segments: int = 1) -> OverloadedError | None:
        """Return why so many would be refused now, or None; nothing is taken. Most get what the last one got."""
        if self._admitted + segments <= self._capacity:
            return None
        now = self._admitted, self._retry_after()
        if now != self._told[0]:
            self._told = now, self._overloaded(*now)
        return self._told[1]

    def take_back(self, segments: int, since: float) -> None:
        """Take a permit back; only the permit calls this."""
        self._admitted -= segments
        self._held_seconds += SMOOTHING * (self._clock() - since - self._held_seconds)
        if self._line:
            self._call_up()
        if not self._admitted:
            self._idle.set()

    def close(self, reason: str) -> None:
        """Refuse everything from now on, those in line too; what was admitted goes on."""
        self._closed = reason
        while self._line:
            _, place = self._line.popleft()
            if not place.done():
                place.set_exception(UnavailableError(reason, retry_after=1.0))

    async def idle(self) -> None:
        """Wait until nothing that was admitted is left."""
        await self._idle.wait()

    def _overloaded(self, admitted: int, wait: float) -> OverloadedError:
        message = f"{admitted} texts are waiting or running, at most {self._capacity} may be"
        return OverloadedError(f"{message}; retry after {wait:.1f} s", retry_after=wait)

    def _check(self, segments: int) -> None:
        if self._closed is not None:
            raise UnavailableError(self._closed, retry_after=1.0)
        if segments > self._capacity:
            message = f"{segments} texts are more than this server ever admits ({self._capacity}); send fewer at once"
            raise InvalidRequestError("texts", message)

    def _fits_waiter(self, segments: int) -> bool:
        """Tell whether whoever waits may enter; the largest of all when nobody else is here."""
        return not self._admitted or self._admitted + segments <= WAITERS_SHARE * self._capacity

    def _call_up(self) -> None:
        """Admit from the head of the line while there is room."""
        while self._line and self._closed is None and self._fits_waiter(self._line[0][0]):
            segments, place = self._line.popleft()
            if not place.done():
                place.set_result(self.admit(segments))

    def _retry_after(self) -> float:
        """Return about how long those in here take to be replaced by others: the smoothed time that one stays.

        In tenths of a second: so one refusal is like another, and need not be written anew.
        """
        shortest, longest = RETRY_SECONDS
        return round(min(longest, max(shortest, self._held_seconds)), 1)
