"""A whole server around the fake model: in this process for most tests, in one of its own for signals."""

import asyncio
import collections
import functools
import io
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import msgspec
import sentencepiece as spm
import uvloop
from grpc_health.v1 import health_pb2

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service import config, link, logs, models, process, server
from service.engine.session import Model
from service.errors import BundleError, StartupError
from service.repository import Found
from service.subwords import SentencePieces
from service.tokenizer import Tokenizer
from service.watch import Identity
from tests.fakes import END_ID, PAD_ID, START_ID, UNKNOWN_ID, ReversingModel, manifest

ALPHABET = "abcdefghijklmnopqrstuvwxyz.,!? 가나다라마바사 카페에서"


@functools.cache
def character_model() -> bytes:
    """Return a SentencePiece model whose pieces are single characters: "abc" is three tokens."""
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([ALPHABET] * 4), model_writer=written, model_type="char", vocab_size=200,
        hard_vocab_limit=False, character_coverage=1.0, add_dummy_prefix=False, minloglevel=2,
        pad_id=PAD_ID, unk_id=UNKNOWN_ID, bos_id=START_ID, eos_id=END_ID,
    )  # fmt: skip
    return written.getvalue()


def tokenizer(suffix: tuple[int, ...] = ()) -> Tokenizer:
    """Return a tokenizer with one vocabulary of characters on both sides."""
    subwords = SentencePieces.load(character_model(), None, UNKNOWN_ID)
    return Tokenizer(subwords, subwords, msgspec.structs.replace(manifest().tokenizer, source_suffix=suffix))


def reversing(on_step: Callable[[int], None] = lambda rows: None, **limits: int) -> ReversingModel:
    """Return a model that turns "abc" into "cba": no end symbol stands behind its sources."""
    model = ReversingModel(on_step, **limits)
    bare = msgspec.structs.replace(model.manifest.tokenizer, source_suffix=())
    model.manifest = msgspec.structs.replace(model.manifest, tokenizer=bare)
    return model


def loaded(model: Model, name: str = "toy", version: str = "1") -> models.Loaded:
    """Return the model as if it had been read from a repository."""
    return models.Loaded(name, version, "cpu", [model], tokenizer(), 0.25)


class Fixed:
    """A source of models that are there already, which a test may change."""

    def __init__(self, models: Sequence[models.Loaded]) -> None:
        self.models = {(one.name, one.version): one for one in models}
        self.broken: dict[tuple[str, str], str] = {}
        """Why versions that are there cannot be loaded."""
        self.sizes: dict[tuple[str, str], int] = {}
        """Bytes that they take, where they take any."""
        self.before_find: Callable[[], object] = lambda: None
        self.before_load: Callable[[], object] = lambda: None
        self._written: collections.Counter[tuple[str, str]] = collections.Counter()

    def write(self, one: models.Loaded, broken: str = "") -> None:
        """Put a version there, or another one in its place."""
        place = one.name, one.version
        self.models[place] = one
        self._written[place] += 1
        self.broken.pop(place, None)
        if broken:
            self.broken[place] = broken

    def find(self) -> Sequence[Found]:
        """Return them all."""
        self.before_find()
        return [
            Found(name, version, Path(name, version), (("bundle.json", Identity(0, self._written[name, version], 0)),))
            for name, version in sorted(self.models)
        ]

    def estimate(self, found: Found) -> int:
        """Return what was set."""
        return self.sizes.get((found.name, found.version), 0)

    def load(self, found: Found) -> models.Loaded:
        """Return one, unless it is broken."""
        self.before_load()
        if why := self.broken.get((found.name, found.version)):
            raise BundleError(why)
        return self.models[found.name, found.version]


class Gate:
    """Lets a model's steps through while it is open, and counts them."""

    def __init__(self, *, opened: bool = False) -> None:
        self._changed = threading.Condition()
        self._opened = opened
        self._allowed = 0
        self.steps = 0

    def __call__(self, rows: int) -> None:
        """Hold a step of so many rows until it may go on."""
        with self._changed:
            self.steps += 1
            if not self._changed.wait_for(lambda: self._opened or self._allowed, 20.0):
                raise TimeoutError("a test left the gate closed")
            self._allowed -= not self._opened

    def let(self) -> None:
        """Let one step through."""
        with self._changed:
            self._allowed += 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let all steps through."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()


class LiveServer:
    """A server on a thread of its own, on free ports, and a client's ways to reach it."""

    def __init__(self, models: Sequence[models.Loaded] | Fixed, /, **settings: Any) -> None:
        """Serve all of these models, or what the settings want of those in a source."""
        self.log = io.StringIO()
        log = logs.configure("json", "info", self.log)
        source = models if isinstance(models, Fixed) else Fixed(models)
        every = "" if source is models else ",".join({f"{name}@*" for name, _ in source.models})
        given: dict[str, Any] = {"port": 0, "metrics_port": 0, "models": every} | settings
        self.server = server.Server(config.Settings(**given), source, log)
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server")

    def __enter__(self) -> "LiveServer":
        """Start it and connect."""
        self._thread.start()
        self.ready = self.run(self.server.start())
        self.channel = grpc.insecure_channel(self.ready.address)
        self.stub = translation_pb2_grpc.TranslationServiceStub(self.channel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        self.channel.close()
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, work: Any) -> Any:
        """Run a coroutine on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20.0)

    def translate(self, *texts: str, **fields: Any) -> list[str]:
        """Return the best translations."""
        response = self.stub.Translate(pb.TranslateRequest(texts=texts, **fields), timeout=20.0)
        return [translation.hypotheses[0].text for translation in response.translations]

    def health(self, service: str = "") -> str:
        """Return the health of a service by name."""
        check: grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = check(health_pb2.HealthCheckRequest(service=service), timeout=20.0)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its name and labels."""
        with urllib.request.urlopen(self.ready.metrics_url, timeout=20.0) as page:  # noqa: S310
            lines = page.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Wait until something holds; fail with what was waited for."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.005)


def main() -> int:
    """Serve the fake model as `dragoman serve` serves bundles, at 50 ms a step."""
    settings = config.read_settings({"port": "0", "metrics_port": "0"})
    model = reversing(lambda rows: time.sleep(0.05))
    try:
        return process.run(settings, _announce, lambda _: Fixed([loaded(model)]))
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _announce(ready: link.Ready) -> None:
    sys.stdout.write(f"{ready.address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
