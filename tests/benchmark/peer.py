"""The peer of the arrivals in a process of its own, where it is installed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from tests.benchmark.serving import READY_SECONDS, STOP_SECONDS, ServerError
from tests.benchmark.workers import pinned

PACKAGES = ("litserve", "fastapi", "uvicorn")


def missing() -> str | None:
    """Return how to install the peer, where it is not."""
    try:
        version("litserve")
    except PackageNotFoundError:
        return "the peer is not installed: pip install litserve==0.2.19"
    return None


class Peer:
    """Serves one bundle on a free port, from entering to leaving."""

    def __init__(self, bundle: Path, cpus: set[int] | None) -> None:
        self._bundle = bundle
        self._cpus = cpus
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self._log = Path(self._folder.name) / "log"
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> "Peer":
        """Start it and wait until it is ready."""
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "tests.benchmark.static_batches", str(self._bundle), str(port)]
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
                with urllib.request.urlopen(f"http://{self.address}/health", timeout=1.0):
                    return
            except OSError:  # not yet: refused, or 503 while the model loads
                time.sleep(0.2)
        raise ServerError(f"LitServe did not get ready: {self._log.read_text()[-2000:]}")

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
