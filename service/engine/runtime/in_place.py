"""A graph that writes its caches where they are, bound with as little ado as a step of one row allows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine.runtime.ort import IOBinding, Session, Tensor, raise_meaning
from service.request import Float32, Int64


class Places(NamedTuple):
    """Where a run over so many rows finds its tokens `[row]` and leaves its candidates `[row, k]`."""

    tokens: Int64
    log_probs: Float32
    ids: Int64
    tensors: tuple[Tensor, Tensor, Tensor]
    """The same memory, as the runtime names it."""

    @classmethod
    def of(cls, rows: int, k: int) -> "Places":
        """Make them for so many rows and candidates."""
        arrays = np.zeros(rows, np.int64), np.empty((rows, k), np.float32), np.empty((rows, k), np.int64)
        tokens, log_probs, ids = map(Tensor.ortvalue_from_numpy, arrays)
        return cls(*arrays, (tokens, log_probs, ids))


class InPlace:
    """Runs a graph with each cache's output in the buffer of its input, where a step writes one column.

    From run to run only what lies elsewhere than before is bound anew: binding it all, and asking for what was written,
    takes half as long as a step of one row. So what each run reads or writes anew has places of its own, one for every
    number of rows that was there before.
    """

    def __init__(self, session: Session, caches: dict[str, str]) -> None:
        self._session, self._caches = session, caches
        self._names: list[str] = []
        self._binding: IOBinding
        self._bound: dict[str, Any] = {}  # What the binding reads and writes must live as long as it.
        self._places: dict[int, Places] = {}
        """By the number of rows, all for as many candidates."""

    def run(
        self, names: list[str], token_ids: Int64, carried: Mapping[str, NDArray[Any]], k: Int64
    ) -> list[NDArray[Any]]:
        """Return the outputs of these names; the first two are the candidates' log-probabilities and ids `[row, k]`."""
        if names is not self._names:
            self._binding, self._names, self._bound = self._session.io_binding(), names, {}
        if self._bound.get("k") is not k:
            self._bind("k", k)
            self._places = {}
        places = self._places_of(len(token_ids))
        places.tokens[:] = token_ids
        for name in names[2:]:
            self._binding.bind_output(name, "cpu")  # Anew: somebody holds what the last run wrote.
        for name, values in carried.items():
            if self._bound.get(name) is not values:
                self._bind(name, values)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise_meaning(error)
            raise
        candidates: list[NDArray[Any]] = [places.log_probs.copy(), places.ids.copy()]
        if len(names) == len(candidates):
            return candidates
        return candidates + [value.numpy() for value in self._binding.get_outputs()[2 : len(names)]]

    def _places_of(self, rows: int) -> Places:
        """Bind the places for so many rows."""
        if rows not in self._places:
            self._places[rows] = Places.of(rows, int(self._bound["k"][0]))
        places = self._places[rows]
        if self._bound.get("token_ids") is not places:
            self._bound["token_ids"] = places
            tokens, *candidates = places.tensors
            self._binding.bind_ortvalue_input("token_ids", tokens)
            for name, tensor in zip(self._names, candidates, strict=False):
                self._binding.bind_ortvalue_output(name, tensor)
        return places

    def _bind(self, name: str, values: NDArray[Any]) -> None:
        """Let the graph read an input where it lies, and write a cache there as well."""
        self._bound[name] = values
        if name not in self._caches:
            self._binding.bind_cpu_input(name, values)
            return
        tensor = Tensor.ortvalue_from_numpy(values)
        self._binding.bind_ortvalue_input(name, tensor)
        self._binding.bind_ortvalue_output(self._caches[name], tensor)
