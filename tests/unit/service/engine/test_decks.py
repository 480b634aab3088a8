"""Two decks of one engine: a crowd, and those who ask for little."""

from service.engine.scheduler import Limits
from service.request import DecodingParams, FinishReason, Request
from tests.fakes import ReversingModel, Stage


def test_a_single_text_beside_a_crowd_gets_half_of_the_time() -> None:
    """Steps of many rows take long; one client's text takes about twice what it takes alone, and the crowd goes on."""
    model = ReversingModel(on_step=lambda rows: setattr(stage, "now", stage.now + 0.001 * rows))
    stage = Stage(model, Limits(max_rows=64))
    for number in range(120):
        source = tuple(range(5, 25 + number % 7))
        stage.ask(Request(f"crowd{number}", source, DecodingParams(99), client="crowd"))
    for _ in range(5):
        stage.engine.step()
    stage.ask(Request("single", tuple(range(30, 130)), DecodingParams(120), client="other"))
    stage.finish()
    alone, step = 0.001 * 101, 0.001 * 56
    assert 1.5 * alone < stage.recorder.last("single").timing.decode < 2 * alone + 2 * step
    assert tuple(range(129, 29, -1)) == stage.text("single")
    for number in range(120):
        assert tuple(range(24 + number % 7, 4, -1)) == stage.text(f"crowd{number}")


def test_a_failed_step_of_one_deck_leaves_the_other_alone() -> None:
    """Beside a crowd whose step fails, what runs in the other deck goes on."""
    broken = [False]

    def fail(rows: int) -> None:
        if broken[0] and rows > 8:
            raise RuntimeError("no such step")

    stage = Stage(ReversingModel(on_step=fail), Limits(max_rows=64))
    for number in range(40):
        stage.ask(Request(f"crowd{number}", (5,) * 30, DecodingParams(99), client="crowd"))
    stage.engine.step()
    stage.ask(Request("single", (5, 6, 7), DecodingParams(99), client="other"))
    stage.engine.step()
    broken[0] = True
    stage.finish()
    assert (7, 6, 5) == stage.text("single")
    assert {FinishReason.ERROR} == {stage.recorder.last(f"crowd{number}").finish_reason for number in range(40)}


def test_a_crowd_whose_rows_end_together_goes_on_beside_others() -> None:
    """While a long text runs in the express deck, an empty bulk deck is filled again at once."""
    stage = Stage(ReversingModel(), Limits(max_rows=64))
    for number in range(112):
        stage.ask(Request(f"crowd{number}", (5,) * 10, DecodingParams(99), client="crowd"))
    stage.engine.step()
    stage.ask(Request("single", (*range(4, 99), 5), DecodingParams(120), client="other"))
    steps = 0
    while stage.engine.step() and not any(output.request_id == "single" for output in stage.recorder.outputs):
        steps += 1
    ended = {output.request_id for output in stage.recorder.outputs}
    assert len(ended - {"single"}) == 112
    assert steps < 200
