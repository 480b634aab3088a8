"""What a server process holds, seen from outside: memory, threads, descriptors, texts, and how late its loop is."""

import dataclasses
import threading
import time
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from service.load.scrape import Page, fetch

SECONDS_PER_HOUR = 3600.0
LAG = "dragoman_event_loop_lag_seconds"
REST_SECONDS = 60.0
SLEEP_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Vitals:
    """One look. Memory in MB, 10^6 bytes; `seconds` on the clock of time.monotonic."""

    seconds: float
    resident: float
    native: float
    """Handed out to native code, ONNX Runtime's memory among it."""
    threads: int
    descriptors: int
    waiting: int
    running: int

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self.running)


class Patient:
    """A server process that is looked at again and again."""

    def __init__(self, pid: int, metrics_url: str) -> None:
        self.pid = pid
        self._process = Path(f"/proc/{pid}")
        self._metrics_url = metrics_url

    def page(self) -> Page:
        """Return its metrics; one that is slow for once is asked again."""
        for _ in range(3):
            try:
                return fetch(self._metrics_url)
            except (TimeoutError, urllib.error.URLError):
                time.sleep(1.0)
        return fetch(self._metrics_url)

    def look(self) -> tuple[Vitals, Page]:
        """Take its vitals, and the page that they are from."""
        page = self.page()
        status = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
        vitals = Vitals(
            seconds=time.monotonic(),
            resident=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
            native=page.sum("dragoman_native_memory_bytes") / 1e6,
            threads=int(status["Threads"]),
            descriptors=len(list((self._process / "fd").iterdir())),
            waiting=round(page.sum("dragoman_requests_waiting")),
            running=round(page.sum("dragoman_requests_running")),
        )
        return vitals, page

    def settle(self, holds: Callable[[Vitals], bool], patience: float = REST_SECONDS) -> Vitals:
        """Look until something holds, but no longer than so many seconds; return the last look."""
        end = time.monotonic() + patience
        vitals, _ = self.look()
        while not holds(vitals) and time.monotonic() < end:
            time.sleep(0.2)
            vitals, _ = self.look()
        return vitals


class Lateness:
    """A thread that sleeps and looks how late it wakes: as late as anything on this machine, a server or not."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="lateness")
        self.seconds: list[float] = []

    def __enter__(self) -> "Lateness":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _sleep(self) -> None:
        due = time.monotonic() + SLEEP_SECONDS
        while not self._ended.wait(SLEEP_SECONDS):
            self.seconds.append(max(0.0, time.monotonic() - due))
            due = time.monotonic() + SLEEP_SECONDS


def slope_per_hour(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much values grow in an hour: the median of the slopes of all pairs (Theil and Sen).

    A jump that goes back, as a model that is loaded beside another one makes, leaves it as it is.
    """
    if len(values) < 2:
        return 0.0
    times, heights = np.asarray(seconds), np.asarray(values)
    left, right = np.triu_indices(len(values), 1)
    return float(np.median((heights[right] - heights[left]) / (times[right] - times[left]))) * SECONDS_PER_HOUR
