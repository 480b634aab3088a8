"""Messages from the domain."""

from typing import cast

from service.catalog import Served
from service.joining import Candidate, Translation
from service.request import FinishReason, Hypothesis, Timing
from service.rpc import convert
from service.translator import Result
from tests.fakes import Bystander


class Name:
    """What an answer says of a model."""

    name, version = "ko-en", "1"


def translated(text: str) -> Translation:
    """Return a translation of one hypothesis."""
    hypothesis = Hypothesis((5,), (-0.5,), -0.5, FinishReason.END)
    return Translation(["▁a"], [Candidate(text, ["▁b"], hypothesis)], [((0, 1), (0, len(text)))])


async def test_an_answer_of_many_texts_lets_others_have_their_turn() -> None:
    """It is written a few texts at a time, in their order."""
    texts = [f"text {number}" for number in range(320)]
    result = Result([translated(text) for text in texts], Timing(), 1, 1)
    async with Bystander() as other:
        response = await convert.response(cast("Served", Name()), result)
    assert other.turns >= 320 / convert.TURN
    assert texts == [found.hypotheses[0].text for found in response.translations]
