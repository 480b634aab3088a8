"""What people see: terminal, tables, charts and the page."""

import io
import xml.etree.ElementTree as ET

import msgspec
import pytest

from service.load import charts
from service.load.compare import compare
from service.load.live import Live, breakdown, compared, judged, picture, spark, summary
from service.load.messages import Batch, Sample
from service.load.objective import read_objective
from service.load.page import page
from service.load.plan import Phase
from service.load.record import Record
from service.load.report import Capacity
from tests.unit.service.load.figures import measured, report, server_side

TWO = [measured([0.01] * 50, rate=50), measured([0.01] * 40 + [0.2] * 60, rate=100, errors=["INTERNAL"])]


def test_a_running_phase_is_drawn_anew_and_leaves_one_line() -> None:
    """Each drawing takes the one before it back."""
    out = io.StringIO()
    live = Live(out, terminal=True)
    record = Record(Phase("ramp", 10.0, 0.0, 100.0), 1)
    record.add(0, Batch([Sample(0.5, 0.0, 0.02, "OK"), Sample(0.6, 0.0, 0.01, "INTERNAL")], in_flight=7))
    live.show(record, 5.0)
    live.show(record, 6.0)
    live.ended(measured([0.01]))
    shown = out.getvalue()
    assert 2 == shown.count("\x1b[4A\x1b[J")
    assert "in flight 7  errors: INTERNAL 1" in shown
    assert "50/s" in picture(record, 5.0)[0]
    assert 1 == shown.rpartition("\x1b[J")[2].count("\n")


def test_where_there_is_no_terminal_only_ends_are_told() -> None:
    """A log is no place for drawings."""
    out = io.StringIO()
    live = Live(out, terminal=False)
    live.show(Record(Phase("ten", 1.0, 10.0, 10.0), 1), 0.5)
    assert "" == out.getvalue()
    live.ended(measured([0.01]))
    assert "\x1b" not in out.getvalue()


def test_bars_fill_with_the_highest() -> None:
    """Nothing is a low bar, and no division by it."""
    assert "▁▅█" == spark([0, 5, 9])
    assert "▁" == spark([0])
    assert "" == spark([])


def test_tables_hold_the_figures() -> None:
    """Times in milliseconds; what was not measured is a dash."""
    assert "10.0" in summary(TWO)
    assert "-" in breakdown(TWO)
    told = breakdown([msgspec.structs.replace(TWO[0], server=server_side())])
    assert "70%" in told
    assert "MISSED" in judged([read_objective("p50=1ms").judge(TWO[0])])
    assert "worse" in compared(compare(report(TWO[0]), report(measured([0.1] * 50, rate=50))))


def test_marks_lie_where_their_values_are() -> None:
    """The ends of an axis are its first and last ticks, and the decades of a logarithmic one are evenly apart."""
    even = charts.linear("x", [0, 87])
    assert (0.0, 100.0) == (even.ticks[0][0], even.ticks[-1][0])
    assert (0.0, 0.5, 1.0) == tuple(even.place(value) for value in (0, 50, 100))
    decades = charts.logarithmic("y", [0.001, 1.0], str)
    assert decades.place(0.01) == pytest.approx(1 / 3)
    assert [0.0, 1.0] == [decades.place(0.0), decades.place(1.0)]
    assert ["0", "p50", "p90", "p99"] == [name for _, name in charts.nines("p", 2.5).ticks]


def test_charts_are_xml() -> None:
    """Names with special characters included."""
    series = [charts.Series('a "<&"', [(0, 1.0), (1, None), (2, 3.0)], 0)]
    drawn = charts.lines("a <line>", series, charts.linear("x", [0, 2]), charts.linear("y", [1, 3]))
    root = ET.fromstring(f"<r>{drawn}</r>")  # noqa: S314  our own text
    path = next(found for found in root.iter("path"))
    assert 2 == path.attrib["d"].count("M")
    ET.fromstring(f"<r>{charts.bars('a', [('<b>', [1.0, 0.0])], [('<x>', 0), ('&y', 5)], str)}</r>")  # noqa: S314


def test_the_page_stands_alone() -> None:
    """No script, nothing to fetch; every chart that has data is there, and texts cannot become markup."""
    full = report(
        *(msgspec.structs.replace(phase, server=server_side()) for phase in TWO),
        verdicts=[read_objective("p99=1s").judge(TWO[0])], capacity=Capacity(50.0, ["p99=1s"], [(50.0, True)]),
        warnings=["<script>alert(1)</script>"],
    )  # fmt: skip
    shown = page(full, compare(report(TWO[0]), full))
    assert 6 == shown.count("<svg")
    assert "<script" not in shown
    assert "http" not in shown.replace("http-equiv", "")
    assert "50/s" in shown
    assert "Compared with the report before" in shown


def test_a_page_without_an_answer_says_so() -> None:
    """A server that answered nothing leaves tables and no charts."""
    shown = page(report(measured([], errors=["UNAVAILABLE"])))
    assert 0 == shown.count("<svg")
    assert "UNAVAILABLE 1" in shown
