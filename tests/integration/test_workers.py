"""Several workers on one port: one that is killed under load, one that hangs, and what their parent says of them."""

import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service import config, workers
from service.errors import StartupError
from service.rpc.channel import Connection
from service.rpc.probe import probe
from tests.integration.test_process import SENTENCE, needs_embedded, outcome, process
from tests.serving import wait_until

CHANNELS, CALLERS_EACH = 8, 2
PAUSE_SECONDS = 1.0
"""Of a caller that failed: at once, it would call over a connection whose end its client has not noticed yet."""
WORKER = """
import sys, time
from service import worker
from tests.serving import Fixed, loaded, reversing
sys.exit(worker.main(sys.argv[1:], lambda _: Fixed([loaded(reversing(lambda rows: time.sleep(0.02)))])))
"""
PARENT = """
import dataclasses, json, sys
from service import config, workers
command = (sys.executable, "-c", sys.argv[1])
say = lambda ready: print(json.dumps(dataclasses.asdict(ready)), flush=True)
given = {"workers": "2", "port": "0", "metrics_port": "0", "health_port": "0", "log_level": "warning"}
settings = config.read_settings(given | json.loads(sys.argv[2]))
sys.exit(workers.run(settings, say, command if sys.argv[1] else workers.COMMAND))
"""


class Running:
    """A parent with two workers, and what can be seen of them from outside."""

    def __init__(self, started: "subprocess.Popen[str]") -> None:
        self.process = started
        assert started.stdout is not None
        ready = json.loads(started.stdout.readline())
        self.address: str = ready["address"]
        self.port = int(self.address.rpartition(":")[2])
        self.health: str = ready["health_address"]
        self._metrics_url: str = ready["metrics_url"]

    def workers(self) -> set[int]:
        """Return the process ids of the workers."""
        pid = self.process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def metrics(self) -> dict[str, float]:
        """Return every line of the one page."""
        with urllib.request.urlopen(self._metrics_url, timeout=20.0) as page:  # noqa: S310
            lines = page.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def total(self, name: str) -> float:
        """Return the sum of a metric's lines, whatever their labels."""
        return sum(value for line, value in self.metrics().items() if line.partition("{")[0] == name)

    def ready(self, service: str = "") -> str:
        """Return what the probe port says."""
        return probe(Connection(self.health), service, 10.0)

    def clients_of(self, pid: int) -> set[int]:
        """Return the ports of the clients that a worker is connected to."""
        inodes = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:  # closed meanwhile
                continue
        return {theirs for ours, theirs, inode in _connections() if ours == self.port and f"socket:[{inode}]" in inodes}

    def open(self) -> tuple[grpc.Channel, set[int]]:
        """Return a channel with a connection of its own, and the ports of the connections that came up meanwhile."""
        before = {ours for ours, theirs, _ in _connections() if theirs == self.port}
        channel = grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(channel).result(20.0)
        return channel, {ours for ours, theirs, _ in _connections() if theirs == self.port} - before


def _connections() -> Iterator[tuple[int, int, str]]:
    """Yield local port, remote port and inode of the established TCP connections of this machine (proc(5))."""
    tables = ("/proc/net/tcp", "/proc/net/tcp6")  # gRPC speaks IPv4 through sockets of IPv6
    for fields in (line.split() for table in tables for line in Path(table).read_text().splitlines()[1:]):
        if fields[3] == "01":
            yield int(fields[1].rpartition(":")[2], 16), int(fields[2].rpartition(":")[2], 16), fields[9]


@contextmanager
def running(worker: str = WORKER, **settings: str) -> Iterator[Running]:
    """Start a parent and wait until it is ready."""
    with process(["-c", PARENT, worker, json.dumps(settings)]) as started:
        found = Running(started)
        try:
            yield found
        finally:
            for pid in found.workers() if started.poll() is None else ():
                os.kill(pid, signal.SIGKILL)


class Caller(threading.Thread):
    """Sends one text after the other over a channel."""

    def __init__(self, channel: grpc.Channel, port: int, text: str) -> None:
        super().__init__()
        self.port = port
        self.answers, self.failures = 0, list[str]()
        self.in_flight = False
        self.stopping = threading.Event()
        self._stub = translation_pb2_grpc.TranslationServiceStub(channel)
        self._request = pb.TranslateRequest(texts=[text])

    def run(self) -> None:
        """Call until it is told to stop."""
        while not self.stopping.is_set():
            try:
                self.in_flight = True
                self._stub.Translate(self._request, timeout=20.0)
                self.answers += 1
            except grpc.RpcError as error:
                self.failures.append(error.code().name)
                self.stopping.wait(PAUSE_SECONDS)
            finally:
                self.in_flight = False


@contextmanager
def load(server: Running, text: str) -> Iterator[list[Caller]]:
    """Have callers at work, some on each of several connections."""
    channels = [server.open() for _ in range(CHANNELS)]
    callers = [Caller(channel, port, text) for channel, (port,) in channels for _ in range(CALLERS_EACH)]
    try:
        for caller in callers:
            caller.start()
        wait_until(lambda: all(caller.answers > 2 for caller in callers), "all are answered", 60.0)
        yield callers
    finally:
        for caller in callers:
            caller.stopping.set()
        for caller in callers:
            caller.join()
        for channel, _ in channels:
            channel.close()


def first_served(server: Running, text: str, old: set[int]) -> float:
    """Wait until a new worker has answered; return when, on the monotonic clock."""
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        channel, ports = server.open()
        with channel:
            translation_pb2_grpc.TranslationServiceStub(channel).Translate(pb.TranslateRequest(texts=[text]))
            if any(ports & server.clients_of(pid) for pid in server.workers() - old):
                return time.monotonic()
        time.sleep(0.01)
    raise AssertionError("no new worker answered within two minutes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worker", "text"),
    [pytest.param(WORKER, "abcdefgh", id="toy"), pytest.param("", SENTENCE, id="embedded", marks=needs_embedded)],
)
def test_a_killed_worker_takes_its_own_calls_alone(worker: str, text: str) -> None:
    """They end as UNAVAILABLE, one for a caller at most; others notice nothing, and another worker serves soon."""
    with running(worker) as server:
        old = server.workers()
        with load(server, text) as callers:
            connected = {pid: server.clients_of(pid) for pid in old}
            victim = max(old, key=lambda pid: len(connected[pid]))
            theirs = [caller for caller in callers if caller.port in connected[victim]]
            before = server.metrics()
            in_flight = sum(caller.in_flight for caller in theirs)
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            served = first_served(server, text, old) - killed
            wait_until(lambda: server.metrics()["dragoman_workers_ready"] == 2, "both are ready again", 60.0)
            answers = [caller.answers for caller in callers]
            wait_until(lambda: all(c.answers > 2 + n for c, n in zip(callers, answers, strict=True)), "all go on", 60.0)
        failures = collections.Counter(code for caller in callers for code in caller.failures)
        print(  # noqa: T201
            f"{sum(caller.answers for caller in callers)} answers, failures {dict(failures)}; the killed worker had "
            f"{in_flight} of {len(callers)} calls in flight; a new one served after {served:.2f} s"
        )
        assert theirs
        assert {"UNAVAILABLE"} == failures.keys()
        assert max(len(caller.failures) for caller in theirs) == 1
        assert [] == [caller.failures for caller in callers if caller not in theirs and caller.failures]
        after = server.metrics()
        counted = [name for name in before if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))]
        assert [] == [name for name in counted if after[name] < before[name]]
        assert 1 == after["dragoman_worker_restarts_total"]
        started, handled = ("grpc_server_started_total", "grpc_server_handled_total")
        wait_until(lambda: server.total(started) == server.total(handled), "no call stays in flight", 60.0)


def test_workers_look_like_one_server() -> None:
    """One page of metrics, one answer to probes, one port that nobody else can take; a signal drains all of them."""
    with running() as server:
        channels = [server.open()[0] for _ in range(6)]
        stubs = [translation_pb2_grpc.TranslationServiceStub(channel) for channel in channels]
        answers = [stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=20.0) for stub in stubs]
        assert {"cba"} == {answer.translations[0].hypotheses[0].text for answer in answers}
        wait_until(lambda: server.total("dragoman_requests_finished_total") == 6, "all are counted")
        metrics = server.metrics()
        assert (64, 2048) == (metrics["dragoman_max_rows"], metrics["dragoman_max_waiting"])
        assert ["SERVING", "SERVING"] == [server.ready(), server.ready("live")]
        status, line = outcome("serve", "--port", str(server.port), "--metrics-port", "0")
        assert (1, True) == (status, "in use" in line)
        status, line = outcome("serve", "--workers", "2", "--port", str(server.port), "--metrics-port", "0")
        assert (1, True) == (status, "in use" in line)
        calls = [stub.Translate.future(pb.TranslateRequest(texts=["abc" * 30]), timeout=20.0) for stub in stubs]
        wait_until(lambda: server.total("dragoman_requests_running") == 6, "all run")
        server.process.send_signal(signal.SIGTERM)
        assert {"cba" * 30} == {call.result(20.0).translations[0].hypotheses[0].text for call in calls}
        assert 0 == server.process.wait(30.0)


def test_a_worker_that_hangs_is_replaced_and_none_outlives_its_parent() -> None:
    """Silence for as long as a step may take ends a worker; a parent that is killed takes its workers along."""
    with running(stall_seconds="3") as server:
        old = server.workers()
        stopped = min(old)
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: server.metrics()["dragoman_worker_restarts_total"] == 1, "it is replaced", 60.0)
        wait_until(lambda: server.metrics()["dragoman_workers_ready"] == 2, "the new one serves", 60.0)
        assert "SERVING" == server.ready()
        found = server.workers()
        assert old - {stopped} == old & found
        server.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "the workers are gone", 60.0)


def test_a_second_signal_ends_all_at_once() -> None:
    """The status is 128 and the signal; what runs is not waited for."""
    with running() as server:
        found = server.workers()
        channel, _ = server.open()
        with channel:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            call = stub.Translate.future(pb.TranslateRequest(texts=["abcdefgh" * 30]), timeout=20.0)
            wait_until(lambda: server.total("dragoman_requests_running") > 0, "it runs")
            for pid in found:
                os.kill(pid, signal.SIGSTOP)  # so that it runs for ever
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.ready() == "NOT_SERVING", "it drains")
            server.process.send_signal(signal.SIGTERM)
            assert 128 + signal.SIGTERM == server.process.wait(20.0)
            with pytest.raises(grpc.RpcError) as caught:
                call.result(20.0)
            assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "the workers are gone")


def test_workers_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one says is the parent's reason at once; one that dies without a word is tried a few times."""
    status, line = outcome(
        "serve", "--workers", "2", "--port", "0", "--metrics-port", "0", "--model-repository", str(tmp_path)
    )
    assert (1, True) == (status, "<model>/<version>/bundle.json" in line)
    monkeypatch.setattr(workers, "FIRST_PAUSE_SECONDS", 0.001)
    settings = config.read_settings({"workers": "2", "port": "0", "metrics_port": "0"}, {})
    with pytest.raises(StartupError, match="ended 5 times before they served, the last with status 3"):
        workers.run(settings, lambda _: None, (sys.executable, "-c", "raise SystemExit(3)"))
