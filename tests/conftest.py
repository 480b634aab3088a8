"""Skips what this machine cannot run."""

import importlib.util
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("dragoman", deadline=None)  # How long a step takes is for benchmarks to say.
hypothesis.settings.load_profile("dragoman")

CUDA_DEVICE = Path("/dev/nvidiactl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `torch` where torch is not installed, and tests marked `gpu` where there is no CUDA device."""
    missing = []
    if importlib.util.find_spec("torch") is None:
        missing.append(("torch", "torch is not installed: pip install -e '.[export]'"))
    if not CUDA_DEVICE.exists():
        missing.append(("gpu", "there is no CUDA device"))
    for item in items:
        for marker, reason in missing:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
