"""The arithmetic of the benchmarks' report."""

import json

import pytest

from tests.benchmark import report
from tests.benchmark.differences import Difference, Reference, compare, identical, largest_margin
from tests.benchmark.report import Figure, Goal, Section

FIGURES = [
    Figure.of("ours", [30.0, 10.0, 20.0], "x", Goal(">=", 25)),
    Figure("theirs", 1234.5),
    Figure("gap", 1.0, "ms", goal=Goal("<=", 1)),
]
SECTIONS = [Section("speed", FIGURES, ["measured by hand"])]


def test_figure_is_the_median_with_its_range() -> None:
    """A figure sums up its measurements by median, least and greatest."""
    figure = Figure.of("ours", [3.0, 1.0, 2.0, 10.0])

    assert (2.5, 1.0, 10.0) == (figure.median, figure.low, figure.high)


def test_ratios_pair_rounds() -> None:
    """Each round is compared with the same round of the other, not median with median."""
    assert [2.0, 0.5] == report.ratios([10.0, 2.0], [5.0, 4.0])


def test_ratios_need_as_many_rounds_on_both_sides() -> None:
    """A missing round is an error, not a shorter list."""
    with pytest.raises(ValueError, match="zip"):
        report.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.1, 2), (0.5, 6), (0.9, 10), (1.0, 10)])
def test_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    """The nearest rank, also at both ends."""
    assert expected == report.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share)


@pytest.mark.parametrize(
    ("goal", "value", "expected"),
    [(">=", 1.0, True), (">=", 0.9, False), ("<=", 1.0, True), ("<", 1.0, False), ("<=", float("nan"), False)],
)
def test_goal_is_kept_or_missed(goal: str, value: float, expected: bool) -> None:
    """The bound itself counts as its sign says; what is not a number keeps no goal."""
    assert expected is Goal(goal, 1.0).reached(value)


def test_table_shows_verdicts() -> None:
    """Each goal has a verdict beside it, and notes follow the table."""
    lines = report.as_text(SECTIONS).splitlines()

    assert ["FIGURE", "MEDIAN", "RANGE", "GOAL", "VERDICT"] == lines[0].split()
    assert ["ours", "20", "x", "10", "-", "30", ">=", "25", "MISSED"] == lines[2].split()
    assert ["theirs", "1234"] == lines[3].split()
    assert ["gap", "1", "ms", "<=", "1", "ok"] == lines[4].split()
    assert "speed: measured by hand" == lines[-1]
    assert ["speed: ours"] == report.missed(SECTIONS)


def test_markdown_is_a_table_for_each_part() -> None:
    """The page names the machine, and has the same cells as the table."""
    page = report.as_markdown(SECTIONS, {"processor": "abacus"})

    assert "- processor: abacus\n" in page
    assert "| ours | 20 x | 10 - 30 | >= 25 | MISSED |\n" in page


def test_data_survives_json() -> None:
    """The JSON has the numbers unrounded, goals as text, and what became of them."""
    found = json.loads(json.dumps(report.as_data(SECTIONS, {})))

    assert 1234.5 == found["sections"][0]["figures"][1]["median"]
    assert (">= 25", False) == tuple(found["sections"][0]["figures"][0][name] for name in ("goal", "reached"))


def test_difference_is_told_with_its_margin() -> None:
    """The margin is the reference's at the first token that differs; a missing end counts as a token."""
    expected = [
        Reference("a b", ("a", "b"), (3.0, 2.0, 1.0)),
        Reference("a b", ("a", "b"), (3.0, 2.0, 1.0)),
        Reference("a b", ("a", "b"), (3.0, 2.0, 1.0)),
    ]

    found = compare(["x", "y", "z"], expected, ["a b", "a c", "a b c"], [("a", "b"), ("a", "c"), ("a", "b", "c")])

    assert [Difference("y", 1, 2.0), Difference("z", 2, 1.0)] == found
    assert 100 / 3 == pytest.approx(identical("same", found, 3, None).median)
    assert 2.0 == largest_margin("margin", found, None).median
    assert 0.0 == largest_margin("margin", [], None).median
