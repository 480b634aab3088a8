"""Objectives: what a load must keep, such as p99=200ms; they decide the exit status and what capacity is."""

import re
from dataclasses import dataclass

from service.load.plan import PlanError
from service.load.report import PhaseReport, Quantiles, Verdict

GRAMMAR = re.compile(r"(?P<name>[a-z-]*?)(?:p(?P<percentile>\d+(?:\.\d+)?))?=(?P<limit>\d+(?:\.\d+)?)(?P<unit>ms|s|%|)")
EXAMPLES = "p99=200ms, p99.9=1s, first-p95=50ms, gap-p99=20ms, refused-p99=5ms, errors=1%, goodput=100, tokens=2000"
TIMES = {"": "latency", "first-": "first_token", "gap-": "inter_token", "refused-": "refused"}
SCALES = {"ms": 1e-3, "s": 1.0, "%": 1e-2, "": 1.0}


@dataclass(frozen=True, slots=True)
class Objective:
    """A bound on one figure of a phase: times and errors at most, goodput and tokens at least."""

    text: str
    name: str
    percentile: float
    limit: float

    def actual(self, report: PhaseReport) -> float | None:
        """Return the figure; None: the phase has none."""
        if self.name == "errors":
            return report.error_share
        if self.name == "goodput":
            return report.goodput
        if self.name == "tokens":
            return report.target_tokens_per_second
        times: Quantiles | None = getattr(report, TIMES[self.name])
        return None if times is None else times.at(self.percentile)

    def judge(self, report: PhaseReport) -> Verdict:
        """Say whether a phase kept it; without the figure it did not, but nobody refused is nobody refused late."""
        actual = self.actual(report)
        if actual is None:
            kept = self.name == "refused-"
        elif self.name in {"goodput", "tokens"}:
            kept = actual >= self.limit
        else:
            kept = actual <= self.limit
        return Verdict(report.phase.name, self.text, actual, kept)


def read_objective(text: str) -> Objective:
    """Read one objective; raises PlanError."""
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise PlanError(f"--slo {text}: write one of {EXAMPLES}")
    name, percentile, unit = found["name"], found["percentile"], found["unit"]
    units = {"errors": {"%"}, "goodput": {""}, "tokens": {""}}.get(name, {"ms", "s"})
    if (percentile is not None) != (name in TIMES) or unit not in units or float(percentile or 0) > 100:
        raise PlanError(f"--slo {text}: write one of {EXAMPLES}")
    if name not in TIMES and name not in {"errors", "goodput", "tokens"}:
        raise PlanError(f"--slo {text}: write one of {EXAMPLES}")
    return Objective(text, name, float(percentile or 0), float(found["limit"]) * SCALES[unit])


def spelled(verdict: Verdict) -> str:
    """Return the figure of a verdict with its unit."""
    if verdict.actual is None:
        return "-"
    if verdict.objective.startswith("errors"):
        return f"{verdict.actual:.2%}"
    rate = verdict.objective.startswith(("goodput", "tokens"))
    return f"{verdict.actual:.1f}/s" if rate else f"{verdict.actual * 1e3:.1f} ms"
