"""Messages of dragoman.v1 from and to the domain."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from dragoman.v1 import translation_pb2 as pb
from service.alignment import Link
from service.catalog import Served
from service.errors import InvalidRequestError, ServiceError
from service.joining import Candidate, Translation
from service.options import Options
from service.planning import Job
from service.request import MAX_CANDIDATES, FinishReason, Float32, LengthPenaltyKind, Priority, Sampling, Timing
from service.rpc.border import Call
from service.rpc.status import status_code
from service.subwords import Span
from service.translator import Result

FINISH_REASONS = {
    FinishReason.END: pb.FINISH_REASON_END,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.REPETITION: pb.FINISH_REASON_REPETITION,
}
PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    pb.PRIORITY_LOW: Priority.LOW,
    pb.PRIORITY_NORMAL: Priority.NORMAL,
    pb.PRIORITY_HIGH: Priority.HIGH,
}
LENGTH_PENALTY_KINDS = {
    pb.LENGTH_PENALTY_KIND_UNSPECIFIED: LengthPenaltyKind.PLAIN,
    pb.LENGTH_PENALTY_KIND_PLAIN: LengthPenaltyKind.PLAIN,
    pb.LENGTH_PENALTY_KIND_GNMT: LengthPenaltyKind.GNMT,
}
SPLITS = {pb.SEGMENTATION_UNSPECIFIED: True, pb.SEGMENTATION_SENTENCES: True, pb.SEGMENTATION_NONE: False}
DEFAULTS = Options()
TURN = 32
"""Translations that are written before the event loop serves others."""
Fields = dict[str, Any]

Number = TypeVar("Number", bound=int)
Meaning = TypeVar("Meaning")


def job(request: pb.TranslateRequest, call: Call, request_id: str) -> Job:
    """Read what a client asks."""
    return Job(
        request_id=request_id,
        texts=request.texts,
        options=_options(request.options) if request.HasField("options") else DEFAULTS,
        deadline=call.deadline,
        arrived=call.arrived,
        client=request_id,
        prefixes=request.target_prefixes,
        priority=_meaning(PRIORITIES, "priority", request.priority),
    )


def single_job(
    request: pb.StreamTranslateRequest | pb.TranslateSegmentsRequest, call: Call, request_id: str, client: str
) -> Job:
    """Read what a client asks for one text; `client` is the call that it came with."""
    return Job(
        request_id=request_id,
        texts=[request.text],
        options=_options(request.options) if request.HasField("options") else DEFAULTS,
        deadline=call.deadline,
        arrived=call.arrived,
        client=client,
        prefixes=[request.target_prefix] if request.target_prefix else (),
        priority=_meaning(PRIORITIES, "priority", request.priority),
        listed=False,
    )


async def response(served: Served, result: Result) -> pb.TranslateResponse:
    """Write the translations of a job; where they are many, the event loop serves others in between."""
    written = pb.TranslateResponse(model=served.name, model_version=served.version, timing=_timing(result.timing))
    for index, found in enumerate(result.translations):
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
        written.translations.add(**_translation(found))
    return written


def stream_response(served: Served, delta: str, result: Result | None) -> pb.StreamTranslateResponse:
    """Write some more of a translation, and with the last part all of it."""
    if result is None:
        return pb.StreamTranslateResponse(text_delta=delta)
    return pb.StreamTranslateResponse(
        text_delta=delta,
        translation=_translation(result.translations[0]),
        model=served.name,
        model_version=served.version,
        timing=_timing(result.timing),
    )


def segment_response(segment_id: str, served: Served, result: Result) -> pb.TranslateSegmentsResponse:
    """Write the translation of a segment."""
    return pb.TranslateSegmentsResponse(
        segment_id=segment_id,
        translation=_translation(result.translations[0]),
        model=served.name,
        model_version=served.version,
        timing=_timing(result.timing),
    )


def segment_error(segment_id: str, error: ServiceError) -> pb.TranslateSegmentsResponse:
    """Write why a segment was not translated."""
    code: int = status_code(error).value[0]
    told = pb.SegmentError(code=code, message=error.message, reason=error.reason)
    return pb.TranslateSegmentsResponse(segment_id=segment_id, error=told)


def model(served: Served) -> pb.Model:
    """Describe a model."""
    manifest = served.manifest
    card, parity = manifest.model, manifest.parity
    return pb.Model(
        name=served.name,
        version=served.version,
        family=card.family,
        source_language_code=card.source_language,
        target_language_code=card.target_language,
        precision=card.precision,
        provider=served.provider,
        license=card.license,
        has_attention=manifest.attention is not None,
        max_source_tokens=manifest.decoding.max_source_tokens,
        max_target_tokens=manifest.decoding.max_target_tokens,
        parity=pb.Parity(
            max_log_prob_difference=parity.max_log_prob_difference,
            max_attention_difference=parity.max_attention_difference,
            sentences=parity.sentences,
            identical_sentences=parity.identical_sentences,
        ),
        quality=[
            pb.Quality(
                test_set=quality.test_set,
                chrf=quality.chrf,
                bleu=quality.bleu,
                chrf_signature=quality.chrf_signature,
                bleu_signature=quality.bleu_signature,
            )
            for quality in manifest.quality
        ],
    )


def _options(options: pb.DecodingOptions) -> Options:
    """Read what is set, and look at nothing else: most options are not."""
    given: Fields = {field.name: value for field, value in options.ListFields()}
    if "sampling" in given:
        given["sampling"] = _sampling(options.sampling)
    if "suppressed_tokens" in given:
        given["suppressed_tokens"] = tuple(options.suppressed_tokens)
    if (kind := given.get("length_penalty_kind")) is not None:
        given["length_penalty_kind"] = _meaning(LENGTH_PENALTY_KINDS, "options.length_penalty_kind", kind)
    if (segmentation := given.pop("segmentation", None)) is not None:
        given["split"] = _meaning(SPLITS, "options.segmentation", segmentation)
    return Options(**given)


def _sampling(sampling: pb.Sampling) -> Sampling:
    return Sampling(
        temperature=sampling.temperature if sampling.HasField("temperature") else 1.0,
        top_k=sampling.top_k if sampling.HasField("top_k") else MAX_CANDIDATES,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
        seed=sampling.seed,
    )


def _meaning(meanings: Mapping[Number, Meaning], field: str, number: Number) -> Meaning:
    """Return what an enum's number means; raises InvalidRequestError for one of a later version, or of none."""
    if number not in meanings:
        raise InvalidRequestError(field, f"{number} has no meaning here; take one of {', '.join(map(str, meanings))}")
    return meanings[number]


# What follows gives dicts: protobuf fills a message from nested ones in less than half the time that messages take.


def _translation(found: Translation) -> Fields:
    return {
        "hypotheses": [_hypothesis(candidate) for candidate in found.candidates],
        "source_tokens": found.source_tokens,
        "segments": [{"source": _span(source), "target": _span(target)} for source, target in found.segments],
    }


def _hypothesis(candidate: Candidate) -> Fields:
    found = candidate.hypothesis
    fields: Fields = {
        "text": candidate.text,
        "score": found.score,
        "finish_reason": FINISH_REASONS[found.finish_reason],
        "tokens": candidate.tokens,
        "token_log_probs": found.log_probs,
    }
    if candidate.attention is not None:
        fields["attention"] = _attention(candidate.attention)
    if candidate.links:
        fields["alignments"] = [_alignment(link) for link in candidate.links]
    return fields


def _alignment(link: Link) -> Fields:
    return {
        "target_token": link.target_token,
        "source_token": link.source_token,
        "target": _span(link.target),
        "source": _span(link.source),
    }


def _span(span: Span) -> Fields:
    return {"start": span[0], "end": span[1]}


def _attention(weights: Float32) -> Fields:
    """Write weights `[target, source]`."""
    rows, columns = weights.shape
    return {"rows": rows, "columns": columns, "weights": weights.ravel().tolist()}


def _timing(timing: Timing) -> Fields:
    return {
        "queue": _duration(timing.queue),
        "encode": _duration(timing.encode),
        "decode": _duration(timing.decode),
        "steps": timing.steps,
        "first_token": _duration(timing.first_token),
        "shared_rows": timing.shared_rows,
    }


def _duration(seconds: float) -> Fields:
    """Write a time; what is negative by the clock's grain is none."""
    whole, nanos = divmod(int(max(0.0, seconds) * 1e9), 1_000_000_000)
    return {"seconds": whole, "nanos": nanos}
