"""The page of `make curve`: what a server keeps, and how it fares beyond its capacity."""

from tests.benchmark.curve import Round, middle
from tests.benchmark.curve_page import Curve, page, verdicts
from tests.unit.service.load.figures import measured, report

IDLE = measured([0.02] * 100, rate=100.0)
BUSY = measured([0.15] * 90, rate=200.0)
LATE = measured([0.4] * 100, rate=300.0)
FULL = measured([0.4] * 80, rate=400.0, errors=["RESOURCE_EXHAUSTED"] * 20)


def test_capacity_is_where_p99_still_holds() -> None:
    """Up to the first rate that does not keep it, and never beyond a refusal."""
    curve = Curve(report(LATE, FULL, IDLE, BUSY))
    assert [0.0, 100.0, 200.0, 300.0] == [curve.capacity(p99) for p99 in (0.01, 0.1, 0.2, 1.0)]


def test_overload_is_judged_at_the_highest_rate() -> None:
    """Goodput there against the peak; refusals by the client that does nothing else, and by the server."""
    rows = verdicts(Curve(report(IDLE, FULL), refused_server=0.0004, refused_aside=0.007))
    assert [("80.0%", "MISSED"), ("7.00 ms", "MISSED"), ("0.40 ms", "ok")] == [(row[3], row[4]) for row in rows]


def test_goodput_of_several_rounds_is_their_middle() -> None:
    """Machines get faster and slower: each round is compared with its own peak, not the middle phases with others."""
    kept, of_full, *_ = verdicts(Curve(report(IDLE, FULL), kept=0.97, of_full=0.9))
    assert ("97.0%", "ok") == (kept[3], kept[4])
    assert ("90.0%", "") == (of_full[3], of_full[4])


def test_a_round_is_judged_by_its_own_peak() -> None:
    """The highest rate against the most that was answered at any."""
    assert FULL.goodput / LATE.goodput == Round([IDLE, LATE, FULL], of_full=0.5, refused=None).kept


def test_of_several_rounds_the_middle_one_is_shown() -> None:
    """By its p99; where nothing was answered, it is the slowest."""
    assert BUSY is middle([LATE, IDLE, BUSY])
    assert IDLE is middle([measured([], rate=100.0), IDLE])


def test_the_page_holds_every_rate_and_model() -> None:
    """In the order of the rates, with the picture, and with replicas for the example of the sizing page."""
    text = page([Curve(report(BUSY, IDLE)), Curve(report(LATE, model="other"))], {"date": "today"}, "curve.png")
    lines = text.splitlines()
    shown = [
        line.split(" | ")[:2] for line in lines if line.startswith(("| toy | 100 |", "| toy | 200 |", "| other | 300"))
    ]
    assert [["| toy", "100"], ["| toy", "200"], ["| other", "300"]] == shown
    assert "![Latency and goodput against rate](curve.png)" in lines
    assert "| toy | 200 ms | 200/s | 5 replicas |" in lines
    assert "| other | 100 ms | 0/s | a faster processor |" in lines
