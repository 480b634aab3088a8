"""The real server as a process of its own."""

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.benchmark.workers import pinned

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(r"Serving .* on (\S+), metrics on (\S+)")
READY_SECONDS = 120.0
STOP_SECONDS = 15.0


class ServerError(Exception):
    """The server did not start; the message has what it said."""


class Server:
    """Serves one bundle on free ports, from entering to leaving."""

    def __init__(
        self, bundle: Path, cpus: set[int] | None, *options: str, module: str = "service.cli", code: Path = ROOT
    ) -> None:
        """Take `<model>/<version>`, options of `dragoman serve`, what runs in place of `dragoman`, and whose code."""
        self._bundle = bundle
        self._cpus = cpus
        self._options = options
        self._module = module
        self._code = code
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self._process: subprocess.Popen[str] | None = None
        self.address = ""
        self.metrics_url = ""
        self.ready_seconds = 0.0
        """From the start of the process to its ready line, which it prints when health says SERVING."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self.log = ""
        """What it wrote to standard error, once it has ended."""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def versions(self) -> Path:
        """The folder of its model's versions."""
        return Path(self._folder.name) / "repository" / self._bundle.parent.name

    def __enter__(self) -> "Server":
        """Start it and wait until it is ready."""
        folder = Path(self._folder.name)
        repository = folder / "repository"
        shutil.copytree(self._bundle, repository / self._bundle.parent.name / self._bundle.name)
        command = [
            sys.executable, "-m", self._module, "serve", "--model-repository", str(repository),
            "--port", "0", "--metrics-port", "0", "--provider", "cpu", *self._options,
        ]  # fmt: skip
        with (folder / "log").open("w") as log, pinned(self._cpus):
            started = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self._code, env=self._environment()
            )
        try:
            self.address, self.metrics_url = self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        self.ready_seconds = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._stop()

    def resident_mb(self) -> float:
        """Return its resident memory in MB, 10^6 bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found.group(1)) * 1024 / 1e6

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{self._code}:{self._code / 'protos'}"}

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait_until_ready(self) -> tuple[str, str]:
        assert self._process is not None
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], READY_SECONDS)
        line = stdout.readline() if readable else ""
        if (found := READY.match(line)) is None:
            log = (Path(self._folder.name) / "log").read_text()[-2000:]
            raise ServerError(f"the server of {self._bundle} did not get ready: {line}{log}")
        return found.group(1), found.group(2)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self.status = self._process.returncode
            self.log = (Path(self._folder.name) / "log").read_text()
        self._folder.cleanup()
