"""How requests and servers end: cancelled, late, refused, failed, drained. The model's steps wait at a gate."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.rpc.health import LIVE
from service.rpc.status import read_details
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until

SERVICE = "dragoman.v1.TranslationService"


def ask(live: LiveServer, *texts: str, timeout: float = 20.0) -> Any:
    """Start a call and return its future."""
    return live.stub.Translate.future(pb.TranslateRequest(texts=texts), timeout=timeout)


def failure(call: Any) -> grpc.RpcError:
    """Wait for a call that must fail and return its error."""
    with pytest.raises(grpc.RpcError) as caught:
        call.result(20.0)
    return caught.value


def at_rest(live: LiveServer) -> Callable[[], bool]:
    """Return whether no permit is out and no row is taken."""

    def resting() -> bool:
        samples = live.metrics()
        gauges = ("dragoman_requests_waiting", "dragoman_requests_running")
        return live.server.admission.admitted == 0 == sum(samples[f'{name}{{model="toy"}}'] for name in gauges)

    return resting


def finished(live: LiveServer, reason: str) -> float:
    """Return how many texts ended for this reason."""
    return live.metrics()[f'dragoman_requests_finished_total{{finish_reason="{reason}",model="toy"}}']


@pytest.mark.parametrize("running", [True, False])
def test_a_cancelled_call_gives_its_row_and_permit_back(running: bool) -> None:
    """Wherever it is when the client goes away, and the others go on."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=1) as live:
        first = ask(live, "abc")
        wait_until(lambda: gate.steps == 1, "the first runs")
        second = ask(live, "def", "ghi")
        wait_until(lambda: live.server.admission.admitted == 3, "the second waits")
        cancelled, left, answers = (first, second, ["fed", "ihg"]) if running else (second, first, ["cba"])
        cancelled.cancel()
        wait_until(lambda: live.server.admission.admitted == len(answers), "the permit is back")
        gate.open()
        assert answers == [translation.hypotheses[0].text for translation in left.result(20.0).translations]
        wait_until(at_rest(live), "all is at rest")
        assert 3 - len(answers) == finished(live, "cancelled")
        assert "CANCELLED" in [line.get("code") for line in live.log_lines()]


def test_a_deadline_frees_the_row() -> None:
    """The client is told DEADLINE_EXCEEDED, the engine lets go, and the next text runs."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=1) as live:
        late = ask(live, "abc", timeout=0.3)
        assert grpc.StatusCode.DEADLINE_EXCEEDED is failure(late).code()
        gate.open()
        assert ["fed"] == live.translate("def")
        wait_until(at_rest(live), "all is at rest")
        assert 1 == finished(live, "deadline") + finished(live, "cancelled")
        assert "DEADLINE_EXCEEDED" in [line.get("code") for line in live.log_lines()]


def test_a_full_queue_refuses_at_once() -> None:
    """RESOURCE_EXHAUSTED with the time after which a retry can help; nothing is left of the refused."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=1, max_waiting=2) as live:
        calls = [ask(live, "abc"), ask(live, "de", "f")]
        wait_until(lambda: live.server.admission.admitted == 3, "the queue is full")
        error = failure(ask(live, "g"))
        details = read_details(error.trailing_metadata())
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") == (error.code(), details.reason)
        assert details.retry_after is not None
        assert details.retry_after >= 0.1
        counted = 'dragoman_requests_rejected_total{model="toy",reason="OVERLOADED"}'
        wait_until(lambda: live.metrics()[counted] == 1, "the refusal is counted")
        gate.open()
        assert [1, 2] == [len(call.result(20.0).translations) for call in calls]
        wait_until(at_rest(live), "all is at rest")


def test_more_texts_than_ever_fit_are_a_fault_of_the_request() -> None:
    """A retry cannot help, so INVALID_ARGUMENT, not RESOURCE_EXHAUSTED."""
    with LiveServer([loaded(reversing())], max_rows=1, max_waiting=2) as live:
        assert grpc.StatusCode.INVALID_ARGUMENT is failure(ask(live, *"abcd")).code()


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (ValueError("a kernel failed"), grpc.StatusCode.INTERNAL, "ENGINE_FAILED"),
        (MemoryError("no room"), grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    ],
)
def test_a_failed_step_fails_its_requests_and_no_other(raised: Exception, code: grpc.StatusCode, reason: str) -> None:
    """The error says what it was; the server goes on."""
    faults = [raised]

    def fail_once(rows: int) -> None:
        if faults:
            raise faults.pop()

    with LiveServer([loaded(reversing(fail_once))]) as live:
        error = failure(ask(live, "abc", "de"))
        assert (code, reason) == (error.code(), read_details(error.trailing_metadata()).reason)
        assert ["cba"] == live.translate("abc")
        assert "SERVING" == live.health()
        wait_until(at_rest(live), "all is at rest")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_shows_in_health() -> None:
    """Requests in it fail, new ones are refused, and health says NOT_SERVING, of the service and overall."""

    def end(rows: int) -> None:
        raise SystemExit(f"the thread ends at a step of {rows} rows")

    with LiveServer([loaded(reversing(end))]) as live:
        error = failure(ask(live, "abc"))
        assert (grpc.StatusCode.INTERNAL, "ENGINE_FAILED") == (
            error.code(), read_details(error.trailing_metadata()).reason
        )  # fmt: skip
        wait_until(lambda: live.health() == "NOT_SERVING", "health says so")
        assert ("NOT_SERVING", "NOT_SERVING") == (live.health(SERVICE), live.health(LIVE))
        refused = failure(ask(live, "abc"))
        assert (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE") == (
            refused.code(), read_details(refused.trailing_metadata()).reason
        )  # fmt: skip
        assert 0 == live.server.admission.admitted


def test_draining_serves_on_while_balancers_take_notice() -> None:
    """Health turns first; who did not hear of it yet is still served."""
    with LiveServer([loaded(reversing())], grace_seconds=1000.0) as live:
        assert ("SERVING", "SERVING", "SERVING") == (live.health(), live.health(SERVICE), live.health(LIVE))
        draining: Future[None] = asyncio.run_coroutine_threadsafe(live.server.drain(), live.loop)
        wait_until(lambda: live.health() == "NOT_SERVING", "health says so")
        assert "SERVING" == live.health(LIVE)
        assert ["cba"] == live.translate("abc")
        draining.cancel()


def test_draining_finishes_what_runs_and_refuses_what_is_new() -> None:
    """The running call gets its answer; the new one is told to go elsewhere, by a code that clients retry."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))]) as live:
        running = ask(live, "abc")
        wait_until(lambda: gate.steps == 1, "it runs")
        draining: Future[None] = asyncio.run_coroutine_threadsafe(live.server.drain(), live.loop)
        wait_until(lambda: "closed" in repr(live.server.admission), "nothing is admitted any more")
        refused = failure(ask(live, "def"))
        done = draining.done()
        gate.open()
        assert grpc.StatusCode.UNAVAILABLE is refused.code()
        assert "shutting down" in str(refused.details())
        assert not done
        assert "cba" == running.result(20.0).translations[0].hypotheses[0].text
        draining.result(20.0)


def test_draining_ends_when_its_time_is_over() -> None:
    """A request that does not end in time does not keep the server."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], drain_seconds=0.05) as live:
        running = ask(live, "abc")
        wait_until(lambda: gate.steps == 1, "it runs")
        live.run(live.server.drain())
        assert 1 == live.server.admission.admitted
        gate.open()
        running.result(20.0)


def test_an_unforeseen_error_is_internal_and_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets a request id and no traceback; the log has both."""

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    with LiveServer([loaded(reversing())]) as live:
        monkeypatch.setattr("service.rpc.convert.response", broken)
        error = failure(ask(live, "abc"))
        details = read_details(error.trailing_metadata())
        assert (grpc.StatusCode.INTERNAL, "INTERNAL") == (error.code(), details.reason)
        assert details.metadata is not None
        (line,) = [line for line in live.log_lines() if "error" in line]
        assert "KeyError: 'a bug'" in line["error"]
        assert line["request_id"] == details.metadata["request_id"]
        assert line["request_id"] in str(error.details())
        assert 0 == live.server.admission.admitted
