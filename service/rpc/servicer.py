"""dragoman.v1.TranslationService: each method is a few lines of proto to domain and back."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Protocol

from dragoman.v1 import translation_pb2 as pb
from service.catalog import Catalog
from service.errors import ServiceError
from service.joining import Translation
from service.logs import RequestLine
from service.rpc import convert
from service.rpc.border import Border, Call
from service.rpc.concurrent import as_they_finish
from service.rpc.door import Guarded, Handler, guarded
from service.rpc.doorkeeper import Doorkeeper
from service.rpc.health import SERVICE
from service.translator import Result, Translator


class TextLog(Protocol):
    """What of the texts of a request enters its line of the log."""

    def asked(self, line: RequestLine, texts: Iterable[str]) -> None:
        """Take note of texts that came in."""

    def answered(self, line: RequestLine, translations: Iterable[Translation]) -> None:
        """Take note of their translations."""


class NoTexts:
    """A TextLog that keeps the log free of texts."""

    def asked(self, line: RequestLine, texts: Iterable[str]) -> None:
        """Keep nothing."""

    def answered(self, line: RequestLine, translations: Iterable[Translation]) -> None:
        """Keep nothing."""


class AllTexts:
    """A TextLog that writes all of them, which the operator has to ask for."""

    def asked(self, line: RequestLine, texts: Iterable[str]) -> None:
        """Keep the texts, also of a request that is refused."""
        line.source_texts += texts

    def answered(self, line: RequestLine, translations: Iterable[Translation]) -> None:
        """Keep the best translations; those of segments as they finish."""
        line.target_texts += [translation.candidates[0].text for translation in translations]


class TranslationServicer:
    """Answers with the models of a catalog; of one stream, so many segments are at work at once."""

    def __init__(self, catalog: Catalog, translator: Translator, segments_in_flight: int, texts: TextLog) -> None:
        self._catalog = catalog
        self._translator = translator
        self._segments_in_flight = segments_in_flight
        self._texts = texts

    async def translate(self, request: pb.TranslateRequest, call: Call) -> pb.TranslateResponse:
        """Translate one or many texts."""
        line = call.line
        line.texts = len(request.texts)
        self._texts.asked(line, request.texts)
        served = self._catalog.find(request.model, request.source_language_code, request.target_language_code)
        line.model = served.name
        self._translator.expect_room()
        job = convert.job(request, call, self._translator.unique(call.request_id))
        result = await self._translator.translate(served, job)
        _note(line, result)
        self._texts.answered(line, result.translations)
        return await convert.response(served, result)

    async def stream_translate(
        self, request: pb.StreamTranslateRequest, call: Call
    ) -> AsyncGenerator[pb.StreamTranslateResponse, None]:
        """Translate one text as it grows."""
        line = call.line
        line.texts = 1
        self._texts.asked(line, [request.text])
        served = self._catalog.find(request.model, request.source_language_code, request.target_language_code)
        line.model = served.name
        self._translator.expect_room()
        request_id = self._translator.unique(call.request_id)
        growing = self._translator.stream(served, convert.single_job(request, call, request_id, request_id))
        async with aclosing(growing):
            async for delta, result in growing:
                if result is not None:
                    _note(line, result)
                    self._texts.answered(line, result.translations)
                yield convert.stream_response(served, delta, result)

    async def translate_segments(
        self,
        explain: Callable[[Exception, Call], ServiceError],
        requests: AsyncIterator[pb.TranslateSegmentsRequest],
        call: Call,
    ) -> AsyncGenerator[pb.TranslateSegmentsResponse, None]:
        """Translate segments as they come in; one that fails fails alone."""
        client = self._translator.unique(call.request_id)

        async def answer(request: pb.TranslateSegmentsRequest) -> pb.TranslateSegmentsResponse:
            try:
                return await self._segment(request, call, client)
            except Exception as error:  # noqa: BLE001  told to the client, whatever it is
                return convert.segment_error(request.segment_id, explain(error, call))

        answers = as_they_finish(requests, answer, self._segments_in_flight)
        async with aclosing(answers):
            async for answered in answers:
                yield answered

    async def _segment(
        self, request: pb.TranslateSegmentsRequest, call: Call, client: str
    ) -> pb.TranslateSegmentsResponse:
        line = call.line
        line.texts += 1
        self._texts.asked(line, [request.text])
        served = self._catalog.find(request.model, request.source_language_code, request.target_language_code)
        line.model = served.name
        job = convert.single_job(request, call, f"{client}.{line.texts}", client)
        result = await self._translator.translate_in_turn(served, job)
        line.source_tokens += result.source_tokens
        line.target_tokens += result.target_tokens
        self._texts.answered(line, result.translations)
        return convert.segment_response(request.segment_id, served, result)

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:  # noqa: ARG002
        """List all models."""
        return pb.ListModelsResponse(models=[convert.model(served) for served in self._catalog.models])

    async def get_model(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """Describe one model."""
        served = self._catalog.find(request.model)
        call.line.model = served.name
        return pb.GetModelResponse(model=convert.model(served))

    def methods(self, border: Border) -> "dict[str, Handler | Guarded]":
        """Return the handlers of all methods, behind the border; a call of Translate is refused at its door."""
        segments = functools.partial(self.translate_segments, border.explain)
        translate = border.unary(SERVICE, "Translate", pb.TranslateRequest, self.translate)
        door = Doorkeeper(border, SERVICE, "Translate", self._translator.refusal, lambda: self._catalog.only)
        return {
            "Translate": guarded(translate, door),
            "StreamTranslate": border.server_stream(
                SERVICE, "StreamTranslate", pb.StreamTranslateRequest, self.stream_translate
            ),
            "TranslateSegments": border.both_stream(
                SERVICE, "TranslateSegments", pb.TranslateSegmentsRequest, segments
            ),
            "ListModels": border.unary(SERVICE, "ListModels", pb.ListModelsRequest, self.list_models),
            "GetModel": border.unary(SERVICE, "GetModel", pb.GetModelRequest, self.get_model),
        }


def _note(line: RequestLine, result: Result) -> None:
    """Write down what the log says of a job."""
    timing = result.timing
    line.source_tokens, line.target_tokens = result.source_tokens, result.target_tokens
    line.queue_ms = round(timing.queue * 1e3, 3)
    line.encode_ms = round(timing.encode * 1e3, 3)
    line.decode_ms = round(timing.decode * 1e3, 3)
    line.steps = timing.steps
    reasons = {translation.candidates[0].hypothesis.finish_reason.value for translation in result.translations}
    line.finish_reason = ",".join(sorted(reasons))
