"""What a step carries from the encoder and from step to step, as the manifest describes it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Manifest, Tensor
from service.engine.buffer import Buffer

LENGTHS = "lengths"
"""The step's input `[row]`, where it has caches: the tokens that each row's caches hold."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The carried tensors by name, as the step reads them: memory, caches (state that grows along `target`), state."""

    memory: dict[str, Tensor]
    caches: dict[str, Tensor]
    state: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> "Layout":
        """Read it from a manifest."""
        reads = {tensor.name: tensor for tensor in manifest.decoder_step.inputs}
        names = [pair.input for pair in manifest.state]
        caches = {name: reads[name] for name in names if "target" in reads[name].axes}
        return cls({name: reads[name] for name in manifest.memory}, caches, tuple(n for n in names if n not in caches))

    @property
    def token_bytes(self) -> int:
        """Bytes that the caches of one row take for each token; 0 without caches."""
        sizes = [
            math.prod(axis for axis in tensor.axes if isinstance(axis, int)) * np.dtype(tensor.dtype).itemsize
            for tensor in self.caches.values()
        ]
        return sum(sizes)

    def memory_buffers(self, memory: dict[str, NDArray[Any]]) -> dict[str, Buffer]:
        """Return an empty buffer for each of these tensors `[row, …, source, …]`."""
        return {
            name: Buffer(values.shape[1:], self.memory[name].axes.index("source"), values.dtype)
            for name, values in memory.items()
        }

    def cache_buffers(self) -> dict[str, Buffer]:
        """Return an empty buffer for each cache."""
        return {
            name: Buffer(
                tuple(axis if isinstance(axis, int) else 0 for axis in tensor.axes[1:]),
                tensor.axes.index("target"),
                np.dtype(tensor.dtype),
            )
            for name, tensor in self.caches.items()
        }
