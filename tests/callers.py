"""Load from a few threads: callers that repeat a call until they are told to stop, and count how that ends."""

import collections
import threading
from collections.abc import Callable, Sequence
from typing import Self

import grpc

from tests.serving import wait_until


class Callers:
    """A thread for each of `calls`, which repeats it, waiting `pause` seconds between two."""

    def __init__(self, calls: Sequence[Callable[[], object]], pause: float = 0.0) -> None:
        self.codes: collections.Counter[str] = collections.Counter()
        """How the calls ended: `OK`, or the status and its message."""
        self._pause = pause
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(call,)) for call in calls]

    def __enter__(self) -> Self:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the last answers."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int, patience: float = 120.0) -> None:
        """Wait for so many answers more, so many seconds at most."""
        wanted = self.codes["OK"] + answers
        wait_until(lambda: self.codes["OK"] >= wanted, f"{wanted} answers are there", patience)

    def _repeat(self, call: Callable[[], object]) -> None:
        while not self._stopping.wait(self._pause):
            try:
                call()
                self.codes["OK"] += 1
            except grpc.RpcError as error:
                self.codes[f"{error.code().name}: {error.details()}"] += 1
