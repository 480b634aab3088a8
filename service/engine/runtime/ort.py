"""ONNX Runtime: sessions on a provider, and what its errors mean. The only module that imports it."""

import contextlib
import ctypes
import io
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime as ort

EXECUTION_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
CPU_PROVIDER = "CPUExecutionProvider"
CPUINFO = Path("/proc/cpuinfo")
WARNINGS, ERRORS_ONLY, NOTHING = 2, 3, 4
"""Severities from which on the runtime logs; 2 is its own default."""
OUT_OF_MEMORY = ("allocat", "out of memory", "alloc_failed")
"""How the CPU's allocator, CUDA, and cuBLAS and its kin say it."""

Session: TypeAlias = ort.InferenceSession

Tensor: TypeAlias = ort.OrtValue
RunOptions: TypeAlias = ort.RunOptions
IOBinding: TypeAlias = ort.IOBinding
copy_tensors = ort.copy_tensors


@dataclass(frozen=True, slots=True)
class Target:
    """Where graphs run: a provider, which of its devices, and the provider's own options."""

    provider: str = "cpu"
    device: int = 0
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory(self) -> str:
        """The runtime's name for the kind of memory that these graphs read and write."""
        return "cpu" if self.provider == "cpu" else "cuda"

    def __str__(self) -> str:
        """Name it as people do: cpu, cuda:1."""
        return self.provider if self.provider == "cpu" else f"{self.provider}:{self.device}"


def open_session(graph: bytes, target: Target, *, verbatim: bool = False) -> Session:
    """Open a graph where it is to run; `verbatim`: node by node as it is written. Raises what the runtime raises."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY if target.provider == "cpu" else NOTHING
    if verbatim:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if saturates(platform.machine(), CPUINFO):
        options.add_session_config_entry("session.x64quantprecision", "1")  # exact, at half the speed
    # Between two steps the event loop needs the processor that a spinning pool would hold.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [CPU_PROVIDER]
    if target.provider == "tensorrt":
        providers.insert(0, (EXECUTION_PROVIDERS["cuda"], {"device_id": str(target.device)}))  # for what it leaves out
    if target.provider != "cpu":
        providers.insert(0, (EXECUTION_PROVIDERS[target.provider], {"device_id": str(target.device), **target.options}))
    # Without its fallback, a provider that fails raises instead of printing a page and leaving the work to the CPU.
    with quiet() if target.provider != "cpu" else contextlib.nullcontext():
        session = Session(graph, options, providers=providers, enable_fallback=0)
    if target.provider != "cpu" and EXECUTION_PROVIDERS[target.provider] not in session.get_providers():
        raise RuntimeError(f"the runtime does not start {target.provider}")
    return session


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let the runtime log nothing for a while: whoever asks for a provider says himself, in a line, what is wrong."""
    ort.set_default_logger_severity(NOTHING)
    try:
        yield
    finally:
        ort.set_default_logger_severity(WARNINGS)


def knows(provider: str) -> bool:
    """Whether this build of the runtime was made with a provider; says nothing of whether it works here."""
    return EXECUTION_PROVIDERS[provider] in ort.get_available_providers()


def preload_libraries() -> str:
    """Load the CUDA and cuDNN libraries that are installed as packages; return what the runtime has to say to that."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), quiet():
        ort.preload_dlls()
    return said.getvalue()


def cuda_version() -> tuple[int, int]:
    """Return the version of CUDA that the runtime was built for; (0, 0) where it was built without."""
    major, _, minor = (ort.cuda_version or "0.0").partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def cuda_runtime() -> str:
    """Return the name of CUDA's own runtime library, of that version."""
    return f"libcudart.so.{cuda_version()[0]}"


def provider_library(provider: str) -> Path:
    """Return the file that holds a provider; loading it tells which other library is missing."""
    return Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"


def raise_meaning(error: Exception) -> None:
    """Raise MemoryError where that is what the runtime means."""
    said = str(error).lower()
    if any(words in said for words in OUT_OF_MEMORY):
        raise MemoryError(str(error)) from error


def saturates(machine: str, cpuinfo: Path) -> bool:
    """Whether products of bytes lose their upper bits here: on x86 without the VNNI instructions, as before 2019."""
    return machine in ("x86_64", "AMD64") and cpuinfo.exists() and "vnni" not in cpuinfo.read_text()


def load_library(name: str) -> ctypes.CDLL:
    """Load a shared library; raises OSError with the name of what is missing."""
    return ctypes.CDLL(name)
