"""Messages of dragoman.v1 from and to the domain."""

from dragoman.v1 import translation_pb2 as pb
from service.catalog import Served
from service.request import FinishReason, Float32, Timing
from service.rpc.border import Call
from service.rpc.status import duration
from service.translator import Candidate, Job, Options, Result

FINISH_REASONS = {
    FinishReason.END: pb.FINISH_REASON_END,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
DEFAULTS = Options()


def job(request: pb.TranslateRequest, call: Call) -> Job:
    """Read what a client asks."""
    options = _options(request.options) if request.HasField("options") else DEFAULTS
    return Job(call.request_id, request.texts, options, call.deadline)


def response(served: Served, result: Result) -> pb.TranslateResponse:
    """Write the translations of a job."""
    return pb.TranslateResponse(
        translations=[
            pb.Translation(
                hypotheses=[_hypothesis(candidate) for candidate in translation.candidates],
                source_tokens=translation.source_tokens,
            )
            for translation in result.translations
        ],
        model=served.name,
        model_version=served.version,
        timing=_timing(result.timing),
    )


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
    return Options(
        beam_size=options.beam_size if options.HasField("beam_size") else None,
        num_hypotheses=options.num_hypotheses if options.HasField("num_hypotheses") else None,
        length_penalty=options.length_penalty if options.HasField("length_penalty") else None,
        max_target_tokens=options.max_target_tokens if options.HasField("max_target_tokens") else None,
        return_attention=options.return_attention,
    )


def _hypothesis(candidate: Candidate) -> pb.Hypothesis:
    found = candidate.hypothesis
    return pb.Hypothesis(
        text=candidate.text,
        score=found.score,
        finish_reason=FINISH_REASONS[found.finish_reason],
        tokens=candidate.tokens,
        token_log_probs=found.log_probs,
        attention=None if found.attention is None else _attention(found.attention),
    )


def _attention(weights: Float32) -> pb.Attention:
    """Write weights `[target, source]`."""
    rows, columns = weights.shape
    return pb.Attention(rows=rows, columns=columns, weights=weights.ravel().tolist())


def _timing(timing: Timing) -> pb.Timing:
    return pb.Timing(
        queue=duration(timing.queue),
        encode=duration(timing.encode),
        decode=duration(timing.decode),
        steps=timing.steps,
    )
