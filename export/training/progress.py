"""What a person who waits for a training run wants to see."""

import sys
import time

PRINT_EVERY_UPDATES = 50


class Progress:
    """Prints a line every so often: updates, loss, learning rate, throughput and the time left."""

    def __init__(self, updates: int, done: int) -> None:
        self._updates = updates
        self._done = self._started_at = done
        self._begin = self._last = time.monotonic()
        self._tokens = 0
        self.loss = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since this process began to train."""
        return time.monotonic() - self._begin

    def advance(self, loss: float, tokens: int, learning_rate: float) -> None:
        """Count one update of so many target tokens; the loss shown is a moving average."""
        self._done += 1
        self._tokens += tokens
        self.loss = loss if self.loss == 0.0 else 0.98 * self.loss + 0.02 * loss
        if self._done % PRINT_EVERY_UPDATES == 0:
            now = time.monotonic()
            left = (self._updates - self._done) * (now - self._begin) / (self._done - self._started_at)
            self._print(
                f"update {self._done}/{self._updates}  loss {self.loss:.3f}  lr {learning_rate:.2e}  "
                f"{self._tokens / (now - self._last):,.0f} target tokens/s  {left / 60:.0f} min left"
            )
            self._last, self._tokens = now, 0

    def evaluated(self, score: float, best: float) -> None:
        """Tell the result of an evaluation."""
        self._print(f"update {self._done}/{self._updates}  dev chrF {score:.2f}  best {best:.2f}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
