"""What an engine promises to a request that would come now."""

import pytest

from service.engine.pace import Pace
from service.engine.scheduler import Limits
from service.engine.sequence import Sequence
from service.request import DecodingParams, Request
from tests.fakes import FakePermit, ReversingModel, Stage


def ended(source_tokens: int, steps: int) -> Sequence:
    """Make a sequence that has ended after so many steps."""
    sequence = Sequence(Request("a", (4,) * source_tokens, DecodingParams(99)), FakePermit(), arrived=0.0)
    sequence.steps = steps
    return sequence


def test_nothing_is_promised_before_anything_was_seen() -> None:
    """An engine that has not decoded yet refuses nobody."""
    assert 0.0 == Pace().forecast(10, 1, 0, 64)


def test_a_request_takes_the_steps_of_its_length_behind_those_in_front() -> None:
    """Expected steps times the time of a step, and for each full batch in front as long as a translation takes."""
    pace = Pace()
    pace.note_step(64, 0.010)
    pace.note_step(1, 0.001)
    pace.note_end(ended(10, 20))
    assert 0.001 * 2 * 15 == pytest.approx(pace.forecast(15, 1, 0, 64))
    assert 0.010 * 2 * 15 == pytest.approx(pace.forecast(15, 1, 63, 64))
    assert 0.010 * (20 + 2 * 15) == pytest.approx(pace.forecast(15, 1, 127, 64))


def test_an_engine_forecasts_what_it_does() -> None:
    """The forecast of a running engine is the time that the same request took."""
    stage = Stage(
        ReversingModel(on_step=lambda rows: setattr(stage, "now", stage.now + 0.01 * rows)), Limits(max_rows=4)
    )
    request = Request("b", (5,) * 9, DecodingParams(99))
    stage.submit("a", (5,) * 9)
    stage.finish()
    assert stage.recorder.last("a").timing.decode == pytest.approx(stage.engine.forecast(request))
