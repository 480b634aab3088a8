"""Samples in, figures out."""

import random
from pathlib import Path

import numpy as np
import pytest

from service.load.messages import Batch, Sample, pack, unpack
from service.load.plan import Phase, PlanError
from service.load.record import Record
from service.load.report import read, write
from tests.unit.service.load.figures import measured, report

PHASE = Phase("10/s", 2.0, 10.0, 10.0)


def test_percentiles_are_those_of_the_samples() -> None:
    """Within the three digits of the histogram, of 10,000 latencies over four orders of magnitude."""
    chance = random.Random(3)  # noqa: S311
    latencies = [10 ** chance.uniform(-4, 0) for _ in range(10_000)]
    found = measured(latencies).latency
    assert found is not None
    for point in (50.0, 90.0, 99.0, 99.9):
        expected = float(np.percentile(latencies, point, method="inverted_cdf"))
        assert found.at(point) == pytest.approx(expected, rel=2e-3)
    assert found.at(42.0) == pytest.approx(float(np.percentile(latencies, 42.0)), rel=2e-2)


def test_errors_have_no_latency_but_are_counted() -> None:
    """Fast refusals must not make a server look fast; how fast they are is a figure of its own."""
    found = measured([0.1] * 8, errors=["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "INTERNAL"])
    assert (11, 8, {"RESOURCE_EXHAUSTED": 2, "INTERNAL": 1}) == (found.sent, found.ok, found.errors)
    assert found.error_share == pytest.approx(3 / 11)
    assert found.latency is not None
    assert found.latency.at(0) == pytest.approx(0.1, rel=1e-3)
    assert found.refused is not None
    assert 2 == found.refused.count


def test_goodput_counts_the_time_to_the_last_answer() -> None:
    """Answers that come long after the phase do not count as if they had come in it."""
    record = Record(PHASE, 1)
    record.add(0, Batch([Sample(1.9, 0.0, 8.1, "OK") for _ in range(20)]))
    assert record.report(None).goodput == pytest.approx(2.0)


def test_the_timeline_tells_when_it_was_due_and_when_it_was_answered() -> None:
    """A request that was due in the first second and answered in the second one counts in both."""
    record = Record(PHASE, 1)
    record.add(0, Batch([Sample(0.5, 0.0, 0.7, "OK"), Sample(1.5, 0.0, 0.1, "INTERNAL")]))
    seconds = record.report(None).timeline
    assert [(0, 1, 0, 0), (1, 1, 1, 1)] == [(s.at, s.due, s.ok, s.failed) for s in seconds]
    assert seconds[0].p99 == pytest.approx(0.7, rel=1e-3)


def test_shares_add_up_to_the_latency() -> None:
    """What the server does not account for is the rest."""
    shares = measured([0.1, 0.3]).shares
    assert ["queue", "encode", "decode", "rest"] == list(shares)
    assert sum(shares.values()) == pytest.approx(0.2)
    assert shares["rest"] == pytest.approx(0.05)


def test_streams_have_first_tokens_and_gaps() -> None:
    """Where answers come whole there are none."""
    record = Record(PHASE, 1)
    record.add(0, Batch([Sample(0.0, 0.0, 0.5, "OK", 3, first=0.1, gaps=[0.2, 0.2])]))
    found = record.report(None)
    assert found.first_token is not None
    assert found.inter_token is not None
    assert (1, 2) == (found.first_token.count, found.inter_token.count)
    assert measured([0.1]).first_token is None


def test_samples_survive_the_way_between_processes() -> None:
    """What one process packs the other one unpacks."""
    batch = Batch([Sample(0.5, 0.1, 0.7, "OK", 3, gaps=[0.1])], 4, 0.2, 0.3, done=True)
    assert batch == unpack(pack(batch), Batch)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    """Its histograms with it."""
    path = tmp_path / "report.json"
    made = report(measured([0.1, 0.2]))
    write(made, path)
    assert made == read(path)


@pytest.mark.parametrize("text", [None, "", "{}", '{"server": 3}'])
def test_files_that_are_no_report(tmp_path: Path, text: str | None) -> None:
    """The message names the file."""
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PlanError, match=r"report\.json"):
        read(path)
