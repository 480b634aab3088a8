"""Bundles of a repository, read and made ready to run. What is here takes its time: it runs on threads."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service import bundle, repository, trial
from service.config import Settings
from service.engine.layout import Layout
from service.engine.session import Model, OnnxModel
from service.errors import BundleError, StartupError
from service.repository import Found
from service.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    name: str
    version: str
    provider: str
    model: Model
    tokenizer: Tokenizer
    seconds: float


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
        """Return the bytes of its files, twice, as ONNX Runtime packs weights anew, and of full caches."""
        token_bytes = Layout.of(bundle.read_manifest(found.folder)).token_bytes
        return 2 * found.size + (self._settings.cache_megabytes * 10**6 if token_bytes else 0)

    def load(self, found: Found) -> Loaded:
        """Read a bundle, verify it and make it ready; raises StartupError."""
        started = time.monotonic()
        try:
            read = bundle.load(found.folder)
            model = OnnxModel.load(read, self._settings.provider, self._settings.run_threads)
            tokenizer = Tokenizer.from_bundle(read)
            if read.manifest.self_test is not None:
                trial.prove(model, tokenizer, read.manifest.self_test)
            trial.warm_up(model, self._settings.max_rows)
        except StartupError:
            raise
        except Exception as error:  # whatever a library makes of a bundle that nobody of good will made
            raise BundleError(f"{found.folder} cannot be loaded ({error!r}); export the bundle again") from error
        return Loaded(read.name, read.version, model.provider, model, tokenizer, time.monotonic() - started)
