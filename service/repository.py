"""The model repository: a folder `<model>/<version>/` of bundles."""

import os
from dataclasses import dataclass
from pathlib import Path

from service.bundle import FILE_NAME, MANIFEST
from service.errors import StartupError
from service.watch import Identity, identity


@dataclass(frozen=True, slots=True)
class Found:
    """A bundle as it lies in the repository, not read yet."""

    name: str
    version: str
    folder: Path
    files: tuple[tuple[str, Identity | None], ...] = ()
    """What differs when a file of it was written, touched or replaced."""

    @property
    def spelled(self) -> str:
        """The model as requests name it."""
        return f"{self.name}@{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(known.size for _, known in self.files if known is not None)


def find(repository: Path) -> list[Found]:
    """Return all bundles, sorted by model, then by version; raise StartupError where there is none."""
    return [
        Found(folder.parent.name, folder.name, folder, tuple((path.name, identity(path)) for path in _files(folder)))
        for folder in find_bundles(repository)
    ]


def find_bundles(repository: Path) -> list[Path]:
    """Return the folders of all bundles, sorted by model, then by version; raise StartupError where there is none."""
    advice = "give --model-repository a folder that holds <model>/<version>/bundle.json"
    try:
        versions = [version for model in _folders(repository) for version in _folders(model)]
        found = [folder for folder in versions if (folder / MANIFEST).is_file()]
    except FileNotFoundError as error:
        raise StartupError(f"{repository} does not exist; {advice}") from error
    except NotADirectoryError as error:
        raise StartupError(f"{repository} is no folder; {advice}") from error
    except OSError as error:
        message = f"{error.filename or repository} cannot be read ({error.strerror}); let this user read and enter it"
        raise StartupError(message) from error
    if not found:
        raise StartupError(f"{repository} holds no bundle; {advice}")
    return sorted(found, key=lambda folder: (folder.parent.name, version_key(folder.name)))


def version_key(version: str) -> tuple[int, int, str]:
    """Order versions: names first, then numbers, the highest number last."""
    return (1, int(version), version) if version.isdecimal() else (0, 0, version)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.is_dir() and FILE_NAME.fullmatch(entry.name)]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # gone, or closed, since it was found: loading it says so
        return []
