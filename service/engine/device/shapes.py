"""The shapes that steps come in on a device: few, so that each is prepared once, and captured where that works.

A step runs over a bucket: rows, source width and cache capacity, each rounded up to a power of two. What nobody waits
for is computed all the same: on a device that costs less than memory that moves and kernels that are chosen anew.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.bundle import Manifest, Tensor

FIRST_WIDTH = FIRST_CAPACITY = 16
SHRINK_BELOW = 0.375
"""A bucket is left for a smaller one when less than this share of it is needed: back and forth would move every row."""


class Shape(NamedTuple):
    """What a step runs over: groups of so many rows each, source width, cache capacity (0: the model has no caches)."""

    groups: int
    group_rows: int
    width: int
    capacity: int

    @property
    def rows(self) -> int:
        """All rows."""
        return self.groups * self.group_rows

    def of(self, tensor: Tensor, candidates: int = 1) -> tuple[int, ...]:
        """Return the shape of one of the step's tensors."""
        sizes = {"row": self.rows, "group": self.groups, "source": self.width, "target": self.capacity}
        sizes["candidate"] = candidates
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in tensor.axes)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where the powers of two begin and end; what is larger gets a bucket too, but none that is prepared."""

    max_rows: int
    max_width: int
    max_capacity: int

    @classmethod
    def of(cls, manifest: Manifest, max_rows: int) -> "Buckets":
        """Return those of a model's own limits."""
        decoding = manifest.decoding
        return cls(max_rows, decoding.max_source_tokens, decoding.max_target_tokens if manifest.caches else 0)

    def fit(self, needed: Shape, now: Shape | None = None) -> Shape:
        """Return the bucket for what is needed: the one that is used now, where that does, along each axis."""
        axes = (1, FIRST_WIDTH, FIRST_CAPACITY)
        wanted = needed.groups, needed.width, needed.capacity
        current = (now.groups, now.width, now.capacity) if now else (0, 0, 0)
        groups, width, capacity = itertools.starmap(_fit, zip(wanted, current, axes, strict=True))
        return Shape(groups, needed.group_rows, width, capacity)

    def __iter__(self) -> Iterator[Shape]:
        """Give all buckets of rows that are groups of their own, those first where preparing saves most: small ones."""
        capacities = _ladder(FIRST_CAPACITY, self.max_capacity) if self.max_capacity else [0]
        every = itertools.product(_ladder(1, self.max_rows), _ladder(FIRST_WIDTH, self.max_width), capacities)
        shapes = [Shape(rows, 1, width, capacity) for rows, width, capacity in every]
        return iter(sorted(shapes, key=lambda shape: (shape.rows * (shape.width + shape.capacity), shape)))


def bytes_of(shape: Shape, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return what each tensor takes in a bucket, in bytes."""
    return {name: int(np.prod(shape.of(tensor))) * np.dtype(tensor.dtype).itemsize for name, tensor in tensors.items()}


def _ladder(first: int, last: int) -> list[int]:
    """Return powers of two times `first`, up to the first that is no less than `last`."""
    steps = [first]
    while steps[-1] < last:
        steps.append(2 * steps[-1])
    return steps


def _fit(needed: int, now: int, first: int) -> int:
    if needed == 0 or now * SHRINK_BELOW < needed <= now:
        return now if needed else 0
    return _ladder(first, needed)[-1]
