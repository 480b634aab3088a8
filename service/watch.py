"""Files that are read anew when they change: certificates, clients, bundles."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """What differs when a file was written or replaced; size in bytes."""

    inode: int
    modified_ns: int
    size: int


class Watch:
    """Looks after some files, at most once per interval."""

    def __init__(
        self, paths: Sequence[Path], interval: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take what the files are now as known; `interval` in seconds."""
        self._paths = paths
        self._interval = interval
        self._clock = clock
        self._next = clock() + interval
        self._known = self._look()

    def changed(self) -> bool:
        """Return whether a file is another than when this last said so."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._interval
        known, self._known = self._known, self._look()
        return known != self._known

    def _look(self) -> list[Identity | None]:
        return [identity(path) for path in self._paths]


def identity(path: Path) -> Identity | None:
    """Return what differs when a file was written or replaced, behind links too: Kubernetes swaps a link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Identity(found.st_ino, found.st_mtime_ns, found.st_size)
