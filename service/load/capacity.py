"""The search for the highest rate that keeps its objectives."""

from collections.abc import Callable, Sequence

from service.load.doubts import bottleneck
from service.load.objective import Objective, read_objective
from service.load.plan import Arrivals, Phase
from service.load.report import Capacity, PhaseReport, Verdict

CLOSE = 1.05
"""The search ends where the lowest rate that failed is within 5 % of the highest one that held."""
STEP_BACK = 0.95
MOST_TRIALS = 24
MOST_CONFIRMATIONS = 5
NO_ERRORS = "errors=1%"


class Search:
    """Doubles the rate until it fails, halves the gap until it is small, and confirms over twice the time."""

    def __init__(self, run: Callable[[Phase], PhaseReport], objectives: Sequence[Objective]) -> None:
        named = {objective.name for objective in objectives}
        self.objectives = [*objectives, *([] if "errors" in named else [read_objective(NO_ERRORS)])]
        self._run = run
        self.reports: list[PhaseReport] = []
        self.verdicts: list[Verdict] = []
        self._tried: list[tuple[float, bool]] = []
        self._limited = False

    def find(self, first_rate: float, seconds: float, kind: Arrivals, seed: int) -> Capacity:
        """Search from a rate on, so many seconds a trial; a capacity of zero: no rate held."""

        def holds(rate: float, times: int = 1) -> bool:
            number = len(self._tried)
            name = f"{rate:.4g}/s" + (" confirmed" if times > 1 else "")
            return self._try(Phase(name, seconds * times, rate, rate, arrivals=kind, seed=seed + number))

        held, failed = self._bracket(first_rate, holds)
        while failed is not None and failed > held * CLOSE and held and len(self._tried) < MOST_TRIALS:
            middle = (held * failed) ** 0.5
            held, failed = (middle, failed) if holds(middle) else (held, middle)
        for _ in range(MOST_CONFIRMATIONS):
            if not held or holds(held, times=2):
                break
            held *= STEP_BACK
        else:
            held = 0.0
        return Capacity(held, [objective.text for objective in self.objectives], self._tried)

    def _bracket(self, rate: float, holds: Callable[[float], bool]) -> tuple[float, float | None]:
        """Return a rate that holds (zero: none) and a higher one that does not (None: the client cannot send it)."""
        held, failed = 0.0, None
        while len(self._tried) < MOST_TRIALS and not self._limited:
            if holds(rate):
                held = rate
                if failed is not None:
                    break
                rate *= 2
            else:
                failed = rate
                if held or rate < 0.1:
                    break
                rate /= 2
        return held, failed

    def _try(self, phase: Phase) -> bool:
        report = self._run(phase)
        verdicts = [objective.judge(report) for objective in self.objectives]
        self.reports.append(report)
        self.verdicts += verdicts
        self._limited = self._limited or bottleneck(report) is not None
        kept = all(verdict.kept for verdict in verdicts)
        self._tried.append((phase.rate, kept))
        return kept
