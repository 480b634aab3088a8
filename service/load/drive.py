"""Client processes, started, driven through phases, and ended; their samples added up as they come."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

import msgspec

from service.load.messages import Batch, Job, Start, pack, unpack
from service.load.plan import Phase, PlanError
from service.load.record import Record
from service.load.report import PhaseReport
from service.load.scrape import Page, fetch, server_side
from service.load.worker import work

LEAD_SECONDS = 0.2
"""Time for a phase's beginning to reach all processes."""
STOP_SECONDS = 5.0
SHOW_SECONDS = 0.25
METHODS = {"unary": "Translate", "stream": "StreamTranslate", "segments": "TranslateSegments"}


class Driver:
    """Drives phases against one server. `show` is called a few times a second while one runs."""

    def __init__(self, job: Job, metrics_url: str, show: Callable[[Record, float], None]) -> None:
        self.job = job
        self._metrics_url = metrics_url
        self._show = show
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self.metrics_error = ""
        """Why the server's own figures are missing, if they are."""

    def __enter__(self) -> "Driver":
        """Start the processes and wait until each is connected; raises PlanError where one cannot be."""
        context = multiprocessing.get_context("spawn")
        try:
            for index in range(self.job.processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs,), name=f"load-{index}", daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)
                ours.send_bytes(pack(msgspec.structs.replace(self.job, index=index)))
            for pipe in self._pipes:
                self._receive(pipe)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes."""
        self._stop()

    def run(self, phase: Phase) -> PhaseReport:
        """Drive one phase to its last answer."""
        before = self._page()
        start = Start(phase, time.monotonic() + LEAD_SECONDS)
        for pipe in self._pipes:
            pipe.send_bytes(pack(start))
        record = Record(phase, len(self._pipes))
        left = dict(enumerate(self._pipes))
        shown = 0.0
        while left:
            readable = wait(left.values(), SHOW_SECONDS)
            for index, pipe in [(index, pipe) for index, pipe in left.items() if pipe in readable]:
                batch = self._receive(pipe)
                record.add(index, batch)
                if batch.done:
                    del left[index]
            if (now := time.monotonic()) - shown >= SHOW_SECONDS or not left:
                shown = now
                self._show(record, now - start.at)
        seconds = time.monotonic() - start.at
        after = self._page() if before else None
        method = METHODS[self.job.mode]
        return record.report(server_side(before, after, seconds, method) if before and after else None)

    def _page(self) -> Page | None:
        if not self._metrics_url:
            return None
        try:
            return fetch(self._metrics_url)
        except (OSError, ValueError) as error:
            self.metrics_error = f"no metrics at {self._metrics_url} ({error}); name the page with --metrics-url"
            self._metrics_url = ""
            return None

    def _receive(self, pipe: Connection) -> Batch:
        try:
            batch: Batch = unpack(pipe.recv_bytes(), Batch)
        except EOFError as error:
            raise PlanError("a client process ended by itself; what it wrote to standard error says why") from error
        if batch.error:
            raise PlanError(batch.error)
        return batch

    def _stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()  # they end when nobody asks any more
        for process in self._processes:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
