"""New versions of a model, put beside the old ones while the server runs."""

import os
import shutil
import signal
from pathlib import Path

KEPT = 2
"""Versions in the repository at once: the newest, and the one before, whose requests may still run."""


class Versions:
    """The versions of one model in a repository that a server has open."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder = folder
        self._pid = pid

    @property
    def newest(self) -> int:
        """The newest version there is."""
        return max(self._numbers())

    def renew(self) -> None:
        """Put a new version there, take those away that are too old, and tell the server (SIGHUP)."""
        newest = self.newest
        fresh = self._folder.parent.parent / "fresh"
        shutil.copytree(self._folder / str(newest), fresh)
        fresh.rename(self._folder / str(newest + 1))
        for number in sorted(self._numbers())[:-KEPT]:
            shutil.rmtree(self._folder / str(number))
        os.kill(self._pid, signal.SIGHUP)

    def _numbers(self) -> list[int]:
        return [int(path.name) for path in self._folder.iterdir()]


def reloads(pid: int) -> bool:
    """Return whether a process does something on SIGHUP, rather than end."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signal.SIGHUP - 1) & 1)
