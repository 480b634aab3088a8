"""A model on ONNX Runtime: run the encoder once, or every row one step."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, Graph, Manifest, Tensor
from service.engine.layout import LENGTHS, Layout
from service.engine.runtime.in_place import InPlace
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


class EncodedSource(NamedTuple):
    """Where a source is in what the encoder left of several: in the run of this number, at this row.

    `lengths` `[row]` are those of all of them.
    """

    run: int
    row: int
    encoded: Encoded
    lengths: Int64


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
        if self._caches:
            log_probs, ids, *rest = self._in_place.run(names, token_ids, carried, self._k[k])
        else:
            carried["token_ids"], carried["k"] = token_ids, self._k[k]
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


def _run(session: Session, names: list[str], feeds: Arrays) -> list[NDArray[Any]]:
    try:
        outputs: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:
        raise_meaning(error)
        raise
    return outputs
