"""The engines are watched from outside: one that has work and ends no step for too long stands still."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Watched:
    """What is seen of one engine: the texts in it, and a number that grows with every step."""

    name: str
    pending: Callable[[], int]
    progress: Callable[[], int]
    seen: int
    since: float
    """When it was last seen to get on, or to have nothing to do, in seconds."""


class Watchdog:
    """Asks engines for signs of life. It costs them nothing: they count their steps anyway."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the time after which an engine stands still, in seconds; 0: it never does."""
        self._limit = limit
        self._clock = clock
        self._watched: list[Watched] = []

    def add(self, name: str, pending: Callable[[], int], progress: Callable[[], int]) -> None:
        """Watch one more engine."""
        self._watched.append(Watched(name, pending, progress, progress(), self._clock()))

    def remove(self, pending: Callable[[], int]) -> None:
        """Watch an engine no more, known by what counts its texts."""
        self._watched = [engine for engine in self._watched if engine.pending != pending]

    def stalled(self) -> list[str]:
        """Look at all engines; return the names of those that stand still."""
        now = self._clock()
        for engine in self._watched:
            progress = engine.progress()
            if progress != engine.seen or not engine.pending():
                engine.seen, engine.since = progress, now
        return [engine.name for engine in self._watched if self._limit and now - engine.since > self._limit]

    async def watch(self, report: Callable[[list[str]], Awaitable[None]]) -> None:
        """Look for ever, and report the names when they change; not at all without a limit."""
        known: list[str] = []
        while self._limit:
            await asyncio.sleep(min(1.0, self._limit / 4))
            if (found := self.stalled()) != known:
                known = found
                await report(found)
