"""What a job becomes before it is decoded: texts cut into segments, and a request for each."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from service import segments
from service.catalog import Served
from service.errors import InvalidRequestError
from service.options import Options, Recipe, Recipes
from service.request import Priority, Request
from service.segments import Segment, UnsplittableError

LISTED = {"text": "texts", "target_prefix": "target_prefixes"}
"""The fields of one text, as they are called where there are several."""
MAX_JOINED_ATTENTION = 512
"""Source tokens of a text of several segments whose attention is returned: it grows with their square."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds that hold before a text is tokenized."""

    max_texts: int
    max_bytes: int
    max_rows: int


class Job(msgspec.Struct):
    """What a client asks of one model."""

    request_id: str
    """Unlike any other's, even where clients repeat theirs."""
    texts: Sequence[str]
    options: Options
    deadline: float | None
    """On the engine's clock, in seconds."""
    client: str
    """The call that it came with: among calls, rows are shared evenly."""
    prefixes: Sequence[str] = ()
    """What translations must begin with: none, or one for each text, where empty means nothing."""
    priority: Priority = Priority.NORMAL
    arrived: float | None = None
    """When it was taken up, on the engine's clock, in seconds; None: when it is submitted."""
    listed: bool = True
    """Whether its fields are lists, which error messages then index."""

    def at(self, name: str, index: int) -> str:
        """Return the path of a field of one text."""
        return f"{LISTED[name]}[{index}]" if self.listed else name


class Plan(msgspec.Struct):
    """A job cut into segments; `requests` are theirs, those of all texts in turn."""

    served: Served
    job: Job
    texts: list[list[Segment]] = []
    requests: list[Request] = []

    def joints(self, index: int) -> list[str]:
        """Return what stands between the segments of one text."""
        cut, language = self.texts[index], self.served.manifest.model.target_language
        return [
            segments.joint(self.job.texts[index], before.span, after.span, language)
            for before, after in itertools.pairwise(cut)
        ]


def check(served: Served, job: Job, limits: JobLimits, recipes: Recipes) -> Recipe:
    """Check what needs no work; raises InvalidRequestError."""
    if not job.texts:
        raise InvalidRequestError("texts", "is empty; send at least one text")
    if len(job.texts) > limits.max_texts:
        message = f"{len(job.texts)} texts are more than the {limits.max_texts} of one request; send several"
        raise InvalidRequestError("texts", message)
    if job.prefixes and len(job.prefixes) != len(job.texts):
        message = f"has {len(job.prefixes)} for {len(job.texts)} texts; send one for each, empty where there is none"
        raise InvalidRequestError("target_prefixes", message)
    limit = limits.max_bytes
    for index, text in enumerate(job.texts):
        if not text or text.isspace():
            raise InvalidRequestError(job.at("text", index), "is empty; leave it out")
        if 4 * len(text) > limit and (size := len(text.encode())) > limit:
            message = f"has {size} bytes, at most {limit} are accepted; send it in parts"
            raise InvalidRequestError(job.at("text", index), message)
    recipe = recipes.recipe(served, job.options)
    if recipe.widest.rows > limits.max_rows:
        message = f"takes {recipe.widest.rows} rows, this server has {limits.max_rows}; ask for fewer"
        sampled = job.options.sampling is not None
        raise InvalidRequestError("options.num_hypotheses" if sampled else "options.beam_size", message)
    return recipe


async def plan(
    served: Served,
    job: Job,
    recipe: Recipe,
    *,
    incremental: bool = False,
    rest: Callable[[float], float] = lambda _: 0.0,
) -> Plan:
    """Cut the texts of a job into segments and make their requests; raises InvalidRequestError.

    Every few texts the event loop serves others; `rest` says for how long, in seconds, after so many of work.
    """
    made = Plan(served, job)
    began = time.thread_time()
    for index in range(len(job.texts)):
        if index % segments.TURN == segments.TURN - 1:
            await asyncio.sleep(rest(time.thread_time() - began))
            began = time.thread_time()
        prefix_ids = _prefix_ids(served, job, index) if job.prefixes else ()
        cut = await _cut(served, job, index, whole=bool(prefix_ids) or not job.options.split)
        made.texts.append(cut)
        for segment in cut:
            number, ids = len(made.requests), segment.source.ids
            params = recipe.params(len(ids), prefix_ids, number)
            if not served.engine.fits(params):
                message = f"{params.rows} rows of {params.max_target_tokens} tokens exceed this server's cache memory"
                raise InvalidRequestError("options.max_target_tokens", f"{message}; ask for fewer of either")
            request_id = f"{job.request_id}.{number}"
            request = Request(request_id, ids, params, job.deadline, incremental, job.client, job.priority, job.arrived)
            made.requests.append(request)
    return made


async def _cut(served: Served, job: Job, index: int, *, whole: bool) -> list[Segment]:
    """Cut one text into segments, or take it as it is; raises InvalidRequestError where nothing fits or is left."""
    cut = [_whole(served, job, index)] if whole else await _sentences(served, job, index)
    if not any(len(segment.source.ids) > served.tokenizer.added for segment in cut):
        raise InvalidRequestError(job.at("text", index), "holds nothing that can be translated; leave it out")
    if job.options.return_attention and len(cut) > 1:
        columns = sum(len(segment.source.ids) for segment in cut)
        if columns > MAX_JOINED_ATTENTION:
            message = f"of a text of {columns} tokens is too large, {MAX_JOINED_ATTENTION} will do; send it in parts"
            raise InvalidRequestError("options.return_attention", message)
    return cut


def _whole(served: Served, job: Job, index: int) -> Segment:
    text, limit = job.texts[index], served.manifest.decoding.max_source_tokens
    source = served.tokenizer.encode(text)
    if len(source.ids) > limit:
        message = f"has {len(source.ids)} tokens, {served.name} takes at most {limit}; let it be split into segments"
        raise InvalidRequestError(job.at("text", index), message)
    return Segment((0, len(text)), text, source)


async def _sentences(served: Served, job: Job, index: int) -> list[Segment]:
    text, limit = job.texts[index], served.manifest.decoding.max_source_tokens
    spans = segments.sentences(text, served.manifest.model.source_language)
    try:
        return await segments.segment(served.tokenizer, text, spans, limit)
    except UnsplittableError as error:
        message = f"has a character of more tokens than the {limit} that {served.name} takes; leave it out"
        raise InvalidRequestError(job.at("text", index), message) from error


def _prefix_ids(served: Served, job: Job, index: int) -> tuple[int, ...]:
    """Tokenize the prefix of one text; raises InvalidRequestError where the model could not have written it."""
    ids = served.tokenizer.encode_target(job.prefixes[index])
    if served.manifest.tokenizer.unknown_id in ids:
        message = f"holds characters that {served.name} cannot write; leave them out"
        raise InvalidRequestError(job.at("target_prefix", index), message)
    return ids
