"""What NVML tells of GPUs becomes metrics; a recorded NVML stands in for one."""

import sys

import pytest
from prometheus_client import CollectorRegistry

from service.gpu_vitals import GpuVitals, open_gpus
from tests.nvml import RecordedNvml


def values(nvml: RecordedNvml) -> dict[str, float]:
    """Return what a registry shows of it, by name and GPU."""
    registry = CollectorRegistry()
    registry.register(GpuVitals(nvml))
    return {
        f"{sample.name} {sample.labels['gpu']}": sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_every_gpu_has_memory_and_utilisation() -> None:
    """By its number."""
    assert {
        "dragoman_gpu_memory_used_bytes 0": 2e9,
        "dragoman_gpu_memory_bytes 0": 150e9,
        "dragoman_gpu_utilization_ratio 0": 0.37,
    } == values(RecordedNvml())


def test_a_gpu_that_does_not_answer_is_left_out() -> None:
    """The others are shown."""
    shown = values(RecordedNvml(silent=1, devices=2))
    assert {"0"} == {name.split()[1] for name in shown}
    assert {} == values(RecordedNvml(silent=0))


def installed(monkeypatch: pytest.MonkeyPatch, nvml: object) -> str:
    """Let it be found as a module; return its name."""
    monkeypatch.setitem(sys.modules, "recorded_nvml", nvml)
    return "recorded_nvml"


def test_gpus_are_opened_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library started, which it wants."""
    nvml = RecordedNvml()
    assert open_gpus(installed(monkeypatch, nvml)) is not None
    assert nvml.started


def test_nothing_is_shown_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor without a driver, nor without the package."""
    assert open_gpus(installed(monkeypatch, RecordedNvml(devices=0))) is None
    assert open_gpus(installed(monkeypatch, RecordedNvml(driver=False))) is None
    assert open_gpus("a_module_that_nobody_has") is None
