"""Memory of a device, and the order of the work on it: what is asked for is done one after the other.

Nothing here need wait but `fetch`: a device may do its work later. So what a run reads or writes lives as long as its
binding, a binding never changes, and what is uploaded must stay as it is until something was fetched.
"""

import ctypes
import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine.runtime import ort
from service.engine.runtime.ort import IOBinding, RunOptions, Session, Target, Tensor
from service.engine.runtime.stream import Stream

FOR_ALL_DEVICES = 1
"""cudaHostRegisterPortable."""
UNCAPTURED = -1
"""The runtime's id for a run that neither records nor replays a CUDA graph."""


class Block(NamedTuple):
    """A piece of memory: so many elements, whose shape whoever reads it decides."""

    tensor: Tensor
    dtype: str
    size: int

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.size * np.dtype(self.dtype).itemsize


class View(NamedTuple):
    """The first elements of a block in this shape."""

    block: Block
    shape: tuple[int, ...]


class Binding(NamedTuple):
    """A run, ready to be asked for again and again: the same graph on the same memory."""

    session: Session
    bound: IOBinding
    options: RunOptions
    held: tuple[Any, ...]
    """What must not be freed while this may run."""


class Device:
    """One device of a provider. On the CPU, memory is the process's own and work is done at once."""

    late = False
    """Whether it goes on working when `run` has returned."""
    order = "each run waits for its end"
    """What to say of that."""
    run_entries: Mapping[str, str] = MappingProxyType({})
    """What the runtime is told of each run, beside the CUDA graph that records it."""

    def __init__(self, target: Target, limit: float = math.inf) -> None:
        self.target = target
        self.limit = limit
        """Bytes of blocks that it may have; weights and what runs need in passing are the runtime's own."""
        self.bytes = 0
        """Bytes of all blocks that were made and not given back."""

    def block(self, size: int, dtype: str) -> Block:
        """Return memory that holds zeros; raises MemoryError."""
        wanted = size * np.dtype(dtype).itemsize
        if self.bytes + wanted > self.limit:
            raise MemoryError(
                f"{self.bytes:,} of {self.limit:,.0f} bytes are in use on {self.target}, {wanted:,} more do not fit"
            )
        try:
            zeros = np.zeros(size, dtype)
            tensor = Tensor.ortvalue_from_numpy(zeros, self.target.memory, self.target.device)
        except Exception as error:
            ort.raise_meaning(error)
            raise
        block = Block(tensor, dtype, size)
        self.bytes += block.bytes
        return block

    def give_back(self, block: Block) -> None:
        """Count a block as gone; it is freed when nothing holds it."""
        self.bytes -= block.bytes

    def bind(
        self,
        session: Session,
        feeds: Mapping[str, View | NDArray[Any]],
        outputs: Mapping[str, View],
        graph: int = UNCAPTURED,
    ) -> Binding:
        """Prepare a run; arrays are fed from the host, and `graph` says which CUDA graph records it."""
        bound = IOBinding(session)
        for name, feed in feeds.items():
            if isinstance(feed, View):
                bound.bind_input(name, *self._place(feed))
            else:
                bound.bind_cpu_input(name, feed)
        for name, view in outputs.items():
            bound.bind_output(name, *self._place(view))
        options = RunOptions()
        for entry, value in {"gpu_graph_id": str(graph), **self.run_entries}.items():
            options.add_run_config_entry(entry, value)
        return Binding(session, bound, options, (*feeds.values(), *outputs.values()))

    def run(self, binding: Binding) -> None:
        """Run a graph; raises MemoryError, or whatever the runtime raises."""
        try:
            binding.session.run_with_iobinding(binding.bound, binding.options)
        except Exception as error:
            ort.raise_meaning(error)
            raise

    def upload(self, block: Block, values: NDArray[Any]) -> None:
        """Fill a block with as many values."""
        block.tensor.update_inplace(values)

    def fetch(self, views: Sequence[View]) -> list[NDArray[Any]]:
        """Wait for all that was asked for, and return what stands there; it is good until the next run."""
        return [shaped(view, self._read(view.block)) for view in views]

    def _read(self, block: Block) -> NDArray[Any]:
        values: NDArray[Any] = block.tensor.numpy()
        return values

    def _place(self, view: View) -> tuple[str, int, Any, tuple[int, ...], int]:
        block = view.block
        where = self.target.memory, self.target.device
        return (*where, np.dtype(block.dtype).type, view.shape, block.tensor.data_ptr())


class CudaDevice(Device):
    """A device whose results are copied into host memory that is pinned once and used again."""

    def __init__(self, target: Target, limit: float = math.inf, order: str = Device.order) -> None:
        super().__init__(target, limit)
        self.order = order
        self._twins: dict[tuple[int, str, int], tuple[NDArray[Any], Tensor]] = {}
        self._copies = True
        """Whether this build of the runtime copies into memory that it is given."""

    def _read(self, block: Block) -> NDArray[Any]:
        if not self._copies:
            return super()._read(block)
        values, twin = self._twin(block)
        try:
            ort.copy_tensors([block.tensor], [twin])
        except RuntimeError:
            self._copies = False
            return super()._read(block)
        return values

    def _twin(self, block: Block) -> tuple[NDArray[Any], Tensor]:
        """Return a block's place in host memory."""
        key = block.tensor.data_ptr(), block.dtype, block.size
        if key not in self._twins:
            values = pinned(block.size, block.dtype)
            self._twins[key] = values, Tensor.ortvalue_from_numpy(values, "cpu", 0)
        return self._twins[key]


class StreamDevice(CudaDevice):
    """A device that is asked for everything in one stream: only `fetch` waits, so the host has time meanwhile."""

    late = True
    run_entries = MappingProxyType({"disable_synchronize_execution_providers": "1"})

    def __init__(self, target: Target, stream: Stream, limit: float = math.inf) -> None:
        """Store the stream, which sessions of `self.target` work in."""
        queued = dataclasses.replace(target, options={**target.options, **stream.options})
        super().__init__(queued, limit, "runs are queued in one stream")
        self._stream = stream

    def upload(self, block: Block, values: NDArray[Any]) -> None:
        """Fill a block with as many values, when its turn comes."""
        self._stream.fill(block.tensor.data_ptr(), values)

    def fetch(self, views: Sequence[View]) -> list[NDArray[Any]]:
        """Ask for what stands there, and wait for it once."""
        fetched = [shaped(view, self._twin(view.block)[0]) for view in views]
        for view, values in zip(views, fetched, strict=True):
            self._stream.read(view.block.tensor.data_ptr(), values)
        self._stream.wait()
        return fetched


def open_device(target: Target, limit: float = math.inf) -> Device:
    """Return the device that graphs of a target run on. TensorRT's wait: nobody has tried its streams yet."""
    if target.provider == "cpu":
        return Device(target, limit)
    if target.provider == "cuda":
        try:
            return StreamDevice(target, Stream.open(target.device), limit)
        except (OSError, RuntimeError) as error:
            return CudaDevice(target, limit, f"{Device.order}, as CUDA gives no stream ({error})")
    return CudaDevice(target, limit)


def shaped(view: View, values: NDArray[Any]) -> NDArray[Any]:
    """Return the elements of a block as its view shows them."""
    return values[: int(np.prod(view.shape))].reshape(view.shape)


def pinned(size: int, dtype: str) -> NDArray[Any]:
    """Return host memory that the device copies into directly, where CUDA's runtime is at hand to say so."""
    values = np.zeros(size, dtype)
    try:
        ort.load_library(ort.cuda_runtime()).cudaHostRegister(
            ctypes.c_void_p(values.ctypes.data), ctypes.c_size_t(values.nbytes), FOR_ALL_DEVICES
        )
    except (OSError, AttributeError):
        return values  # pageable memory does as well, a little slower
    return values
