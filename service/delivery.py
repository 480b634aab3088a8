"""The way of Outputs from the engine's thread to whoever waits for them on the event loop."""

import asyncio
import collections
import time
from collections.abc import Callable

from service.request import Output

TURN = 8
"""Outputs that are handed over before the event loop serves others: an answer takes it a third of a millisecond, and
whoever is to be refused must not wait for all that ended at a step. Fewer at a time would let those who follow join the
batch one by one, and be encoded in smaller groups."""


class Delivery:
    """Brings Outputs over, in order, with one wake-up of the event loop per step, and hands out a few in each turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hand_out: Callable[[list[Output]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._hand_out = hand_out
        self._clock = clock
        self._arrived: collections.deque[Output] = collections.deque()

    def __call__(self, outputs: list[Output]) -> None:
        """Bring over the Outputs of a step; on any thread."""
        self._loop.call_soon_threadsafe(self._take, outputs)

    def _take(self, outputs: list[Output]) -> None:
        idle = not self._arrived
        self._arrived.extend(outputs)
        if idle:
            self._turn()

    def _turn(self) -> None:
        now = self._clock()
        few = [self._arrived.popleft().handed_over(now) for _ in range(min(TURN, len(self._arrived)))]
        self._hand_out(few)
        if self._arrived:
            self._loop.call_soon(self._turn)
