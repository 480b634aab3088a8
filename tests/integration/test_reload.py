"""A model replaced again and again under load: no call fails, what is broken is refused, memory comes back.

Five times with the toy model; `DRAGOMAN_RELOADS=20 pytest tests/integration/test_reload.py -s` takes the embedded one.
"""

import collections
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from tests.callers import Callers
from tests.integration.test_process import ROOT, first_line
from tests.serving import wait_until

repositories = pytest.importorskip("tests.repositories", reason="needs onnx, of the export set")

RELOADS = int(os.environ.get("DRAGOMAN_RELOADS", "0"))
BROKEN_EVERY = 5
CALLERS = 4
ANSWERS = 100
"""From one reload to the next, and before memory is looked at."""
PATIENCE = 120.0
KOREAN = "파일을 열 수 없습니다. 다시 시도하십시오."


class Server:
    """A server in a process of its own, its log in a file."""

    def __init__(self, started: "subprocess.Popen[str]", log: Path) -> None:
        self._started = started
        self._log = log
        self._read = 0
        self._seen: list[dict[str, Any]] = []
        self.address = first_line(started).split(" on ")[1].split(",")[0]

    def reload(self) -> None:
        """Tell it to look at its repository; wait until it has."""
        seen = self.count("reloaded")
        self._started.send_signal(signal.SIGHUP)
        wait_until(lambda: self.count("reloaded") > seen, "the server has reloaded", PATIENCE)

    def log(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of its log with this message."""
        with self._log.open("rb") as written:
            written.seek(self._read)
            whole = written.read().rpartition(b"\n")[0]  # the last line may still be being written
        self._read += len(whole) + bool(whole)
        self._seen += [json.loads(line) for line in whole.splitlines() if b'"message":"request"' not in line]
        return [line for line in self._seen if line["message"] == message]

    def count(self, message: str) -> int:
        """Count them."""
        return len(self.log(message))

    @property
    def memory(self) -> float:
        """What of it is in memory, in 10^6 bytes."""
        pages = int(Path(f"/proc/{self._started.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def serving(repository: Path, log: Path) -> Iterator[Server]:
    """Run `dragoman serve` on free ports."""
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--metrics-port", "0", "--provider", "cpu",
               "--threads", "1", "--model-repository", str(repository)]  # fmt: skip
    with log.open("w") as lines:
        started = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=lines)  # noqa: S603
        try:
            yield Server(started, log)
        finally:
            started.kill()
            started.communicate()


class Users:
    """A client's ways to translate a text; they count which versions answer."""

    def __init__(self, channel: grpc.Channel, text: str) -> None:
        self.versions: collections.Counter[str] = collections.Counter()
        self._stub = translation_pb2_grpc.TranslationServiceStub(channel)
        self._text = text

    def translate(self) -> None:
        """Ask for an answer."""
        answer = self._stub.Translate(pb.TranslateRequest(texts=[self._text]), timeout=60.0)
        self.versions[answer.model_version] += 1

    def stream(self) -> None:
        """Ask for pieces as they are ready."""
        *_, last = self._stub.StreamTranslate(pb.StreamTranslateRequest(text=self._text), timeout=60.0)
        self.versions[last.model_version] += 1


@pytest.mark.slow
def test_a_model_is_replaced_under_load(tmp_path: Path) -> None:
    """No call fails, the newest good version answers, each refusal says why, and memory is what it was."""
    make, text = (repositories.embedded, KOREAN) if RELOADS else (repositories.toy, "abcdefgh")
    folder = make(tmp_path / "models")
    reloads = RELOADS or BROKEN_EVERY
    broken = list(range(BROKEN_EVERY, reloads + 1, BROKEN_EVERY))
    with ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path / "models", tmp_path / "log"))
        users = Users(stack.enter_context(grpc.insecure_channel(server.address)), text)
        load = stack.enter_context(Callers([users.translate, users.stream] * (CALLERS // 2)))
        load.more(ANSWERS)
        before = server.memory
        for number in range(1, reloads + 1):
            kinds = repositories.CORRUPTIONS
            corrupt = [kinds[number // BROKEN_EVERY % len(kinds)]] if number in broken else []
            repositories.put(folder, number + 1, *corrupt)
            server.reload()
            load.more(ANSWERS)
        replaced = reloads - len(broken)
        wait_until(lambda: server.count("a model is gone") == replaced, "the old ones are gone", PATIENCE)
        load.more(ANSWERS)
        after = server.memory
        refusals = server.log("a model was refused")
    print(f"\n{reloads} reloads under load: {dict(load.codes)}")  # noqa: T201
    print(f"memory {before:.0f} MB before, {after:.0f} MB after ({after / before - 1:+.1%})")  # noqa: T201
    for line in refusals:
        print(f"refused {line['model']}: {line['cause']}")  # noqa: T201
    good = {"1", *(str(number + 1) for number in range(1, reloads + 1) if number not in broken)}
    assert {"OK"} == load.codes.keys()
    assert good == users.versions.keys()
    assert len(broken) == len(refusals)
    assert after < (1.1 if RELOADS else 1.25) * before
