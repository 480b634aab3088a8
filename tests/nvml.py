"""A recorded NVML."""

from types import SimpleNamespace


class RecordedNvml:
    """What nvidia-ml-py answered on a machine with one GPU, as if it had so many; `silent` is one that fails."""

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, devices: int = 1, silent: int | None = None, *, driver: bool = True) -> None:
        self._devices = devices
        self._silent = silent
        self._driver = driver
        self.started = False

    def nvmlInit(self) -> None:  # noqa: N802
        """Start."""
        if not self._driver:
            raise self.NVMLError("Driver Not Loaded")
        self.started = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Count devices."""
        return self._devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """Return a handle."""
        if index == self._silent:
            raise self.NVMLError("Not Supported")
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        """Return memory in bytes."""
        return SimpleNamespace(total=150_000_000_000, free=148_000_000_000, used=2_000_000_000 + handle)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        """Return shares in percent."""
        return SimpleNamespace(gpu=37 + handle, memory=12)
