"""The pipeline: texts in, translations out.

The life of a job:

1. Check what needs no work: the number of texts, their bytes, the options.
2. Admit: one permit for all its texts, or a refusal at once; what comes by a stream of segments waits in line instead.
   The permit is returned whatever way the job ends.
3. Split and tokenize: texts become segments, ids for the engine, pieces for whoever looks at the attention. More
   segments than texts need a larger permit.
4. Submit: one engine request per segment, all with the same permit, client and deadline.
5. Collect: the last Output of each, or its tokens as they come; the first that fails ends the job, and the others are
   cancelled, as they are when the client goes away.
6. Detokenize: hypotheses become text, and those of a text's segments are joined.
"""

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from msgspec.structs import replace

from service.admission import Admission
from service.catalog import Served
from service.detokenizer import Detokenizer
from service.errors import DeadlineUnreachableError, ServiceError
from service.joining import Translation, joined, translation
from service.options import Recipe, Recipes
from service.planning import Job, JobLimits, Plan, check, plan
from service.request import Output, Permit, Timing
from service.segments import TURN
from service.stream import Stream

HUNGRY_REST, FED_REST = 3.0, 15.0
"""How many times as long as it worked at a few texts a job of many rests, where it is not alone: while the engine could
take more texts, and while it has enough of others. Then these wait for rows anyway, not for their tokens."""
SUBMITTED = 32
"""Requests of one job that the engine gets, or texts that are detokenized, before the event loop serves others."""


class Result(msgspec.Struct, frozen=True):
    """The translations of a job, in the order of its texts; of each time, the longest."""

    translations: list[Translation]
    timing: Timing
    source_tokens: int
    target_tokens: int


class Translator:
    """Takes jobs through the pipeline. Belongs to the event loop."""

    def __init__(self, admission: Admission, limits: JobLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._admission = admission
        self._limits = limits
        self._clock = clock
        self._serial = itertools.count()
        self._long = asyncio.Lock()
        """Held by the one job of many texts that is being tokenized: together, they would keep the loop from others."""
        self._recipes = Recipes()

    def unique(self, request_id: str) -> str:
        """Return a request id that no other call has, even where clients repeat theirs."""
        return f"{request_id}/{next(self._serial)}"

    def refusal(self) -> ServiceError | None:
        """Return why not even one text would be admitted, or None."""
        return self._admission.refusal()

    def expect_room(self) -> None:
        """Raise OverloadedError where not even one text would be admitted: before anything is done for it."""
        self._admission.expect_room()

    async def translate(self, served: Served, job: Job) -> Result:
        """Translate all texts of a job, or refuse it at once; raises ServiceError."""
        recipe = check(served, job, self._limits, self._recipes)
        with served.usage, self._admission.admit(len(job.texts)) as permit:
            planned = await self._plan(served, job, recipe)
            if len(planned.requests) > len(job.texts):
                permit.grow(len(planned.requests) - len(job.texts))
            return await self._decode(planned, permit)

    async def translate_in_turn(self, served: Served, job: Job) -> Result:
        """Translate all texts of a job as soon as there is room for it; it arrives now, not with its stream.

        Raises ServiceError.
        """
        job = replace(job, arrived=self._clock())
        with served.usage:
            planned = await plan(served, job, check(served, job, self._limits, self._recipes))
            with await self._admission.wait(len(planned.requests)) as permit:
                return await self._decode(planned, permit)

    async def stream(self, served: Served, job: Job) -> AsyncGenerator[tuple[str, Result | None], None]:
        """Translate the one text of a job; yield what is certain as it grows, and with the last part the result."""
        recipe = check(served, job, self._limits, self._recipes)
        with served.usage, self._admission.admit(1) as permit:
            planned = await plan(served, job, recipe, incremental=True)
            if len(planned.requests) > 1:
                permit.grow(len(planned.requests) - 1)
            (cut,) = planned.texts
            parts, outputs = [], []
            before = ""
            self._expect_time(planned)
            with _opened(planned) as running:
                await _submit(planned, permit)
                for segment, request, joint in zip(cut, planned.requests, [*planned.joints(0), ""], strict=True):
                    growing = Detokenizer(served.tokenizer.decode)
                    async for ids in running.tokens(request.request_id):
                        if delta := growing.push(ids):
                            yield before + delta, None
                            before = ""
                    outputs.append(running.output(request.request_id))
                    parts.append(translation(served.tokenizer, segment, outputs[-1], job.options))
                    before += parts[-1].candidates[0].text[growing.length :] + joint
            yield before, _result(planned, [joined(parts, planned.joints(0))], outputs)

    async def _plan(self, served: Served, job: Job, recipe: Recipe) -> Plan:
        """Cut the texts of a job into segments, jobs of many texts one after the other."""
        if len(job.texts) <= TURN:
            return await plan(served, job, recipe)
        async with self._long:
            return await plan(served, job, recipe, rest=functools.partial(self._rest, served, job))

    def _rest(self, served: Served, job: Job, worked: float) -> float:
        """Return for how many seconds a job of many texts lets others have the processor after so many of work."""
        if self._admission.admitted <= len(job.texts):
            return 0.0
        return worked * (FED_REST if len(served.streams) >= self._limits.max_rows else HUNGRY_REST)

    async def _decode(self, planned: Plan, permit: Permit) -> Result:
        """Decode all and detokenize."""
        self._expect_time(planned)
        with _opened(planned) as running:
            await _submit(planned, permit)
            outputs = await running.collect()
        tokenizer, options = planned.served.tokenizer, planned.job.options
        ended = iter(outputs)
        translations = []
        for index, cut in enumerate(planned.texts):
            if index % SUBMITTED == SUBMITTED - 1:
                await asyncio.sleep(0)
            parts = [translation(tokenizer, segment, next(ended), options) for segment in cut]
            translations.append(joined(parts, planned.joints(index)))
        return _result(planned, translations, outputs)

    def _expect_time(self, planned: Plan) -> None:
        """Raise DeadlineUnreachableError where the engine foresees that the longest segment would not end in time."""
        if (deadline := planned.job.deadline) is None:
            return
        longest = max(planned.requests, key=lambda request: len(request.source_ids))
        now, needed = self._clock(), planned.served.engine.forecast(longest)
        if needed and now + needed > deadline:
            message = f"this would take about {needed:.2f} s, its deadline is in {max(0.0, deadline - now):.2f} s"
            raise DeadlineUnreachableError(f"{message}; allow more time, or send it when there is less to do")


def _opened(planned: Plan) -> Stream:
    """Return where the Outputs of a plan's requests arrive; leaving it leaves nothing of them in the engine."""
    served = planned.served
    return served.streams.open([request.request_id for request in planned.requests], served.engine.cancel)


async def _submit(planned: Plan, permit: Permit) -> None:
    """Submit all requests of a plan, and let others have the event loop in between."""
    for index, request in enumerate(planned.requests):
        if index % SUBMITTED == SUBMITTED - 1:
            await asyncio.sleep(0)
        planned.served.engine.submit(request, permit)


def _result(planned: Plan, translations: list[Translation], outputs: list[Output]) -> Result:
    return Result(
        translations=translations,
        timing=_longest([output.timing for output in outputs]),
        source_tokens=sum(len(request.source_ids) for request in planned.requests),
        target_tokens=sum(len(output.hypotheses[0].token_ids) for output in outputs),
    )


def _longest(timings: Sequence[Timing]) -> Timing:
    if len(timings) == 1:
        return timings[0]
    return Timing(
        queue=max(timing.queue for timing in timings),
        encode=max(timing.encode for timing in timings),
        first_token=max(timing.first_token for timing in timings),
        decode=max(timing.decode for timing in timings),
        steps=max(timing.steps for timing in timings),
        shared_rows=max(timing.shared_rows for timing in timings),
    )
