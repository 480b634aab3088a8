"""The models of a repository, read and ready to run."""

import time
from dataclasses import dataclass
from pathlib import Path

from service import bundle
from service.config import Settings
from service.engine.session import Model, OnnxModel
from service.errors import BundleError, StartupError
from service.repository import find_bundles
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


def load_models(settings: Settings) -> list[Loaded]:
    """Load every bundle of the repository; raises StartupError."""
    return [_load(folder, settings) for folder in find_bundles(settings.model_repository)]


def _load(folder: Path, settings: Settings) -> Loaded:
    started = time.monotonic()
    try:
        read = bundle.load(folder)
        model = OnnxModel.load(read, settings.provider, settings.run_threads)
        tokenizer = Tokenizer.from_bundle(read)
    except StartupError:
        raise
    except Exception as error:  # whatever a library makes of a bundle that nobody of good will made
        raise BundleError(f"{folder} cannot be loaded ({error!r}); export the bundle again") from error
    return Loaded(read.name, read.version, model.provider, model, tokenizer, time.monotonic() - started)
