"""Drawing tokens at random, such that the same seed draws the same tokens whoever shares the batch."""

import numpy as np

from service.request import Float32, Sampling


class Draws:
    """The draws of one row: a generator of its own, one number a step."""

    def __init__(self, sampling: Sampling, hypothesis: int) -> None:
        self._sampling = sampling
        self._generator = np.random.default_rng((sampling.seed, sampling.stream, hypothesis))

    def draw(self, log_probs: Float32) -> int:
        """Return which of the candidates `[k]`, best first, is drawn.

        top_k (Fan et al. 2018, section 5) and top_p (Holtzman et al. 2020, section 3.1) cut the distribution after
        the temperature has shaped it.
        """
        sampling = self._sampling
        kept = log_probs[: sampling.top_k].astype(np.float64) / sampling.temperature
        weights = np.exp(kept - kept[0])
        reached = np.cumsum(weights / weights.sum())
        # The tokens that reach top_p together: one more than those that stay below it.
        size = min(int(np.searchsorted(reached, sampling.top_p)) + 1, len(reached))
        return int(np.searchsorted(reached[:size], self._generator.random() * reached[size - 1], side="right"))
