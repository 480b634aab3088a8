"""The recipe: every number of a training run, in one place."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a run. The learning rate warms up, stays, and falls to zero over the last part of the budget."""

    updates: int = 16_000
    """Length of the run in optimizer updates; may be changed when a run is resumed before its decay began."""
    max_tokens: int = 4_096
    """Padded tokens per batch, of the longer side."""
    learning_rate: float = 2e-3
    warmup_updates: int = 400
    decay_share: float = 0.3
    """Share of the updates, at the end, over which the learning rate falls linearly to zero."""
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    label_weight: float = 0.25
    """How often a label of one or two words is seen in a pass."""
    everyday_weight: float = 5.0
    """How often an everyday sentence is seen in a pass."""
    template_weight: float = 0.4
    """How often a template sentence is seen in a pass."""
    evaluate_every: int = 500
    patience: int = 8
    """Evaluations without a better chrF on dev, before the decay, after which the run stops early."""
    seed: int = 1

    def learning_rate_at(self, update: int) -> float:
        """Return the learning rate of an update, counted from 0."""
        warm = min(1.0, (update + 1) / self.warmup_updates)
        left = (self.updates - update) / max(1.0, self.decay_share * self.updates)
        return self.learning_rate * min(warm, 1.0, max(left, 0.0))
