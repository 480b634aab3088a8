"""Locust on Dragoman: users who translate, wait a moment, and translate again.

    pip install locust
    locust -f deploy/loadtest/locustfile.py --host 127.0.0.1:50051 --users 50 --spawn-rate 5

Locust's users wait for their answers: a closed loop, which asks less of a server that is slow. For latency at a rate,
use `dragoman load --rate`.
"""

import random
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import grpc
import grpc.experimental.gevent
from locust import User, between, events, tag, task

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc

grpc.experimental.gevent.init_gevent()

DEADLINE_SECONDS = 10.0
DEFAULT_TEXTS = Path(__file__).parents[2] / "service/load/sentences/ko.txt"


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add Dragoman's options to Locust's own."""
    parser.add_argument("--texts", default=str(DEFAULT_TEXTS), help="file with a text per line")
    parser.add_argument("--model", default="", help="such as ko-en or ko-en@1")


class Translator(User):
    """A user with a connection of their own."""

    wait_time = between(0.1, 1.0)
    texts: ClassVar[list[str]] = []

    def on_start(self) -> None:
        """Connect, and read the texts."""
        self.channel = grpc.insecure_channel(self.host)
        self.stub = translation_pb2_grpc.TranslationServiceStub(self.channel)
        options = self.environment.parsed_options
        self.model = options.model
        self.texts = [line.strip() for line in Path(options.texts).read_text().splitlines() if line.strip()]

    def on_stop(self) -> None:
        """Close the connection."""
        self.channel.close()

    @tag("unary")
    @task(4)
    def translate(self) -> None:
        """Translate one sentence."""
        request = pb.TranslateRequest(texts=[self._text()], model=self.model)
        self._timed("Translate", lambda: self.stub.Translate(request, timeout=DEADLINE_SECONDS).ByteSize())

    @tag("batch")
    @task(1)
    def translate_several(self) -> None:
        """Translate eight sentences in one call."""
        request = pb.TranslateRequest(texts=[self._text() for _ in range(8)], model=self.model)
        self._timed("Translate, 8 texts", lambda: self.stub.Translate(request, timeout=DEADLINE_SECONDS).ByteSize())

    @tag("stream")
    @task(1)
    def stream(self) -> None:
        """Translate one sentence as a stream, to its end."""
        request = pb.StreamTranslateRequest(text=self._text(), model=self.model)
        answers = self.stub.StreamTranslate
        self._timed("StreamTranslate", lambda: sum(a.ByteSize() for a in answers(request, timeout=DEADLINE_SECONDS)))

    def _text(self) -> str:
        return random.choice(self.texts)  # noqa: S311  load, not a secret

    def _timed(self, name: str, call: Callable[[], int]) -> None:
        """Make a call and tell Locust how it went."""
        size, failure = 0, None
        started = time.perf_counter()
        try:
            size = call()
        except grpc.RpcError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="grpc",
            name=name,
            response_time=(time.perf_counter() - started) * 1e3,
            response_length=size,
            exception=failure,
            context={},
        )
