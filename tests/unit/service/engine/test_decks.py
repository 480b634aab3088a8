"""Two decks of one engine: a crowd, and those who ask for little."""

from service.engine.scheduler import Limits
from service.request import DecodingParams, FinishReason, Request
from tests.fakes import ReversingModel, Stage

STEP_SECONDS = 0.001
"""What a step takes for each of its rows."""


def stage_with_heavy_steps(join_patience: int = 2) -> tuple[ReversingModel, Stage]:
    """Return an engine whose steps take as long as they have rows, and that encodes in no time."""
    model = ReversingModel(on_step=lambda rows: setattr(stage, "now", stage.now + STEP_SECONDS * rows))
    stage = Stage(model, Limits(max_rows=64, join_patience=join_patience))
    return model, stage


def ask_crowd(stage: Stage, texts: int) -> None:
    """Submit many texts of one client, of different lengths."""
    for number in range(texts):
        source = tuple(range(5, 25 + number % 7))
        stage.ask(Request(f"crowd{number}", source, DecodingParams(99), client="crowd"))


def ask_single(stage: Stage) -> None:
    """Submit one text of another client, of a hundred tokens: 101 steps, of a row each where it is alone."""
    stage.ask(Request("single", tuple(range(30, 130)), DecodingParams(120), client="other"))


def assert_fair(stage: Stage, texts: int) -> None:
    """Take the single text's time for half as much again as alone, but for a step, and all texts for complete."""
    alone, step = STEP_SECONDS * 101, STEP_SECONDS * 56
    assert alone < stage.recorder.last("single").timing.decode < 1.5 * alone + 1.5 * step
    assert tuple(range(129, 29, -1)) == stage.text("single")
    for number in range(texts):
        assert tuple(range(24 + number % 7, 4, -1)) == stage.text(f"crowd{number}")


def test_a_single_text_beside_a_crowd_gets_two_thirds_of_the_time() -> None:
    """Steps of many rows take long; one client's text takes half as long again as alone, and the crowd goes on."""
    _, stage = stage_with_heavy_steps()
    ask_crowd(stage, 120)
    for _ in range(5):
        stage.engine.step()
    ask_single(stage)
    stage.finish()
    assert_fair(stage, 120)


def test_a_text_that_runs_when_a_crowd_comes_need_not_step_with_it() -> None:
    """It keeps its deck, and the crowd gets the other one."""
    _, stage = stage_with_heavy_steps()
    ask_single(stage)
    for _ in range(5):
        stage.engine.step()
    ask_crowd(stage, 120)
    stage.finish()
    assert_fair(stage, 120)


def test_whoever_comes_beside_a_crowd_does_not_wait_for_its_joiners() -> None:
    """Where it is the turn of a single text that has just come, none of the crowd is encoded before its first step."""
    model, stage = stage_with_heavy_steps(join_patience=0)
    ask_crowd(stage, 120)
    while not stage.recorder.outputs:
        stage.engine.step()
    stage.ask(Request("single", (5, 6), DecodingParams(99), client="other"))
    model.encoded_batches.clear()
    stage.engine.step()
    assert [1] == model.encoded_batches
    stage.finish()
    assert 121 == len(stage.recorder.outputs)


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
