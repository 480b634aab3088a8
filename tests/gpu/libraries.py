"""Where the parts find this checkout, CUDA and cuDNN. Needs the standard library alone."""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from tests.gpu.plan import ROOT


def environment() -> dict[str, str]:
    """Return the environment of the parts: Python finds this checkout, the loader what was installed as packages.

    ONNX Runtime looks for NVIDIA's packages beside itself. Where it was installed elsewhere than PyTorch, as with
    `pip install --target`, they are not there.
    """
    libraries = library_folders(_packages("nvidia"), _packages("torch"))
    first = {"PYTHONPATH": [ROOT, ROOT / "protos"], "LD_LIBRARY_PATH": libraries}
    return os.environ | {name: _before(os.environ.get(name), paths) for name, paths in first.items()}


def library_folders(nvidia: Iterable[Path], torch: Iterable[Path]) -> list[Path]:
    """Return the folders of libraries in the places of two packages: of CUDA, of cuDNN, and PyTorch's own."""
    found = [path for place in nvidia for path in sorted(place.glob("*/lib"))]
    return found + [place / "lib" for place in torch if (place / "lib").is_dir()]


def _before(rest: str | None, paths: Iterable[Path]) -> str:
    return os.pathsep.join([*map(str, paths), *([rest] if rest else [])])


def _packages(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
