"""Two reports, figure by figure, with a verdict for each."""

import math
from collections.abc import Iterator

import msgspec

from service.load.report import PhaseReport, Quantiles, Report

TOLERANCE = 0.05
"""Changes up to 5 % are called the same."""
ERROR_TOLERANCE = 0.005
CERTAIN = 1.96
"""Standard errors on either side of a 95 % interval."""
POINTS = (50.0, 90.0, 99.0)
TIMES = (("latency", "latency"), ("first token", "first_token"), ("inter-token", "inter_token"), ("refused", "refused"))


class Row(msgspec.Struct, frozen=True):
    """One figure of one phase in both reports; `verdict` is better, worse or same."""

    phase: str
    figure: str
    unit: str
    old: float
    new: float
    verdict: str

    @property
    def change(self) -> float:
        """By what share it changed."""
        return self.new / self.old - 1 if self.old else (math.inf if self.new else 0.0)


def compare(old: Report, new: Report) -> list[Row]:
    """Compare the phases that have the same name in both."""
    before = {report.phase.name: report for report in old.phases}
    return [row for now in new.phases if now.phase.name in before for row in _rows(before[now.phase.name], now)]


def _rows(old: PhaseReport, new: PhaseReport) -> Iterator[Row]:
    name = new.phase.name
    for figure, attribute in TIMES:
        before, now = getattr(old, attribute), getattr(new, attribute)
        if before is not None and now is not None:
            for point in POINTS:
                yield _time(name, f"{figure} p{point:g}", (before, now), point)
    for figure, unit, before, now in (
        ("goodput", "/s", old.goodput, new.goodput),
        ("target tokens", "/s", old.target_tokens_per_second, new.target_tokens_per_second),
    ):
        yield Row(name, figure, unit, before, now, _verdict(now - before, TOLERANCE * before))
    more_errors = new.error_share - old.error_share
    yield Row(
        name, "errors", "%", 100 * old.error_share, 100 * new.error_share, _verdict(-more_errors, ERROR_TOLERANCE)
    )


def _time(phase: str, figure: str, pair: tuple[Quantiles, Quantiles], point: float) -> Row:
    """Compare a percentile: what lies within both samples' 95 % intervals may be chance, and is called the same."""
    old, new = pair
    before, now = old.at(point), new.at(point)
    verdict = _verdict(before - now, TOLERANCE * before)
    (old_low, old_high), (new_low, new_high) = interval(old, point), interval(new, point)
    if old_low <= new_high and new_low <= old_high:
        verdict = "same"
    return Row(phase, figure, "ms", before * 1e3, now * 1e3, verdict)


def interval(times: Quantiles, point: float) -> tuple[float, float]:
    """Return the 95 % interval of a percentile, from the order statistics: the binomial's normal approximation."""
    share = point / 100
    error = CERTAIN * math.sqrt(share * (1 - share) / times.count)
    return times.at(100 * max(0.0, share - error)), times.at(100 * min(1.0, share + error))


def _verdict(gain: float, tolerance: float) -> str:
    if abs(gain) <= tolerance:
        return "same"
    return "better" if gain > 0 else "worse"
