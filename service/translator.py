"""The pipeline: texts in, translations out.

The life of a request:

1. Check what needs no work: the number of texts and their bytes.
2. Admit: one permit for all its texts, or a refusal at once. The permit is returned whatever way the request ends.
3. Tokenize: ids for the engine, pieces for whoever looks at the attention.
4. Submit: one engine request per text, all with the same permit and deadline.
5. Collect: the last Output of each; the first that fails ends the request, and the others are cancelled, as they are
   when the client goes away.
6. Detokenize: hypotheses become text.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from service.admission import Admission
from service.bundle import Decoding
from service.catalog import Served
from service.errors import InvalidRequestError
from service.request import DecodingParams, Hypothesis, LengthPenalty, Output, Permit, Request, Timing
from service.tokenizer import Source

TEXTS_PER_TURN = 8
"""Texts tokenized before the event loop serves others."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Bounds that hold before a text is tokenized."""

    max_texts: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode, as the client put it; None: the model's default."""

    beam_size: int | None = None
    num_hypotheses: int | None = None
    length_penalty: float | None = None
    max_target_tokens: int | None = None
    return_attention: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What a client asks of one model."""

    request_id: str
    texts: Sequence[str]
    options: Options
    deadline: float | None
    """On the engine's clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hypothesis and its text; `tokens` are the pieces of its ids."""

    text: str
    tokens: list[str]
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Translation:
    """The candidates for one text, best first; `source_tokens` are the columns of their attention."""

    source_tokens: list[str]
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Result:
    """The translations of a job, in the order of its texts; of each time, the longest."""

    translations: list[Translation]
    timing: Timing
    source_tokens: int
    target_tokens: int


class Translator:
    """Takes jobs through the pipeline. Belongs to the event loop."""

    def __init__(self, admission: Admission, limits: TextLimits) -> None:
        self._admission = admission
        self._limits = limits
        self._serial = itertools.count()

    async def translate(self, served: Served, job: Job) -> Result:
        """Translate all texts of a job; raises ServiceError."""
        self._check(job.texts)
        with self._admission.admit(len(job.texts)) as permit:
            sources = await _tokenize(served, job.texts)
            requests = [self._request(job, served.manifest.decoding, source) for source in sources]
            outputs = await _decode(served, requests, permit)
            translations = [_detokenize(served, *pair) for pair in zip(sources, outputs, strict=True)]
        return Result(
            translations=translations,
            timing=_longest([output.timing for output in outputs]),
            source_tokens=sum(len(source.ids) for source in sources),
            target_tokens=sum(len(output.hypotheses[0].token_ids) for output in outputs),
        )

    def _check(self, texts: Sequence[str]) -> None:
        if not texts:
            raise InvalidRequestError("texts", "is empty; send at least one text")
        if len(texts) > self._limits.max_texts:
            message = f"{len(texts)} texts are more than the {self._limits.max_texts} of one request; send several"
            raise InvalidRequestError("texts", message)
        limit = self._limits.max_bytes
        for index, text in enumerate(texts):
            if not text or text.isspace():
                raise InvalidRequestError(f"texts[{index}]", "is empty; leave it out")
            if 4 * len(text) > limit and (size := len(text.encode())) > limit:
                message = f"has {size} bytes, at most {limit} are accepted; send it sentence by sentence"
                raise InvalidRequestError(f"texts[{index}]", message)

    def _request(self, job: Job, decoding: Decoding, source: Source) -> Request:
        """Make the engine's request; its id is unique even where clients repeat theirs."""
        params = _params(job.options, decoding, len(source.ids))
        return Request(f"{job.request_id}/{next(self._serial)}", source.ids, params, job.deadline)


async def _tokenize(served: Served, texts: Sequence[str]) -> list[Source]:
    limit = served.manifest.decoding.max_source_tokens
    empty = len(served.manifest.tokenizer.source_suffix)
    sources = []
    for index, text in enumerate(texts):
        if index % TEXTS_PER_TURN == TEXTS_PER_TURN - 1:
            await asyncio.sleep(0)
        source = served.tokenizer.encode(text)
        if len(source.ids) > limit:
            message = f"has {len(source.ids)} tokens, {served.name} takes at most {limit}; send it sentence by sentence"
            raise InvalidRequestError(f"texts[{index}]", message)
        if len(source.ids) == empty:
            raise InvalidRequestError(f"texts[{index}]", "holds nothing that can be translated; leave it out")
        sources.append(source)
    return sources


def _params(options: Options, decoding: Decoding, source_tokens: int) -> DecodingParams:
    """Fill in the model's defaults; raise InvalidRequestError where an option is out of bounds."""
    limit = options.max_target_tokens
    if limit is not None and limit > decoding.max_target_tokens:
        message = f"{limit} is more than the model's {decoding.max_target_tokens}"
        raise InvalidRequestError("options.max_target_tokens", message)
    penalty = options.length_penalty
    return DecodingParams(
        max_target_tokens=decoding.target_limit(source_tokens) if limit is None else limit,
        beam_size=1 if options.beam_size is None else options.beam_size,
        num_hypotheses=1 if options.num_hypotheses is None else options.num_hypotheses,
        length_penalty=LengthPenalty(decoding.length_penalty if penalty is None else penalty),
        return_attention=options.return_attention,
    )


async def _decode(served: Served, requests: list[Request], permit: Permit) -> list[Output]:
    """Submit all and wait for all; leave nothing of them in the engine."""
    with served.streams.open([request.request_id for request in requests]) as stream:
        try:
            for request in requests:
                served.engine.submit(request, permit)
            return await stream.collect()
        finally:
            for request_id in stream.unfinished:
                served.engine.cancel(request_id)


def _detokenize(served: Served, source: Source, output: Output) -> Translation:
    tokenizer = served.tokenizer
    candidates = [
        Candidate(tokenizer.decode(found.token_ids), tokenizer.target_pieces(found.token_ids), found)
        for found in output.hypotheses
    ]
    return Translation(source.pieces, candidates)


def _longest(timings: list[Timing]) -> Timing:
    if len(timings) == 1:
        return timings[0]
    return Timing(
        queue=max(timing.queue for timing in timings),
        encode=max(timing.encode for timing in timings),
        first_token=max(timing.first_token for timing in timings),
        decode=max(timing.decode for timing in timings),
        steps=max(timing.steps for timing in timings),
    )
