"""Processes pinned to a processor, each with one thing to measure; all are idle but the one that was asked."""

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType, TracebackType
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

START_SECONDS = 120.0
CALL_SECONDS = 1800.0
STOP_SECONDS = 5.0


class WorkerError(Exception):
    """A worker failed, or did not answer; the message has its traceback."""


def processors() -> tuple[set[int], set[int]]:
    """Return the processor for what is measured and the one for its load: the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal: a benchmark that is ended from outside ends its servers and workers too."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def pinned(cpus: set[int] | None) -> Iterator[None]:
    """Let processes that start in here run on these processors only; None: wherever this one may."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if cpus is None else cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Worker(Generic[Ask, Answer]):
    """Builds something callable in a fresh process and passes it one question after another."""

    def __init__(self, name: str, build: Callable[[], Callable[[Ask], Answer]], cpus: set[int] | None) -> None:
        self._name = name
        self._cpus = cpus
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(target=_work, args=(build, theirs), name=name, daemon=True)

    def __enter__(self) -> "Worker[Ask, Answer]":
        """Start it and wait until it is built."""
        with pinned(self._cpus):
            self._process.start()
        self._theirs.close()
        try:
            self._receive(START_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._stop()

    def __call__(self, ask: Ask, timeout: float = CALL_SECONDS) -> Answer:
        """Return its answer; raise WorkerError where there is none within `timeout` seconds."""
        self._connection.send(ask)
        answer: Answer = self._receive(timeout)
        return answer

    def _receive(self, timeout: float) -> Answer:
        if not self._connection.poll(timeout):
            raise WorkerError(f"{self._name} gave no answer within {timeout:g} s")
        try:
            failure, answer = self._connection.recv()
        except EOFError as error:
            raise WorkerError(f"{self._name} ended by itself") from error
        if failure is not None:
            raise WorkerError(f"{self._name} failed:\n{failure}")
        found: Answer = answer
        return found

    def _stop(self) -> None:
        self._connection.close()  # it ends when nobody asks any more
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(build: Callable[[], Callable[[Ask], Answer]], connection: Connection) -> None:
    """Answer until the other end closes."""
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            answer = build()
            connection.send((None, None))
            while True:
                connection.send((None, answer(connection.recv())))
        except (EOFError, BrokenPipeError):
            raise
        except Exception:  # noqa: BLE001  whatever it is, the process that asked shows it
            connection.send((traceback.format_exc(), None))
