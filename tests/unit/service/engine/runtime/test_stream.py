"""A device's stream, on a machine without one: what CUDA would be asked, and what is made of its answers."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import bundle
from service.engine.device.model import DeviceModel
from service.engine.runtime.memory import CudaDevice, StreamDevice, open_device
from service.engine.runtime.ort import Target
from service.engine.runtime.provider import why_not
from service.engine.runtime.stream import TO_DEVICE, Stream
from service.engine.session import OnnxModel, open_graph
from service.request import DecodingParams
from tests.fakes import Stage

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")


class FakeCuda:
    """CUDA's runtime, for memory of this process; copies to the host are done when they are waited for."""

    def __init__(self) -> None:
        self.devices: list[int] = []
        self.pending: list[Callable[[], object]] = []
        self.waits = 0
        self.status = 0
        self.cudaGetErrorString = lambda status: b"out of memory" if status == 2 else b"broken"

    def cudaSetDevice(self, device: ctypes.c_int) -> int:  # noqa: N802
        """Note which."""
        self.devices.append(device.value)
        return self.status

    def cudaStreamCreate(self, handle: Any) -> int:  # noqa: N802
        """Give a handle."""
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 4711
        return self.status

    def cudaMemcpyAsync(self, *given: Any) -> int:  # noqa: N802
        """Copy to the "device" at once, as CUDA does with memory that is not pinned, and back later."""
        to, taken, size, kind, stream = (one.value for one in given)
        assert 4711 == stream
        if kind == TO_DEVICE:
            ctypes.memmove(to, taken, size)
        else:
            self.pending.append(lambda: ctypes.memmove(to, taken, size))
        return self.status

    def cudaStreamSynchronize(self, stream: ctypes.c_void_p) -> int:  # noqa: N802
        """Do what is pending."""
        self.waits += stream.value == 4711
        for copy in self.pending:
            copy()
        self.pending.clear()
        return self.status


def test_a_stream_moves_all_that_a_batch_needs(tmp_path: Path) -> None:
    """Through CUDA's own calls, as far as this machine can play them, come the same tokens, with one wait a step."""
    read, cuda = bundle.load(onnx_toy.write_mixing_bundle(tmp_path)), FakeCuda()
    device = StreamDevice(Target("cpu"), Stream.open(1, lambda name: cuda))
    assert {"user_compute_stream": "4711"} == device.target.options
    assert [1] == cuda.devices
    graphs = read.manifest.encoder, read.manifest.decoder_step
    encoder, step = (open_graph(read, graph, device.target) for graph in graphs)
    queued, plain = Stage(DeviceModel(read, device, (encoder, step), 4)), Stage(OnnxModel.load(read, "cpu"))
    for params in (DecodingParams(9), DecodingParams(9, beam_size=2)):
        assert queued.decode((4, 5, 6, 7), params) == plain.decode((4, 5, 6, 7), params)
    before = cuda.waits
    queued.decode((4, 5, 6), DecodingParams(3))
    assert before + 3 == cuda.waits


@pytest.mark.parametrize(("status", "error"), [(2, MemoryError), (700, RuntimeError)])
def test_what_goes_wrong_on_a_stream_is_said(status: int, error: type[Exception]) -> None:
    """A status other than 0 is an error in CUDA's words; without memory it is that."""
    cuda = FakeCuda()
    stream = Stream.open(0, lambda name: cuda)
    cuda.status = status
    with pytest.raises(error, match=f"CUDA says {status}: "):
        stream.wait()


@pytest.mark.skipif(why_not("cuda", 0) is None, reason="CUDA works here")
def test_without_a_stream_each_run_waits() -> None:
    """Where CUDA's runtime is not at hand, the device is as it was without overlap, and says why."""
    device = open_device(Target("cuda"))

    assert isinstance(device, CudaDevice)
    assert not device.late
    assert device.order.startswith("each run waits for its end, as CUDA gives no stream (")
