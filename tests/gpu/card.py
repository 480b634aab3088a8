"""The machine: its card, all versions, and how fast the card copies its own memory."""

import platform
import statistics
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version

import onnxruntime as ort
import torch

from service.engine.runtime.provider import pick_provider
from tests.benchmark.report import Figure
from tests.gpu.notebook import Notebook
from tests.gpu.plan import Plan

COPIES, ROUNDS = 10, 5
BANDWIDTH = "copy bandwidth"


def measure(plan: Plan, book: Notebook) -> None:
    """Say what is here, and measure the copy; raises StartupError where the provider does not work."""
    choice = pick_provider(plan.provider)
    book.about.update(about(plan))
    book.about["provider"] = f"{choice.provider}: {choice.reason}"
    rates = [copy_rate(plan) for _ in range(ROUNDS)]
    book.add(Figure.of(BANDWIDTH, rates, "GB/s"))
    book.note(f"Bytes read and written by copying {plan.sizes.copy_bytes >> 20} MiB within the device's memory.")


def about(plan: Plan) -> dict[str, str]:
    """Describe the card and the software."""
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "card": "none: the command was rehearsed on the CPU",
        "onnxruntime": f"{_version('onnxruntime-gpu', 'onnxruntime')}, built for CUDA {ort.cuda_version or 'none'}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "software": f"Python {platform.python_version()}, onnx {_version('onnx')}, numpy {_version('numpy')}",
    }
    if plan.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["card"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        found["driver"] = _driver()
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def copy_rate(plan: Plan) -> float:
    """Return bytes read and written per second, in GB/s."""
    source = torch.zeros(plan.sizes.copy_bytes, dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(3):
        synchronize(plan)
        started = time.perf_counter()
        for _ in range(COPIES):
            target.copy_(source)
        synchronize(plan)
        seconds.append((time.perf_counter() - started) / COPIES)
    return 2 * plan.sizes.copy_bytes / statistics.median(seconds) / 1e9


def synchronize(plan: Plan) -> None:
    """Wait until the device has done what it was told."""
    if plan.device == "cuda":
        torch.cuda.synchronize()


def _version(*names: str) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({error})"
