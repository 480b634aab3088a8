"""A device that does nothing at once: what it is asked for it does in order, after random delays, on its own thread."""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from service.engine.runtime.memory import Binding, Block, Device, View
from service.engine.runtime.ort import Target

LONGEST_DELAY = 0.002


class LateDevice(Device):
    """The CPU, as late as a GPU: whoever does not wait for it reads what was, and what is changed too soon is lost.

    Arrays are read when their turn comes, as from pinned memory.
    """

    late = True

    def __init__(self, seed: int, shortest_delay: float = 0.0) -> None:
        super().__init__(Target("cpu"))
        self._random = random.Random(seed)  # noqa: S311  nothing secret
        self._shortest_delay = shortest_delay
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failed: Exception | None = None
        self.most_pending = 0
        """The most that it was ever asked for and had not done."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def run(self, binding: Binding) -> None:
        """Run a graph, later."""
        self._ask(lambda: Device.run(self, binding))

    def upload(self, block: Block, values: NDArray[Any]) -> None:
        """Fill a block, later."""
        self._ask(lambda: Device.upload(self, block, values))

    def fetch(self, views: Sequence[View]) -> list[NDArray[Any]]:
        """Wait for all of it."""
        done = threading.Event()
        self._ask(done.set)
        assert done.wait(30)
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error
        return super().fetch(views)

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()

    def _ask(self, work: Callable[[], None]) -> None:
        self._asked.put(work)
        self.most_pending = max(self.most_pending, self._asked.qsize())

    def _work(self) -> None:
        while (work := self._asked.get()) is not None:
            time.sleep(self._random.uniform(self._shortest_delay, LONGEST_DELAY))
            try:
                work()
            except Exception as error:  # noqa: BLE001  whoever waits is told
                self._failed = error
