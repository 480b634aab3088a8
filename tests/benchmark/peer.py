"""Servers of static batches in processes of their own, where they are installed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.benchmark.serving import READY_SECONDS, STOP_SECONDS, ServerError
from tests.benchmark.workers import pinned

VERSIONS = {"litserve": "0.2.19", "mosec": "0.9.8", "ctranslate2": "4.8.5"}
"""Peers, none of which anything else needs."""


class Kind(NamedTuple):
    """A server of static batches: the module that runs it, and a path that answers when it is ready."""

    name: str
    package: str
    module: str
    ready: str


LITSERVE = Kind("LitServe", "litserve", "tests.benchmark.static_batches", "/health")
MOSEC = Kind("Mosec", "mosec", "tests.benchmark.mosec_batches", "/")


def missing(*packages: str) -> str | None:
    """Return how to install the peers that are not."""
    absent = []
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            absent.append(f"{package}=={VERSIONS[package]}")
    return f"pip install {' '.join(absent)} first" if absent else None


class Peer:
    """Serves one program of `whole_batches` on a free port, from entering to leaving."""

    def __init__(self, kind: Kind, program: Sequence[str], cpus: set[int] | None) -> None:
        self._kind = kind
        self._program = program
        self._cpus = cpus
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self._log = Path(self._folder.name) / "log"
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> "Peer":
        """Start it and wait until it is ready."""
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", self._kind.module, str(port), *self._program]
        with self._log.open("w") as log, pinned(self._cpus):
            self._process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, text=True, start_new_session=True
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, with the processes that it started."""
        self._stop()

    def _wait_until_ready(self, process: "subprocess.Popen[str]") -> None:
        end = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://{self.address}{self._kind.ready}", timeout=1.0):
                    return
            except OSError:  # not yet: refused, or 503 while the model loads
                time.sleep(0.2)
        raise ServerError(f"{self._kind.name} did not get ready: {self._log.read_text()[-2000:]}")

    def _stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
