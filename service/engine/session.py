"""A model on ONNX Runtime: run the encoder once, or every row one step."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, Graph, Manifest, Tensor
from service.engine.layout import LENGTHS, Layout
from service.engine.runtime.ort import Session, Target, open_session, raise_meaning
from service.engine.runtime.provider import pick_provider
from service.errors import BundleError
from service.request import Float32, Int64

Arrays = dict[str, NDArray[Any]]

ELEMENT_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int64": "tensor(int64)",
    "bool": "tensor(bool)",
}


class Encoded(NamedTuple):
    """What the encoder leaves: memory tensors `[row, source, …]` and the initial state tensors `[row, …]`.

    Arrays, or views of a device's memory where the lanes work there.
    """

    memory: dict[str, Any]
    state: dict[str, Any]


class Stepped(NamedTuple):
    """What a step leaves: the best k of each row, best first, and the next state.

    `log_probs` and `ids` are `[row, k]`; `attention` is `[row, source]`, None unless it was asked for and exists.
    """

    log_probs: Float32
    ids: Int64
    attention: Float32 | None
    state: Arrays


class Model(Protocol):
    """What the engine needs of a model: its manifest, and two functions without memory of their own."""

    @property
    def manifest(self) -> Manifest:
        """The contract that the graphs keep."""

    @property
    def provider(self) -> str:
        """Where it runs, by the name that settings have for it."""

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`."""

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Advance all rows by `token_ids` `[row]`; `carried` holds memory and state by their input names."""


class OnnxModel:
    """The encoder and decoder-step graphs of a bundle, loaded on one execution provider."""

    def __init__(self, bundle: Bundle, provider: str, encoder: Session, decoder: Session) -> None:
        self.manifest = manifest = bundle.manifest
        self.provider = provider
        self._encoder, self._decoder = encoder, decoder
        self._layout = layout = Layout.of(manifest)
        written = {pair.input: pair.output for pair in manifest.state}
        self._encoded_names = [*manifest.memory, *layout.state]
        self._next_names = ["log_probs", "ids", *(written[name] for name in layout.state)]
        self._attention_names = [*self._next_names, manifest.attention] if manifest.attention else self._next_names
        self._state_inputs = layout.state
        self._caches = {name: written[name] for name in layout.caches}
        self._in_place = InPlace(decoder, self._caches)
        self._k = {1: np.ones(1, np.int64)}

    @classmethod
    def load(cls, bundle: Bundle, provider: str = "auto", threads: int = 1) -> "OnnxModel":
        """Load both graphs, check them against the manifest and run them once.

        Raises BundleError where the graphs are not what the manifest says, StartupError where the provider is not
        to be had.
        """
        picked, _ = pick_provider(provider)
        target = Target(picked, threads=threads)
        encoder = open_graph(bundle, bundle.manifest.encoder, target)
        decoder = open_graph(bundle, bundle.manifest.decoder_step, target)
        model = cls(bundle, picked, encoder, decoder)
        model.warm_up()
        return model

    def warm_up(self) -> None:
        """Run two rows of two tokens once, so that a graph that cannot run is found before it is asked to."""
        start = np.full(2, self.manifest.tokenizer.start_id, np.int64)
        carried: Arrays = {}
        if self._caches:
            carried[LENGTHS] = np.zeros(2, np.int64)
            for name, buffer in self._layout.cache_buffers().items():
                buffer.resize(2, 2)
                carried[name] = buffer.view
        try:
            encoded = self.encode(np.full((2, 2), self.manifest.tokenizer.end_id, np.int64), np.array([2, 1]))
            self.step(start, carried | encoded.memory | encoded.state, 1, attention=True)
        except Exception as error:
            raise BundleError(f"the bundle's graphs do not run ({error}); export and verify it again") from error

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`."""
        feeds = {"source_ids": source_ids, "source_lengths": source_lengths}
        tensors = dict(zip(self._encoded_names, _run(self._encoder, self._encoded_names, feeds), strict=True))
        state = {name: tensors.pop(name) for name in self._state_inputs}
        return Encoded(tensors, state)

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Advance all rows by `token_ids` `[row]`; `carried` holds memory, caches and state by their input names."""
        if k not in self._k:
            self._k[k] = np.array([k])
        names = self._attention_names if attention else self._next_names
        carried["token_ids"], carried["k"] = token_ids, self._k[k]
        if self._caches:
            log_probs, ids, *rest = self._in_place.run(names, carried)
        else:
            log_probs, ids, *rest = _run(self._decoder, names, carried)
        weights = rest.pop() if len(rest) > len(self._state_inputs) else None
        return Stepped(log_probs, ids, weights, dict(zip(self._state_inputs, rest, strict=True)))


def open_graph(bundle: Bundle, graph: Graph, target: Target) -> Session:
    """Open one of a bundle's graphs; raise BundleError where it cannot be, or is not what the manifest says."""
    try:
        session = open_session(bundle.contents[graph.file], target)
    except Exception as error:
        raise BundleError(f"{graph.file} of {bundle.name} is no graph that runs here ({error})") from error
    _check_signature(graph.file, "input", graph.inputs, session.get_inputs())
    _check_signature(graph.file, "output", graph.outputs, session.get_outputs())
    return session


def _check_signature(file: str, side: str, declared: Sequence[Tensor], found: Sequence[Any]) -> None:
    expected = {tensor.name: (ELEMENT_TYPES.get(tensor.dtype), len(tensor.axes)) for tensor in declared}
    actual = {node.name: (node.type, len(node.shape)) for node in found}
    if wrong := sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)):
        name = wrong[0]
        raise BundleError(
            f"{file}: {side} {name} is {actual.get(name, 'missing')}, the manifest says "
            f"{expected.get(name, 'nothing of it')} (element type, axes); export the bundle again"
        )


class InPlace:
    """Runs a graph with each cache's output in the buffer of its input, where a step writes one column.

    From run to run only what lies elsewhere than before is bound anew: binding it all, and asking for what was written,
    takes half as long as a step of one row. So the candidates, and whatever is one number a row, have places of their
    own, and are copied.
    """

    def __init__(self, session: Session, caches: dict[str, str]) -> None:
        self._session, self._caches = session, caches
        self._names: list[str] = []
        self._binding: Any = None
        self._bound: Arrays = {}  # What the binding reads and writes must live as long as it.

    def run(self, names: list[str], feeds: Arrays) -> list[NDArray[Any]]:
        """Return the outputs of these names; the first two are the candidates' log-probabilities and ids `[row, k]`."""
        if names is not self._names:
            self._binding, self._names, self._bound = self._session.io_binding(), names, {}
        self._bind_candidates((len(feeds["token_ids"]), int(feeds["k"][0])))
        for name in names[2:]:
            self._binding.bind_output(name, "cpu")  # Anew: somebody holds what the last run wrote.
        for name, values in feeds.items():
            if self._bound.get(name) is not values:
                self._bind(name, values)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise_meaning(error)
            raise
        candidates = [self._bound[name].copy() for name in names[:2]]
        if len(names) == len(candidates):
            return candidates
        return candidates + [value.numpy() for value in self._binding.get_outputs()[2 : len(names)]]

    def _bind_candidates(self, shape: tuple[int, int]) -> None:
        log_probs, ids = self._names[:2]
        if log_probs not in self._bound or self._bound[log_probs].shape != shape:
            self._bound |= {log_probs: np.empty(shape, np.float32), ids: np.empty(shape, np.int64)}
            for name in (log_probs, ids):
                self._binding.bind_output(name, *_place(self._bound[name]))

    def _bind(self, name: str, values: NDArray[Any]) -> None:
        """Let the graph read an input where it lies, or a copy of a short one."""
        known = self._bound.get(name)
        if values.ndim == 1 and known is not None and known.shape == values.shape:
            known[:] = values
            return
        if values.ndim == 1:
            values = values.copy()
        self._bound[name] = values
        if name in self._caches:
            self._binding.bind_input(name, *_place(values))
            self._binding.bind_output(self._caches[name], *_place(values))
        else:
            self._binding.bind_cpu_input(name, values)


def _place(values: NDArray[Any]) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Say where an array lies, as a binding is told."""
    return "cpu", 0, values.dtype.type, values.shape, values.__array_interface__["data"][0]


def _run(session: Session, names: list[str], feeds: Arrays) -> list[NDArray[Any]]:
    try:
        outputs: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:
        raise_meaning(error)
        raise
    return outputs
