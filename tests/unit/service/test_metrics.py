"""Counting, by hand."""

import pytest

from service.errors import DeadlineExceededError
from service.metrics import REJECTIONS, Metrics, ModelLabels
from service.model_metrics import Distribution, ModelMetrics
from service.request import FinishReason, Output, StepReport, Timing


def report(joined: int, rows: int, running: int) -> StepReport:
    """Return a step of 8 ms, 5 of them in the model, after 1 ms of encoding."""
    return StepReport(joined, 7 * joined, rows, running, 0.001 if joined else 0.0, 0.005, 0.002, 0.008)


def test_a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    """Buckets are cumulative, and the last one takes all."""
    distribution = Distribution((1.0, 2.0))
    for value, times in ((1.0, 1), (1.5, 2), (3.0, 4)):
        distribution.add(value, times)
    assert [("1.0", 1), ("2.0", 3), ("+Inf", 7)] == distribution.buckets()
    assert 16.0 == distribution.total


def test_rows_that_continue_share_one_latency() -> None:
    """Those that joined at this step have not waited for a token before."""
    model = ModelMetrics(lambda: 5)
    model.observe_step(report(joined=3, rows=3, running=3))
    assert 0 == sum(model.inter_token.counts)
    model.observe_step(report(joined=2, rows=5, running=5))
    assert 3 == sum(model.inter_token.counts)
    assert model.inter_token.total == pytest.approx(3 * 0.008)
    assert (35, 8) == (model.source_tokens, model.target_tokens)


def test_waiting_and_running_never_exceed_what_is_there() -> None:
    """A step's report is as old as the step; what has left since then runs no more."""
    pending = 5
    model = ModelMetrics(lambda: pending)
    model.observe_step(report(joined=3, rows=3, running=3))
    assert (2, 3) == (model.waiting, model.running)
    pending = 0
    assert (0, 0) == (model.waiting, model.running)


def test_the_engine_is_idle_when_it_does_not_work() -> None:
    """Its activities add up to the time that has passed; what turns out to be work is not taken from idle again."""
    now = 100.0
    model = ModelMetrics(lambda: 1, clock=lambda: now)
    now = 100.5
    assert {"encode": 0.0, "step": 0.0, "host": 0.0, "idle": 0.5} == model.seconds()
    model.observe_step(report(joined=1, rows=1, running=1))
    assert {"encode": 0.001, "step": 0.005, "host": 0.002, "idle": 0.5} == model.seconds()
    now = 101.0
    assert model.seconds()["idle"] == pytest.approx(0.992)


def test_a_text_is_encoded_once() -> None:
    """Queue, encode and decode are times of one text each, so that their means add up to its time in the engine."""
    model = ModelMetrics(lambda: 0)
    model.observe_step(report(joined=2, rows=2, running=0))
    timing = Timing(queue=0.1, encode=0.2, first_token=0.3, decode=0.4, steps=1)
    model.observe_outputs([Output(name, finish_reason=FinishReason.END, timing=timing) for name in ("a", "b")])
    counts = [sum(times.counts) for times in (model.queue_time, model.encode, model.decode)]
    assert [2, 2, 2] == counts
    assert model.encode.total == pytest.approx(0.4)


def test_only_the_last_output_ends_a_request() -> None:
    """Increments are no ends; one that never ran has no first token."""
    model = ModelMetrics(lambda: 0)
    timing = Timing(queue=0.1, encode=0.1, first_token=0.3, decode=0.4, steps=2)
    model.observe_outputs(
        [
            Output("a", token_ids=(1,)),
            Output("a", finish_reason=FinishReason.END, timing=timing),
            Output("b", finish_reason=FinishReason.DEADLINE, timing=Timing(queue=2.0)),
        ]
    )
    ended = {reason: count for reason, count in model.finished.items() if count}
    assert {FinishReason.END: 1, FinishReason.DEADLINE: 1} == ended
    assert (2, 1, 1) == (sum(model.queue_time.counts), sum(model.first_token.counts), sum(model.decode.counts))


def test_errors_of_decoding_are_no_rejections() -> None:
    """They are counted where they end."""
    metrics = Metrics.create()
    metrics.reject("", DeadlineExceededError("late"))
    values = [
        sample.value for family in metrics.registry.collect() for sample in family.samples
        if sample.name == "dragoman_requests_rejected_total"
    ]  # fmt: skip
    assert [0.0] * len(REJECTIONS) == values


def test_versions_that_overlap_are_summed_and_what_ended_stays_counted() -> None:
    """A model's counters never go back when its old version ends; its info goes, that of the new one stays."""
    metrics = Metrics.create()
    old = metrics.add_model(ModelLabels("toy", "1", "reversing", "cpu", "fp32"), 0.1, pending=lambda: 2)
    metrics.add_model(ModelLabels("toy", "1", "reversing", "cpu", "fp32"), 0.1, pending=lambda: 3)
    old.observe_step(report(joined=2, rows=2, running=2))
    labels = {"model": "toy"}
    assert (3.0, 2.0) == (
        metrics.registry.get_sample_value("dragoman_requests_waiting", labels),
        metrics.registry.get_sample_value("dragoman_requests_running", labels),
    )
    newest = metrics.add_model(ModelLabels("toy", "2", "reversing", "cpu", "fp32"), 0.1, pending=lambda: 0)
    newest.observe_step(report(joined=1, rows=1, running=0))
    for observer in (old, newest):
        metrics.remove_model(observer)
    assert 3.0 == metrics.registry.get_sample_value("dragoman_target_tokens_total", labels)
    assert 2.0 == metrics.registry.get_sample_value("dragoman_step_seconds_count", labels)
    info = next(family for family in metrics.registry.collect() if family.name == "dragoman_model_info")
    assert ["1"] == [sample.labels["version"] for sample in info.samples]
