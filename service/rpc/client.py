"""The client of the commands: asks a server, and turns its errors into one line that says what to do."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.json_format import MessageToDict

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.errors import DeadlineUnreachableError
from service.rpc.channel import Connection
from service.rpc.status import read_details
from service.terminal import AttentionPicture, ModelRow, aligned_words


class ClientError(Exception):
    """A call failed; the message is for people."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How to draw tokens; None leaves it to the server."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """How to translate; None and empty strings leave it to the server."""

    model: str = ""
    source: str = ""
    target: str = ""
    beam_size: int | None = None
    num_hypotheses: int | None = None
    length_penalty: float | None = None
    draw: Draw | None = None
    prefix: str = ""
    whole: bool = False
    """Whether a text is decoded as it is instead of sentence by sentence."""
    attention: bool = False
    alignments: bool = False


@dataclass(frozen=True, slots=True)
class Translated:
    """The translations of one text."""

    hypotheses: list[tuple[float, str]]
    """Score and text, best first."""
    picture: AttentionPicture | None
    alignments: list[str]
    """A line for each word of the best translation, where asked for."""
    json: str
    """All that the server said of it, on one line."""


class Client:
    """A connection to one server."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Take the way to the server and the time that a call may take, in seconds; raises StartupError."""
        self._server = connection.server
        self._timeout = timeout
        self._channel = connection.open()
        self._stub = translation_pb2_grpc.TranslationServiceStub(self._channel)

    def __enter__(self) -> Self:
        """Hold the connection open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._channel.close()

    def translate(self, texts: Sequence[str], choice: Choice) -> list[Translated]:
        """Translate texts; raises ClientError."""
        request = pb.TranslateRequest(
            texts=texts,
            model=choice.model,
            source_language_code=choice.source,
            target_language_code=choice.target,
            options=_options(choice),
            target_prefixes=[choice.prefix] * len(texts) if choice.prefix else (),
        )
        with self._explained():
            response = self._stub.Translate(request, timeout=self._timeout)
        return [_translated(text, found) for text, found in zip(texts, response.translations, strict=True)]

    def stream(self, text: str, choice: Choice) -> Iterator[str]:
        """Yield the translation of a text as it grows; raises ClientError."""
        request = pb.StreamTranslateRequest(
            text=text,
            model=choice.model,
            source_language_code=choice.source,
            target_language_code=choice.target,
            options=_options(choice),
            target_prefix=choice.prefix,
        )
        with self._explained():
            for message in self._stub.StreamTranslate(request, timeout=self._timeout):
                yield message.text_delta

    def segments(self, texts: Iterable[str], choice: Choice) -> Iterator[Translated | str | None]:
        """Translate texts as they come, and yield in their order: None for an empty one, a complaint for a bad one.

        Raises ClientError where it is not one text's fault, and what `texts` raises.
        """
        answers = Ordered(texts, choice)
        with self._explained():
            for answer in self._stub.TranslateSegments(answers.requests()):
                yield from answers.take(answer)
        yield from answers.rest()

    def models(self) -> list[ModelRow]:
        """Describe the server's models; raises ClientError."""
        with self._explained():
            response = self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout)
        return [
            ModelRow(
                name=model.name,
                version=model.version,
                languages=(model.source_language_code, model.target_language_code),
                family=model.family,
                precision=model.precision,
                provider=model.provider,
                identical=(model.parity.identical_sentences, model.parity.sentences),
                quality=[(quality.test_set, quality.chrf, quality.bleu) for quality in model.quality],
            )
            for model in response.models
        ]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise ClientError(self._explain(error)) from error

    def _explain(self, error: Any) -> str:  # noqa: ANN401  grpc gives its errors their methods at run time
        code, details = error.code(), read_details(error.trailing_metadata())
        if code is grpc.StatusCode.UNAVAILABLE and not details.reason:
            return f"no server answers at {self._server}; start one with `dragoman serve`, or name one with --server"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {self._timeout:g} s; allow more with --timeout, or send less at once"
        reason = details.reason or code.name
        flag = ", with --timeout" if reason == DeadlineUnreachableError.reason else ""
        request_id = (details.metadata or {}).get("request_id")
        return f"{error.details()}{flag} [{reason}{f', request {request_id}' if request_id else ''}]"


class Ordered:
    """Segments of one stream, put back into order. gRPC reads the texts on a thread of its own."""

    def __init__(self, texts: Iterable[str], choice: Choice) -> None:
        self._texts = texts
        self._choice = choice
        self._sources: dict[int, str] = {}
        """Of those that are not answered."""
        self._answers: dict[int, Translated | str | None] = {}
        """Of those that wait for one before them."""
        self._next = 0
        self._failure: Exception | None = None

    def requests(self) -> Iterator[pb.TranslateSegmentsRequest]:
        """Yield the requests, numbered; an error of the texts ends them and is kept: gRPC would only log it."""
        choice = self._choice
        try:
            for number, text in enumerate(self._texts):
                if not text.strip():
                    self._answers[number] = None
                    continue
                self._sources[number] = text
                yield pb.TranslateSegmentsRequest(
                    segment_id=str(number),
                    text=text,
                    model=choice.model,
                    source_language_code=choice.source,
                    target_language_code=choice.target,
                    options=_options(choice),
                    target_prefix=choice.prefix,
                )
        except Exception as error:  # noqa: BLE001  raised by `rest`, on the thread that wants to know
            self._failure = error

    def take(self, answer: pb.TranslateSegmentsResponse) -> Iterator[Translated | str | None]:
        """Take one answer; yield what is in order by it."""
        number = int(answer.segment_id)
        source = self._sources.pop(number)
        if not answer.HasField("error"):
            self._answers[number] = _translated(source, answer.translation)
        elif answer.error.message.startswith("text:"):
            self._answers[number] = answer.error.message
        else:
            raise ClientError(f"{answer.error.message} [{answer.error.reason}]")
        yield from self._ready()

    def rest(self) -> Iterator[Translated | str | None]:
        """Yield what is left when all answers are there, or raise what the texts raised."""
        yield from self._ready()
        if self._failure is not None:
            raise self._failure

    def _ready(self) -> Iterator[Translated | str | None]:
        while self._next in self._answers:
            yield self._answers.pop(self._next)
            self._next += 1


def _options(choice: Choice) -> pb.DecodingOptions:
    draw = choice.draw
    return pb.DecodingOptions(
        beam_size=choice.beam_size,
        num_hypotheses=choice.num_hypotheses,
        length_penalty=choice.length_penalty,
        return_attention=choice.attention,
        return_alignments=choice.alignments,
        segmentation=pb.SEGMENTATION_NONE if choice.whole else pb.SEGMENTATION_SENTENCES,
        sampling=None
        if draw is None
        else pb.Sampling(temperature=draw.temperature, top_k=draw.top_k, top_p=draw.top_p, seed=draw.seed),
    )


def _translated(source: str, translation: pb.Translation) -> Translated:
    best = translation.hypotheses[0]
    picture = None
    if best.HasField("attention"):
        columns = best.attention.columns
        weights = [
            list(best.attention.weights[row * columns : (row + 1) * columns]) for row in range(best.attention.rows)
        ]
        picture = AttentionPicture(translation.source_tokens, best.tokens, weights)
    links = [((link.target.start, link.target.end), (link.source.start, link.source.end)) for link in best.alignments]
    found = {"source": source} | MessageToDict(translation, preserving_proto_field_name=True)
    return Translated(
        hypotheses=[(hypothesis.score, hypothesis.text) for hypothesis in translation.hypotheses],
        picture=picture,
        alignments=aligned_words(source, best.text, links),
        json=json.dumps(found, ensure_ascii=False),
    )
