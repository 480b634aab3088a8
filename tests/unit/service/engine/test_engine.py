"""The engine, stepped by hand with a model that reverses its source."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import Encoded
from service.errors import (
    Code,
    DeadlineExceededError,
    EngineFailedError,
    OutOfMemoryError,
    ServiceError,
    UnavailableError,
)
from service.request import DecodingParams, FinishReason, Int64, Request
from tests.fakes import FakePermit, Recorder, ReversingModel, Stage


def test_a_request_is_decoded_to_its_end() -> None:
    """One request gets its tokens, its score, its reason and its number of steps."""
    stage = Stage()
    stage.submit("a", (5, 6, 7))
    stage.finish()
    output = stage.recorder.last("a")
    (hypothesis,) = output.hypotheses
    assert (7, 6, 5) == hypothesis.token_ids
    assert (-0.5, -0.5, -0.5) == hypothesis.log_probs
    assert hypothesis.score == pytest.approx(-2.0)
    assert FinishReason.END is output.finish_reason
    assert 4 == output.timing.steps


def test_the_limit_of_target_tokens_cuts_a_translation() -> None:
    """A request ends with LENGTH when its limit is reached before the end symbol."""
    stage = Stage()
    stage.submit("a", (5, 6, 7), limit=2)
    stage.finish()
    assert (7, 6) == stage.text("a")
    assert FinishReason.LENGTH is stage.recorder.last("a").finish_reason


sources = st.lists(st.lists(st.integers(4, 99), min_size=1, max_size=40).map(tuple), min_size=1, max_size=30)


@given(sources=sources, gaps=st.lists(st.integers(0, 5), min_size=30, max_size=30), rows=st.integers(1, 8))
def test_tokens_do_not_depend_on_who_shares_the_batch(
    sources: list[tuple[int, ...]], gaps: list[int], rows: int
) -> None:
    """Over random arrivals every request gets exactly its own translation, attention and step count."""
    stage = Stage(limits=Limits(max_rows=rows, max_join_tokens=64))
    for name, (source, gap) in enumerate(zip(sources, itertools.cycle(gaps), strict=False)):
        stage.submit(str(name), source, attention=name % 3 == 0)
        for _ in range(gap):
            stage.engine.step()
    stage.finish()
    for name, source in enumerate(sources):
        output = stage.recorder.last(str(name))
        assert source[::-1] == output.hypotheses[0].token_ids
        assert len(source) + 1 == output.timing.steps
        attention = output.hypotheses[0].attention
        if name % 3 == 0:
            assert attention is not None
            np.testing.assert_array_equal(np.eye(len(source))[::-1], attention)
        else:
            assert attention is None


def test_joiners_are_encoded_together_and_rows_stay_within_the_limit() -> None:
    """Requests that arrive together share one run of the encoder; nobody gets a row beyond max_rows."""
    model = ReversingModel()
    stage = Stage(model)
    for name in "abcdef":
        stage.submit(name, (5,) * (ord(name) - 60))
    stage.finish()
    assert [4] == model.encoded_batches[:1]
    assert 6 == sum(model.encoded_batches)
    assert 4 == max(report.rows for report in stage.recorder.reports)


def test_exactly_one_output_carries_a_finish_reason() -> None:
    """An incremental request gets a token per Output; only its last one says why it ended."""
    stage = Stage()
    stage.submit("a", (5, 6, 7), incremental=True)
    stage.submit("b", (8, 9))
    stage.finish()
    assert [(7,), (6,), (5,), ()] == [output.token_ids for output in stage.recorder.of("a")]
    assert 1 == sum(output.finish_reason is not None for output in stage.recorder.of("a"))
    assert 1 == len(stage.recorder.of("b"))


def test_the_last_token_is_delivered_when_the_limit_ends_a_request() -> None:
    """The increments of a request that is cut are all of its tokens."""
    stage = Stage()
    stage.submit("a", (5, 6, 7), incremental=True, limit=2)
    stage.finish()
    assert [(7,), (6,)] == [output.token_ids for output in stage.recorder.of("a")]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cancelled_request_leaves_before_the_next_step(steps: int) -> None:
    """Wherever it is (inbox, joined, mid-decode), a cancelled request frees its row at once; others do not notice."""
    stage = Stage(limits=Limits(max_rows=2))
    stage.submit("gone", tuple(range(10, 30)))
    stage.submit("other", tuple(range(10, 25)))
    for _ in range(steps):
        stage.engine.step()
    stage.engine.cancel("gone")
    stage.submit("next", (5, 6))
    stage.engine.step()
    assert FinishReason.CANCELLED is stage.recorder.last("gone").finish_reason
    assert 2 == stage.recorder.reports[-1].running
    stage.finish()
    assert tuple(range(24, 9, -1)) == stage.text("other")
    assert (6, 5) == stage.text("next")


def test_a_waiting_request_can_be_cancelled() -> None:
    """A request that has no row yet leaves the queue when it is cancelled."""
    model = ReversingModel()
    stage = Stage(model, Limits(max_rows=1))
    stage.submit("running", (5, 6, 7))
    stage.submit("waiting", (8,))
    stage.engine.step()
    stage.engine.cancel("waiting")
    stage.engine.step()
    assert FinishReason.CANCELLED is stage.recorder.last("waiting").finish_reason
    assert 0.0 == stage.recorder.last("waiting").timing.encode
    stage.finish()
    assert 1 == sum(model.encoded_batches)


def test_cancelling_twice_or_what_is_unknown_or_ended_does_nothing() -> None:
    """cancel is idempotent."""
    stage = Stage()
    stage.submit("a", (5,))
    stage.finish()
    for name in ("a", "a", "never"):
        stage.engine.cancel(name)
    stage.finish()
    assert 1 == len(stage.recorder.outputs)


@pytest.mark.parametrize("rows_taken", [False, True])
def test_a_deadline_ends_a_request_that_waits_or_runs(*, rows_taken: bool) -> None:
    """When its deadline passes, a request ends with DEADLINE before the next step."""
    stage = Stage(limits=Limits(max_rows=1))
    if rows_taken:
        stage.submit("holder", (5,) * 20)
    stage.submit("late", (5,) * 10, deadline=101.0)
    stage.engine.step()
    stage.now = 101.0
    stage.engine.step()
    output = stage.recorder.last("late")
    assert FinishReason.DEADLINE is output.finish_reason
    assert isinstance(output.error, DeadlineExceededError)
    stage.submit("next", (5, 6))
    stage.finish()
    assert (6, 5) == stage.text("next")


def failing_at(calls: set[int], error: Exception) -> Callable[[int], None]:
    """Return a step hook that raises at these calls, counted from 1."""
    counter = itertools.count(1)

    def hook(_: int) -> None:
        if next(counter) in calls:
            raise error

    return hook


@pytest.mark.parametrize(
    ("cause", "told", "code"),
    [
        (RuntimeError("broken kernel"), EngineFailedError, Code.INTERNAL),
        (MemoryError("arena"), OutOfMemoryError, Code.RESOURCE_EXHAUSTED),
    ],
)
def test_a_failed_step_fails_its_requests_and_no_others(cause: Exception, told: type[ServiceError], code: Code) -> None:
    """The requests in the batch end with an error; the engine goes on with the next ones."""
    stage = Stage(ReversingModel(on_step=failing_at({2}, cause)), Limits(max_rows=2))
    for name in "abc":
        stage.submit(name, (5, 6, 7))
    stage.finish()
    for name in "ab":
        output = stage.recorder.last(name)
        assert FinishReason.ERROR is output.finish_reason
        assert isinstance(output.error, told)
        assert code is output.error.code
    assert (7, 6, 5) == stage.text("c")


class FailingEncoder(ReversingModel):
    """Cannot encode sources that begin with token 13."""

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Raise for token 13."""
        if (source_ids[:, 0] == 13).any():
            raise RuntimeError("no 13")
        return super().encode(source_ids, source_lengths)


def test_a_failed_encoding_fails_the_joiners_alone() -> None:
    """Rows that run while joiners fail to be encoded are not touched."""
    stage = Stage(FailingEncoder())
    stage.submit("runs", (5, 6, 7, 8))
    stage.engine.step()
    stage.submit("fails", (13, 4))
    stage.finish()
    assert isinstance(stage.recorder.last("fails").error, EngineFailedError)
    assert (8, 7, 6, 5) == stage.text("runs")


def test_the_thread_decodes_what_is_submitted_and_stops_with_what_is_left() -> None:
    """On its own thread the engine serves, and stop() ends the rest as UNAVAILABLE."""
    recorder = Recorder()
    engine = Engine(ReversingModel(), Limits(), recorder.deliver, recorder, recorder.fail)
    engine.start()
    engine.submit(Request("a", (5, 6), DecodingParams(10)), FakePermit())
    assert (6, 5) == recorder.last("a").hypotheses[0].token_ids
    engine.stop()
    engine.stop()
    assert [] == recorder.failures


def test_what_runs_when_the_engine_stops_ends_as_unavailable() -> None:
    """Nobody is left without an answer when the engine stops."""
    stage = Stage()
    stage.submit("a", (5,) * 30)
    stage.engine.step()
    stage.submit("b", (5,) * 30)
    stage.engine.stop()
    stage.engine.start()
    stage.engine.stop()
    assert isinstance(stage.recorder.last("a").error, UnavailableError)
    assert isinstance(stage.recorder.last("b").error, UnavailableError)


class BrokenObserver(Recorder):
    """An observer with a bug, as a stand-in for any bug outside the model."""

    def observe_step(self, report: object) -> None:
        """Raise."""
        raise ZeroDivisionError("a bug")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_thread_that_ends_tells_so_and_leaves_nobody_waiting() -> None:
    """A bug that ends the thread fails every request and calls on_failure."""
    recorder = BrokenObserver()
    engine = Engine(ReversingModel(), Limits(), recorder.deliver, recorder, recorder.fail)
    engine.submit(Request("a", (5, 6), DecodingParams(10)), FakePermit())
    engine.start()
    assert isinstance(recorder.last("a").error, EngineFailedError)
    engine.stop()
    assert [ZeroDivisionError] == [type(failure) for failure in recorder.failures]


def test_work_without_a_permit_is_refused() -> None:
    """A request whose permit was returned does not start."""
    stage = Stage()
    with pytest.raises(ValueError, match="permit"):
        stage.engine.submit(Request("a", (5,), DecodingParams(10)), FakePermit(returned=True))


def test_timing_tells_queue_and_decode_apart() -> None:
    """Time in the queue, and time while running, are told apart on the engine's clock."""
    stage = Stage(limits=Limits(max_rows=1))
    stage.submit("first", (5,))
    stage.submit("second", (5,))
    stage.engine.step()
    stage.now += 2.0
    stage.engine.step()
    stage.now += 3.0
    stage.finish()
    timing = stage.recorder.last("second").timing
    assert 5.0 == timing.queue
    assert 2 == timing.steps
