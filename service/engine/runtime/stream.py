"""One order for all work on a CUDA device: a stream, by https://docs.nvidia.com/cuda/cuda-runtime-api.

All graphs of a device run in its one stream, so that none has to end before the next is asked for. It is a blocking
one: what the runtime does for itself, in CUDA's default stream, keeps its place in that order too.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from service.engine.runtime import ort

TO_DEVICE, TO_HOST = 1, 2
"""cudaMemcpyHostToDevice and cudaMemcpyDeviceToHost."""


class Stream:
    """Work that is done in the order in which it was asked for; asking does not wait."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    def open(cls, device: int, load: Callable[[str], Any] = ort.load_library) -> "Stream":
        """Return a new stream of a device; raises OSError or RuntimeError where CUDA does not give one."""
        library, handle = load(ort.cuda_runtime()), ctypes.c_void_p()
        stream = cls(library, handle)
        stream._check(library.cudaSetDevice(ctypes.c_int(device)))
        stream._check(library.cudaStreamCreate(ctypes.byref(handle)))
        return stream

    @property
    def options(self) -> dict[str, str]:
        """What tells ONNX Runtime's CUDA provider to work in it."""
        return {"user_compute_stream": str(self._handle.value)}

    def fill(self, address: int, values: NDArray[Any]) -> None:
        """Copy values to the device; they may change as soon as this returns, unless their memory is pinned."""
        self._copy(address, values.ctypes.data, values.nbytes, TO_DEVICE)

    def read(self, address: int, values: NDArray[Any]) -> None:
        """Let values become what stands on the device: they are, after `wait`."""
        self._copy(values.ctypes.data, address, values.nbytes, TO_HOST)

    def wait(self) -> None:
        """Wait until all that was asked for is done; raises what went wrong with it."""
        self._check(self._library.cudaStreamSynchronize(self._handle))

    def _copy(self, to: int, taken: int, size: int, kind: int) -> None:
        places = ctypes.c_void_p(to), ctypes.c_void_p(taken), ctypes.c_size_t(size)
        self._check(self._library.cudaMemcpyAsync(*places, ctypes.c_int(kind), self._handle))

    def _check(self, status: int) -> None:
        if status:
            describe = self._library.cudaGetErrorString
            describe.restype = ctypes.c_char_p
            error = RuntimeError(f"CUDA says {status}: {(describe(status) or b'unknown').decode()}")
            ort.raise_meaning(error)
            raise error
