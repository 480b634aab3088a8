"""How fast an engine has been of late, and what that promises to a request that would come now."""

from service.engine.sequence import Sequence

SMOOTHING = 0.1


class Pace:
    """Smoothed times of a step by the number of rows, and how long translations are for their source.

    Written on the engine thread; others may read, and then see numbers of one or two steps.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        """Of a step, by the bit length of its number of rows."""
        self._steps_per_token = 0.0
        self._steps = 0.0
        """Of a translation, the mean."""

    def note_step(self, rows: int, seconds: float) -> None:
        """Take note of what a step over so many rows took, joining and selection included."""
        size = rows.bit_length()
        self._seconds[size] = _smoothed(self._seconds.get(size, 0.0), seconds)

    def note_end(self, sequence: Sequence) -> None:
        """Take note of a sequence that was decoded to its end."""
        self._steps = _smoothed(self._steps, sequence.steps)
        self._steps_per_token = _smoothed(self._steps_per_token, sequence.steps / sequence.source_length)

    def forecast(self, source_tokens: int, rows: int, ahead: int, max_rows: int) -> float:
        """Return the seconds to the end of a request that comes now: `ahead` rows run or wait, of its `rows` own.

        Those in front of it leave at the pace of full batches; its own steps take what steps of such a batch took.
        Where no step of that size was seen, a smaller one stands in for it: too early an end rather than too late.
        """
        total = min(max_rows, ahead + rows)
        known = [size for size in sorted(self._seconds.copy()) if size <= total.bit_length()]
        if not known or not self._steps:
            return 0.0
        step = self._seconds[known[-1]]
        queued = max(0, ahead + rows - max_rows)
        return step * (self._steps * queued / max_rows + self._steps_per_token * source_tokens)


def _smoothed(before: float, value: float) -> float:
    return before + SMOOTHING * (value - before) if before else value
