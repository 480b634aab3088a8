"""Objectives, doubts, comparisons, and the search for capacity."""

import pytest

from service.load.capacity import Search
from service.load.compare import compare, interval
from service.load.doubts import bottleneck, doubts
from service.load.objective import read_objective
from service.load.plan import Phase, PlanError
from service.load.report import PhaseReport
from tests.unit.service.load.figures import measured, report

STEADY = [0.01] * 990 + [0.1] * 10


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("p50=10.1ms", True), ("p50=9ms", False), ("p99.9=0.2s", True), ("p99.9=99ms", False), ("errors=1%", True),
        ("errors=0.05%", False), ("goodput=999", True), ("goodput=1001", False), ("tokens=4000", True),
        ("first-p99=1s", False), ("refused-p99=5ms", True), ("refused-p99=1ms", False),
    ],
)  # fmt: skip
def test_objectives_judge(text: str, kept: bool) -> None:
    """Times and errors are bounds from above, goodput and tokens from below; what was not measured was not kept."""
    found = measured(STEADY, errors=["RESOURCE_EXHAUSTED"])
    assert kept is read_objective(text).judge(found).kept


def test_nobody_refused_is_nobody_refused_late() -> None:
    """A bound on refusals holds where there are none."""
    assert read_objective("refused-p99=1ms").judge(measured(STEADY)).kept


@pytest.mark.parametrize(
    "text", ["", "p99", "p99=fast", "p99=5", "p101=5ms", "errors=5", "errors=5ms", "goodput=5ms", "p=5ms", "x-p9=5ms"]
)
def test_objectives_that_are_none(text: str) -> None:
    """The message shows some."""
    with pytest.raises(PlanError, match="p99=200ms"):
        read_objective(text)


def test_a_busy_client_is_loudly_doubted() -> None:
    """One that used its whole processor, or was late by itself, measured itself."""
    assert bottleneck(measured(STEADY)) is None
    assert "THE CLIENT IS THE BOTTLENECK" in (bottleneck(measured(STEADY, cpu=0.95)) or "")
    assert "THE CLIENT IS THE BOTTLENECK" in (bottleneck(measured(STEADY, lag=0.02)) or "")


def test_few_answers_are_doubted() -> None:
    """A p99 of ten answers is the slowest of them."""
    assert [] == doubts([measured(STEADY)])
    assert "10 answers" in doubts([measured(STEADY[:10])])[0]
    assert "INTERNAL 1" in doubts([measured([], errors=["INTERNAL"])])[0]


def test_a_slower_server_is_called_worse() -> None:
    """And one whose figures differ by chance is called the same."""
    before, same, slower = ([base * (0.9 + index / 5000) for index in range(1000)] for base in (0.01, 0.0101, 0.02))
    rows = {row.figure: row for row in compare(report(measured(before)), report(measured(slower)))}
    assert ("worse", "worse") == (rows["latency p50"].verdict, rows["latency p99"].verdict)
    assert rows["latency p50"].change == pytest.approx(1.0, rel=0.01)
    assert {"same"} == {row.verdict for row in compare(report(measured(before)), report(measured(same)))}
    better = compare(report(measured(slower)), report(measured(before)))
    assert "better" == better[0].verdict


def test_errors_are_compared_by_share() -> None:
    """A percent more of them is worse."""
    rows = compare(report(measured(STEADY)), report(measured(STEADY, errors=["INTERNAL"] * 10)))
    assert "worse" == rows[-1].verdict


def test_phases_of_other_names_are_not_compared() -> None:
    """Latency at another rate is another figure."""
    assert [] == compare(report(measured(STEADY, rate=10)), report(measured(STEADY, rate=20)))


def test_a_percentile_of_few_answers_is_uncertain() -> None:
    """Its interval covers much of the sample; that of many is narrow."""
    few, many = ([index / n for index in range(1, n + 1)] for n in (20, 20_000))
    spans = []
    for latencies in (few, many):
        found = measured(latencies).latency
        assert found is not None
        low, high = interval(found, 50)
        assert low <= found.at(50) <= high
        spans.append(high - low)
    assert 0.02 > spans[1]
    assert 0.3 < spans[0]


class Server:
    """Fast up to its capacity, and hopeless above; counts what it was asked."""

    def __init__(self, capacity: float, client: float = 1e9) -> None:
        self._capacity, self._client = capacity, client

    def run(self, phase: Phase) -> PhaseReport:
        """Return the report of a phase."""
        latency = 0.01 if phase.rate <= self._capacity else 1.0
        return measured([latency] * 100, rate=phase.rate, cpu=0.99 if phase.rate > self._client else 0.1)


@pytest.mark.parametrize("capacity", [0.3, 3.0, 4.0, 37.0, 1234.0])
def test_capacity_is_found(capacity: float) -> None:
    """Within 5 %, from below, wherever the search begins."""
    search = Search(Server(capacity).run, [read_objective("p99=200ms")])
    found = search.find(4.0, 1.0, "poisson", 1)
    assert capacity / 1.06 <= found.rate <= capacity
    assert ["p99=200ms", "errors=1%"] == found.objectives
    assert len(search.reports) == len(found.tried) <= 24


def test_no_rate_holds() -> None:
    """The search ends, at zero."""
    assert 0.0 == Search(Server(0.0).run, [read_objective("p99=200ms")]).find(4.0, 1.0, "poisson", 1).rate


def test_the_search_ends_where_the_client_does() -> None:
    """What the client cannot send it does not claim: the last rate that it could send is a lower bound."""
    search = Search(Server(1e6, client=100.0).run, [read_objective("p99=200ms")])
    assert 128.0 == search.find(4.0, 1.0, "poisson", 1).rate
    assert bottleneck(search.reports[-1]) is not None
