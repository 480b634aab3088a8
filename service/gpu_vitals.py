"""Memory and utilisation of GPUs, as NVML tells them: the package nvidia-ml-py, where it and a GPU are present."""

import importlib
from collections.abc import Iterable
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MODULE = "pynvml"


class GpuVitals(Collector):
    """Asks for every GPU that this process may see, at each scrape. `nvml` is the module of nvidia-ml-py."""

    def __init__(self, nvml: Any) -> None:  # noqa: ANN401  the module has no types
        self._nvml = nvml

    def collect(self) -> Iterable[Metric]:
        """Yield a value per GPU; one that gives no answer, such as a part of one, has none."""
        used = GaugeMetricFamily("dragoman_gpu_memory_used_bytes", "Memory in use, by anybody.", labels=["gpu"])
        total = GaugeMetricFamily("dragoman_gpu_memory_bytes", "Memory that there is.", labels=["gpu"])
        busy = GaugeMetricFamily("dragoman_gpu_utilization_ratio", "Share of time at work of late.", labels=["gpu"])
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric([str(index)], memory.used)
                total.add_metric([str(index)], memory.total)
                busy.add_metric([str(index)], nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except nvml.NVMLError:
                continue
        return [family for family in (used, total, busy) if family.samples]


def open_gpus(module: str = MODULE) -> GpuVitals | None:
    """Return what watches the GPUs; None where there is no GPU, no driver or no nvidia-ml-py."""
    try:
        nvml = importlib.import_module(module)
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return GpuVitals(nvml) if nvml.nvmlDeviceGetCount() else None
    except nvml.NVMLError:
        return None
