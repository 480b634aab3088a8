"""Which provider the graphs run on, and in one line why not on another.

A provider that is installed may still not work: the driver may be missing or too old, a library not there, the device
taken. So it is tried with a graph of one node before anything is entrusted to it.
"""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from service.engine.runtime import ort
from service.engine.runtime.ort import Target
from service.engine.runtime.wire import Node, Value, graph_bytes
from service.errors import StartupError

DRIVER = "libcuda.so.1"


class Choice(NamedTuple):
    """The provider that is used, and the reason in one line."""

    provider: str
    reason: str


Probe = Callable[[str, int], str | None]
"""Returns why a provider does not work on a device, in one line; None where it does."""


def pick_provider(wanted: str, device: int = 0, probe: Probe | None = None) -> Choice:
    """Decide where to run; raises StartupError where what is wanted cannot be had. `auto` takes CUDA if it works."""
    if wanted == "cpu":
        return Choice("cpu", "asked for")
    provider = "cuda" if wanted == "auto" else wanted
    missing = (probe or why_not)(provider, device)
    if missing is None:
        return Choice(provider, f"it works on device {device}")
    if wanted == "auto":
        return Choice("cpu", f"not on cuda: {missing}")
    raise StartupError(f"provider {wanted} is not to be had: {missing}; or use --provider auto or cpu")


def why_not(provider: str, device: int, load: Callable[[str], Any] = ort.load_library) -> str | None:
    """Try a provider; return in one line what keeps it from working and what to do, None where it works."""
    if not ort.knows(provider):
        return f"this onnxruntime was built without {provider}; install onnxruntime-gpu in its place"
    return _driver_fault(device, load) or _library_fault(provider, device, load)


def _driver_fault(device: int, load: Callable[[str], Any]) -> str | None:
    """Ask NVIDIA's driver, by its C interface: https://docs.nvidia.com/cuda/cuda-driver-api."""
    try:
        driver = load(DRIVER)
    except OSError:
        return f"no NVIDIA driver ({DRIVER}); install one, or give the container the GPU"
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    if status := driver.cuInit(0):
        return f"no CUDA device (cuInit says {status}); give this process one"
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no CUDA device; give this process one"
    if device >= count.value:
        return f"there is no CUDA device {device}, only {count.value} from 0; choose one of these"
    needed = ort.cuda_version()
    driver.cuDriverGetVersion(ctypes.byref(version))
    found = version.value // 1000, version.value % 1000 // 10
    if found < (needed[0], 0):
        return (
            f"the driver is too old: it is for CUDA {found[0]}.{found[1]}, needed is {needed[0]}.0; update the driver"
        )
    return None


def _library_fault(provider: str, device: int, load: Callable[[str], Any]) -> str | None:
    """Run a graph of one node on the device."""
    ort.preload_libraries()
    graph = graph_bytes([Node("Neg", ("x",), "y")], [Value("x", "float32", 1)], [Value("y", "float32", 1)])
    try:
        ort.open_session(graph, Target(provider, device)).run(["y"], {"x": np.ones(1, np.float32)})
    except Exception as error:  # noqa: BLE001  whatever a provider raises, it is no provider to use
        reason = _first_line(error)
    else:
        return None
    try:
        load(str(ort.provider_library(provider)))
    except OSError as error:
        reason = f"missing library: {_first_line(error)}; pip install 'dragoman[cuda]'"
    return reason


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:200]
