"""A real Prometheus, scraping a server every second, and the questions that one asks it."""

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

MONITORING = Path(__file__).parents[3] / "deploy/monitoring"
START_SECONDS = 30.0


def missing(*programs: str) -> str:
    """Return what is not installed, for a skip's reason; empty where nothing is missing."""
    absent = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (Debian: apt install prometheus)" if absent else ""


class Prometheus:
    """Runs the configuration of deploy/monitoring, faster and with one target."""

    def __init__(self, folder: Path, metrics_url: str) -> None:
        target = urllib.parse.urlsplit(metrics_url).netloc
        text = (MONITORING / "prometheus.yml").read_text().replace("dragoman:9464", target).replace("15s", "1s")
        (folder / "prometheus.yml").write_text(text)
        for name in ("rules.yml", "alerts.yml"):
            shutil.copy(MONITORING / name, folder)
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> "Prometheus":
        """Start it and wait until it is ready."""
        options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self._address}"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(["prometheus", *options], cwd=self._folder, stderr=log)  # noqa: S603, S607
        end = time.monotonic() + START_SECONDS
        while not self._ready():
            assert time.monotonic() < end, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def query(self, expression: str) -> list[float]:
        """Return the values of an expression now, NaN left out; fail on an expression that is none."""
        found = self._get("query", query=expression)
        assert found["status"] == "success", f"{expression}: {found.get('error')}"
        results = found["data"]["result"]
        values = [float(found["data"]["result"][1])] if found["data"]["resultType"] == "scalar" else [
            float(series["value"][1]) for series in results
        ]  # fmt: skip
        return [value for value in values if not math.isnan(value)]

    def range(self, expression: str, begin: float, end: float) -> list[dict[str, Any]]:
        """Return the series of an expression, a value a second."""
        times = {"start": str(begin), "end": str(end), "step": "1"}
        series: list[dict[str, Any]] = self._get("query_range", query=expression, **times)["data"]["result"]
        return series

    def names(self) -> set[str]:
        """Return the names of all that it has seen."""
        return set(self._get("label/__name__/values")["data"])

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules as it evaluates them."""
        return [rule for group in self._get("rules")["data"]["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10.0) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5.0):
                return True
        except OSError:
            return False
