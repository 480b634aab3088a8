"""Choosing a provider: what is tried, and the one line that says why not."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from service.engine.runtime import ort, provider
from service.engine.runtime.provider import DRIVER, pick_provider, why_not
from service.errors import StartupError

Load = Callable[[str], Any]
WORKS = 0


class Driver:
    """NVIDIA's driver as far as it is asked."""

    def __init__(self, devices: int = 1, version: int = 13000, status: int = WORKS) -> None:
        self._devices, self._version, self._status = devices, version, status

    def cuInit(self, _: int) -> int:  # noqa: N802  the driver's own names
        """Say whether there is a device at all."""
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        """Count devices."""
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self._devices
        return WORKS

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        """Return the newest CUDA that it can run."""
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = self._version
        return WORKS


def loading(driver: Driver | None, missing: str = "libcublasLt.so.13") -> Load:
    """Return what loads libraries where this driver is, and one library is not."""

    def load(name: str) -> Any:
        if name == DRIVER and driver is not None:
            return driver
        raise OSError(f"{missing}: cannot open shared object file: No such file or directory")

    return load


needs_cuda_build = pytest.mark.skipif(not ort.knows("cuda"), reason="needs onnxruntime-gpu")


@needs_cuda_build
@pytest.mark.parametrize(
    ("driver", "device", "expected"),
    [
        (None, 0, "no NVIDIA driver"),
        (Driver(status=100), 0, "no CUDA device (cuInit says 100)"),
        (Driver(devices=0), 0, "no CUDA device"),
        (Driver(devices=2), 2, "there is no CUDA device 2, only 2 from 0"),
        (Driver(version=12040), 0, "the driver is too old: it is for CUDA 12.4, needed is 13.0"),
    ],
)
def test_the_reason_names_what_is_missing(driver: Driver | None, device: int, expected: str) -> None:
    """No driver, no device, another device, an old driver: each has a line of its own, with what to do."""
    said = why_not("cuda", device, loading(driver))
    assert said is not None
    assert said.startswith(expected)
    assert 1 == len(said.splitlines())


@needs_cuda_build
@pytest.mark.skipif(why_not("cuda", 0) is None, reason="CUDA works here")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_missing_library_is_named(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Where the driver is there but CUDA's libraries are not, the line names one; the runtime's own pages stay away."""
    said = why_not(name, 0, loading(Driver()))
    assert said == (
        "missing library: libcublasLt.so.13: cannot open shared object file: No such file or directory; "
        "pip install 'dragoman[cuda]'"
    )
    assert ("", "") == capfd.readouterr()


def test_auto_takes_cuda_where_it_works_and_says_why_where_not() -> None:
    """`auto` never fails: it picks, in one line; tensorrt is for those who ask for it."""
    tried: list[str] = []

    def works(name: str, _: int) -> None:
        tried.append(name)

    assert ("cuda", "it works on device 1") == pick_provider("auto", 1, works)
    assert ("cpu", "not on cuda: no driver") == pick_provider("auto", 0, lambda *_: "no driver")
    assert ("cpu", "asked for") == pick_provider("cpu", 0, works)
    assert ["cuda"] == tried


def test_an_explicit_wish_that_cannot_be_met_ends_the_start() -> None:
    """The message says why, and what else to ask for."""
    with pytest.raises(StartupError, match=r"provider tensorrt is not to be had: no driver; or use --provider auto"):
        pick_provider("tensorrt", 0, lambda *_: "no driver")


def test_this_machine_has_an_answer_in_one_line() -> None:
    """The real probe runs, whatever machine this is."""
    picked, reason = pick_provider("auto")
    assert picked in {"cpu", "cuda"}
    assert 1 == len(reason.splitlines())


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain onnxruntime package has no such provider; the line names the package that has."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    said = provider.why_not("cuda", 0, ctypes.CDLL)
    assert said == "this onnxruntime was built without cuda; install onnxruntime-gpu in its place"
