"""The client of the commands: asks a server, and turns its errors into one line that says what to do."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.rpc.status import read_details
from service.terminal import AttentionPicture, ModelRow

Answer = TypeVar("Answer")


class ClientError(Exception):
    """A call failed; the message is for people."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How to translate; None and empty strings leave it to the server."""

    model: str = ""
    source: str = ""
    target: str = ""
    beam_size: int | None = None
    return_attention: bool = False


@dataclass(frozen=True, slots=True)
class Translated:
    """The best translation of one text."""

    text: str
    picture: AttentionPicture | None
    json: str
    """All that the server said of it, on one line."""


class Client:
    """A connection to one server."""

    def __init__(self, server: str, timeout: float) -> None:
        """Take the server's host:port and the time that a call may take, in seconds."""
        self._server = server
        self._timeout = timeout
        self._channel = grpc.insecure_channel(server)
        self._stub = translation_pb2_grpc.TranslationServiceStub(self._channel)

    def __enter__(self) -> "Client":
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
            options=pb.DecodingOptions(beam_size=choice.beam_size, return_attention=choice.return_attention),
        )
        response = self._call(self._stub.Translate, request)
        return [_translated(text, found) for text, found in zip(texts, response.translations, strict=True)]

    def models(self) -> list[ModelRow]:
        """Describe the server's models; raises ClientError."""
        response = self._call(self._stub.ListModels, pb.ListModelsRequest())
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

    def _call(self, method: Callable[..., Answer], request: object) -> Answer:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ClientError(self._explain(error)) from error

    def _explain(self, error: Any) -> str:  # noqa: ANN401  grpc gives its errors their methods at run time
        code, details = error.code(), read_details(error.trailing_metadata())
        if code is grpc.StatusCode.UNAVAILABLE and not details.reason:
            return f"no server answers at {self._server}; start one with `dragoman serve`, or name one with --server"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {self._timeout:g} s; allow more with --timeout, or send less at once"
        reason = details.reason or code.name
        request_id = (details.metadata or {}).get("request_id")
        return f"{error.details()} [{reason}{f', request {request_id}' if request_id else ''}]"


def _translated(source: str, translation: pb.Translation) -> Translated:
    best = translation.hypotheses[0]
    picture = None
    if best.HasField("attention"):
        columns = best.attention.columns
        weights = [
            list(best.attention.weights[row * columns : (row + 1) * columns]) for row in range(best.attention.rows)
        ]
        picture = AttentionPicture(translation.source_tokens, best.tokens, weights)
    found = {"source": source} | MessageToDict(translation, preserving_proto_field_name=True)
    return Translated(best.text, picture, json.dumps(found, ensure_ascii=False))
