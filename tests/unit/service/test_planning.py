"""Jobs become plans: what is refused on the way, and who has a turn in between."""

import msgspec
import pytest

from service import bundle
from service.catalog import Served
from service.config import EMBEDDED
from service.errors import InvalidRequestError
from service.options import Options, Recipes
from service.planning import Job, Plan, plan
from service.request import DecodingParams, Priority
from service.stream import Streams
from service.tokenizer import Tokenizer
from tests.fakes import Bystander


class Engine:
    """What a plan asks of an engine."""

    def __init__(self, *, fits: bool = True) -> None:
        self._fits = fits

    def fits(self, params: DecodingParams) -> bool:
        """Tell whether the caches of a request fit."""
        return self._fits


def served(*, fits: bool = True, **limits: int) -> Served:
    """Return the embedded model without its graphs."""
    read = bundle.load(EMBEDDED / "ko-en" / "1")
    decoding = msgspec.structs.replace(read.manifest.decoding, **limits)
    manifest = msgspec.structs.replace(read.manifest, decoding=decoding)
    tokenizer = Tokenizer.from_bundle(read)
    return Served("ko-en", "1", "cpu", manifest, tokenizer, Engine(fits=fits), Streams())  # type: ignore[arg-type]


async def planned(model: Served, *texts: str) -> Plan:
    """Return the plan of a job."""
    job = Job("a/0", texts, Options(), 5.0, "client", priority=Priority.HIGH)
    return await plan(model, job, Recipes().recipe(model, job.options))


async def test_every_segment_has_a_request_of_its_own() -> None:
    """All of one client, with the job's deadline and priority, and ids that nobody else has."""
    made = await planned(served(), "안녕. 가자.", "카페")
    assert [["안녕.", "가자."], ["카페"]] == [[segment.text for segment in cut] for cut in made.texts]
    assert ["a/0.0", "a/0.1", "a/0.2"] == [request.request_id for request in made.requests]
    assert {("client", 5.0, Priority.HIGH, False)} == {
        (request.client, request.deadline, request.priority, request.incremental) for request in made.requests
    }
    assert ([" "], []) == (made.joints(0), made.joints(1))


@pytest.mark.parametrize(
    ("model", "text", "field", "says"),
    [
        (served(max_source_tokens=2), "龜", "texts[0]", "a character of more tokens than the 2"),
        (served(fits=False), "안녕", "options.max_target_tokens", "cache memory"),
    ],
)
async def test_what_never_fits(model: Served, text: str, field: str, says: str) -> None:
    """Is the client's to change, and the field says what."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        await planned(model, text)
    assert field == caught.value.field


async def test_many_short_texts_let_others_have_their_turn() -> None:
    """As one long text does."""
    async with Bystander() as other:
        await planned(served(), *["카페"] * 80)
    assert other.turns >= 10
