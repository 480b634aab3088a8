"""Counts what a bundle's graphs put out, and stops at the first value that is no number: NaN, or infinite."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from export.verify import ParityError
from service.bundle import Bundle, Parity
from service.engine.layout import Layout
from service.engine.session import Arrays, Encoded, OnnxModel, Stepped
from service.request import Int64

LOG_PROBS = "log_probs"


class WatchedModel(OnnxModel):
    """A model that raises ParityError with the name of the tensor and the number of the step."""

    values = 0
    """Values that were looked at, all of them finite."""
    caches: tuple[str, ...] = ()
    watching = False
    _steps = 0

    @classmethod
    def load(cls, bundle: Bundle, provider: str = "cpu", threads: int = 1) -> "WatchedModel":
        """Load both graphs; what warms them up is not watched."""
        model = super().load(bundle, provider, threads)
        if not isinstance(model, WatchedModel):
            raise TypeError("a model is loaded as what it is asked for: this is a bug")
        model.caches, model.watching = tuple(Layout.of(bundle.manifest).caches), True
        return model

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode, and look at memory and state."""
        encoded = super().encode(source_ids, source_lengths)
        self._steps = 0
        self._look(encoded.memory | encoded.state, "the encoder")
        return encoded

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Advance, and look at all that the step wrote: caches lie in `carried`."""
        stepped = super().step(token_ids, carried, k, attention)
        where = f"decoder step {self._steps}"
        self._steps += 1
        self._look({name: carried[name] for name in self.caches} | stepped.state, where)
        self._look({} if stepped.attention is None else {"attention": stepped.attention}, where)
        # A word that must not be chosen costs infinitely much; the best one never does.
        self._look({LOG_PROBS: np.where(np.isneginf(stepped.log_probs[:, 1:]), 0, stepped.log_probs[:, 1:])}, where)
        self._look({LOG_PROBS: stepped.log_probs[:, :1]}, where)
        return stepped

    def counted(self, parity: Parity) -> Parity:
        """Return what was measured with the number of values that were looked at meanwhile."""
        return msgspec.structs.replace(parity, finite_values=self.values)

    def _look(self, tensors: dict[str, NDArray[Any]], where: str) -> None:
        for name, values in tensors.items() if self.watching else ():
            if bad := int(values.size - np.isfinite(values).sum()):
                precision = self.manifest.model.precision
                advice = "its weights are broken" if precision == "fp32" else "make the bundle in fp32"
                raise ParityError(f"{name} of {where}: {bad} of {values.size} values are NaN or infinite in "
                                  f"{precision}; {advice}")  # fmt: skip
            self.values += values.size
