"""Bundles of a repository, read and made ready to run. What is here takes its time: it runs on threads."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service import bundle, repository, trial
from service.bundle import Bundle, Manifest
from service.config import Settings
from service.engine.device.batch import AnyModel
from service.engine.device.loading import load_models
from service.engine.device.model import Wishes
from service.engine.layout import Layout
from service.errors import BundleError, StartupError
from service.repository import Found
from service.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    name: str
    version: str
    provider: str
    models: Sequence[AnyModel]
    """The same, once on each device."""
    tokenizer: Tokenizer
    seconds: float

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        return self.models[0].manifest


class Source(Protocol):
    """Where models come from. All of it may take long, and may be called on any thread."""

    def find(self) -> Sequence[Found]:
        """Return what is there now, sorted by model, then by version; raises StartupError where there is nothing."""

    def estimate(self, found: Found) -> int:
        """Return about how many bytes it takes when it is loaded; raises StartupError."""

    def load(self, found: Found) -> Loaded:
        """Load it, verified and warm; raises StartupError."""


class Repository:
    """The bundles of a folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find(self) -> Sequence[Found]:
        """Return the bundles that are there now; raises StartupError where there is none."""
        return repository.find(self._settings.model_repository)

    def estimate(self, found: Found) -> int:
        """Return the bytes of its files, of a full batch's memory, both twice, and of full caches.

        ONNX Runtime packs weights anew; the encoder writes what the batch then keeps.
        """
        manifest = bundle.read_manifest(found.folder)
        layout = Layout.of(manifest)
        positions = self._settings.max_rows * manifest.decoding.max_source_tokens
        caches = self._settings.cache_megabytes * 10**6 if layout.token_bytes else 0
        return 2 * (found.size + positions * _position_bytes(layout)) + caches

    def load(self, found: Found) -> Loaded:
        """Read a bundle, verify it and make it ready; raises StartupError."""
        started = time.monotonic()
        try:
            read = bundle.load(found.folder)
            models = self._open(read)
            tokenizer = Tokenizer.from_bundle(read)
            for model in models:
                if read.manifest.self_test is not None:
                    trial.prove(model, tokenizer, read.manifest.self_test)
                trial.warm_up(model, self._settings.max_rows)
        except StartupError:
            raise
        except Exception as error:  # whatever a library makes of a bundle that nobody of good will made
            raise BundleError(f"{found.folder} cannot be loaded ({error!r}); export the bundle again") from error
        return Loaded(read.name, read.version, models[0].provider, models, tokenizer, time.monotonic() - started)

    def _open(self, read: Bundle) -> Sequence[AnyModel]:
        settings = self._settings
        most = settings.device_megabytes * 10**6 if settings.device_megabytes else math.inf
        wishes = Wishes(settings.max_rows, max_bytes=most, engines=settings.tensorrt_engines)
        return load_models(read, settings.provider, settings.run_threads, settings.device_numbers, wishes)


def _position_bytes(layout: Layout) -> int:
    """Return the bytes that memory takes for each source position of each row."""
    return sum(
        math.prod(axis for axis in tensor.axes if isinstance(axis, int)) * np.dtype(tensor.dtype).itemsize
        for tensor in layout.memory.values()
        if "source" in tensor.axes
    )
