"""A request's times, from its arrival to the handing over of its last token."""

from service.request import DecodingParams, FinishReason, Output, Request, Timing
from tests.fakes import FakePermit, Stage


def test_a_request_waits_from_its_arrival() -> None:
    """What its call took before it was submitted is time in the queue; handing over is part of decoding."""
    stage = Stage()
    stage.now = 10.0
    stage.engine.submit(Request("a", (5,), DecodingParams(10), arrived=6.0), FakePermit())
    stage.engine.step()
    stage.now = 12.0
    stage.finish()
    output = stage.recorder.last("a")
    parts = [output.timing.queue, output.timing.encode, output.timing.decode]
    assert ([4.0, 0.0, 2.0], 12.0) == (parts, output.timing.ended)
    handed = output.handed_over(12.5)
    assert (2.5, 12.5) == (handed.timing.decode, handed.timing.ended)
    assert (output.hypotheses, 4.0) == (handed.hypotheses, handed.timing.queue)


def test_what_never_ran_is_handed_over_as_it_is() -> None:
    """It waited and no more; an increment has no time yet."""
    late = Output("a", finish_reason=FinishReason.DEADLINE, timing=Timing(queue=1.0, ended=2.0))
    increment = Output("a", token_ids=(5,))
    assert [late, increment] == [late.handed_over(9.0), increment.handed_over(9.0)]
