"""The pipeline: how jobs of many texts behave towards others."""

from service import bundle
from service.admission import Admission
from service.catalog import Served
from service.config import EMBEDDED
from service.options import Options
from service.planning import Job, JobLimits
from service.request import DecodingParams, FinishReason, Hypothesis, Output, Permit, Request, Timing
from service.stream import Streams
from service.tokenizer import Tokenizer
from service.translator import Translator
from tests.fakes import Bystander

ENDED = Hypothesis((5,), (-0.5,), -0.5, FinishReason.END)


class InstantEngine:
    """Has translated whatever it gets at once."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def fits(self, params: DecodingParams) -> bool:
        """Take everything."""
        return True

    def submit(self, request: Request, permit: Permit) -> None:
        """Answer."""
        timing = Timing(0.0, 0.0, 0.0, 0.0, 1, 1.0)
        self._streams.dispatch([Output(request.request_id, (), FinishReason.END, (ENDED,), timing)])

    def cancel(self, request_id: str) -> None:
        """Do nothing: all has ended."""


async def turns_beside(job_texts: int, others: int) -> int:
    """Return how many turns of the event loop another task gets while a job is translated beside so many texts."""
    read, streams = bundle.load(EMBEDDED / "ko-en" / "1"), Streams()
    engine = InstantEngine(streams)
    served = Served("ko-en", "1", "cpu", read.manifest, Tokenizer.from_bundle(read), engine, streams)  # type: ignore[arg-type]
    admission = Admission(1000)
    translator = Translator(admission, JobLimits(max_texts=1000, max_bytes=1000, max_rows=64))
    job = Job("a/0", ["파일을 열 수 없습니다"] * job_texts, Options(), None, "client")
    with admission.admit(others):
        async with Bystander() as bystander:
            assert job_texts == len((await translator.translate(served, job)).translations)
            return bystander.turns


async def test_a_job_of_many_texts_rests_where_it_is_not_alone() -> None:
    """Alone, it lets others have a turn every few texts, all the way; beside others, they have most of the time."""
    alone, beside = await turns_beside(400, others=0), await turns_beside(400, others=1)
    tokenized, submitted, detokenized = 400 // 8, 400 // 32, 400 // 32
    assert tokenized + submitted + detokenized <= alone < beside / 2
