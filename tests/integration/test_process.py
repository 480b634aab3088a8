"""Servers as processes: signals, ports, exit statuses, and the one line that says what is wrong."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.config import EMBEDDED

ROOT = Path(__file__).parents[2]
FAKE = ["-m", "tests.serving"]
SENTENCE = "파일을 열 수 없습니다"
needs_embedded = pytest.mark.skipif(not any(EMBEDDED.glob("*/*/bundle.json")), reason="no embedded bundle")


@contextmanager
def process(arguments: list[str], environment: Mapping[str, str] | None = None) -> "Iterator[subprocess.Popen[str]]":
    """Run python with these arguments; end it whatever happens."""
    started = subprocess.Popen(  # noqa: S603
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def first_line(started: "subprocess.Popen[str]") -> str:
    """Return the first line of its standard output."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def outcome(*arguments: str) -> tuple[int, str]:
    """Run `dragoman` to its end; return its status and what it complained of, which must be one line."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service.cli", *arguments], cwd=ROOT, check=False, text=True, capture_output=True,
        timeout=60,
    )  # fmt: skip
    assert 1 == len(done.stderr.splitlines()), done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(number: signal.Signals) -> None:
    """The answer arrives, and the process ends with status 0, its log in JSON and without a traceback."""
    with process(FAKE) as started:
        with grpc.insecure_channel(first_line(started)) as channel:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            stub.Translate(pb.TranslateRequest(texts=["a"]), timeout=20.0)
            call = stub.Translate.future(pb.TranslateRequest(texts=["abcdef"]), timeout=20.0)
            probe = stub.Translate.future(pb.TranslateRequest(texts=["b"]), timeout=20.0)
            probe.result(20.0)  # sent after the other, so the other is in the server
            started.send_signal(number)
            assert "fedcba" == call.result(20.0).translations[0].hypotheses[0].text
        _, log = started.communicate(timeout=20)
        assert 0 == started.returncode
        messages = [json.loads(line)["message"] for line in log.splitlines()]
        assert ["ready", "request", "request"] == messages[:3]
        assert "draining" in messages


def test_a_signal_counts_before_the_model_is_loaded() -> None:
    """SIGTERM ends a server that is still loading, with status 0."""
    code = (
        "import sys, time; from service import config, process\n"
        "class Slow:\n"
        "    def find(self): print('loading', flush=True); time.sleep(0.3); return []\n"
        "settings = config.read_settings({'port': '0', 'metrics_port': '0'})\n"
        "sys.exit(process.run(settings, lambda _: None, lambda _: Slow()))"
    )
    with process(["-c", code]) as started:
        assert "loading" == first_line(started)
        started.send_signal(signal.SIGTERM)
        _, log = started.communicate(timeout=20)
        assert (0, "") == (started.returncode, log)


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use(flag: str) -> None:
    """Status 1, and the line names the address and the flag."""
    other = "--metrics-port" if flag == "--port" else "--port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = outcome("serve", flag, str(port), other, "0")
    assert 1 == status
    assert f"127.0.0.1:{port} (Address already in use)" in line
    assert flag in line


def test_an_address_of_another_machine() -> None:
    """Status 1."""
    status, line = outcome("serve", "--host", "192.0.2.1", "--port", "0")
    assert 1 == status
    assert "cannot listen on 192.0.2.1:0" in line


def test_repositories_without_a_model(tmp_path: Path) -> None:
    """Status 1 for a folder that is missing, empty, or no folder; the line says what it must hold."""
    file = tmp_path / "file"
    file.touch()
    for repository in (tmp_path / "missing", tmp_path, file):
        status, line = outcome("serve", "--port", "0", "--metrics-port", "0", "--model-repository", str(repository))
        assert 1 == status
        assert f"{repository} " in line
        assert "<model>/<version>/bundle.json" in line


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    """Status 1, and the line names the file."""
    folder = tmp_path / "toy" / "1"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text('{"format": 7}')
    status, line = outcome("serve", "--port", "0", "--metrics-port", "0", "--model-repository", str(tmp_path))
    assert 1 == status
    assert "bundle.json has format 7" in line


@needs_embedded
def test_the_embedded_model_translates() -> None:
    """`dragoman serve` and `dragoman translate`, as the first page of the manual has them."""
    with process(["-m", "service.cli", "serve", "--port", "0", "--metrics-port", "0"]) as started:
        server = first_line(started).split(" on ")[1].split(",")[0]
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "service.cli", "translate", "--server", server, "--attention", SENTENCE],
            cwd=ROOT, check=True, text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        assert "file" in done.stdout.splitlines()[0].lower()
        assert "<- 파일을" in done.stdout


def test_output_that_nobody_reads() -> None:
    """A closed pipe ends the client quietly, with status 1."""
    with process(FAKE) as started:
        command = f"{sys.executable} -m service.cli models --server {first_line(started)} | true"
        done = subprocess.run(command, shell=True, cwd=ROOT, check=False, text=True, capture_output=True, timeout=60)  # noqa: S602
        assert "" == done.stderr
