"""One version of one model in a server, and where in its life it is."""

import enum
from dataclasses import dataclass

from service.catalog import Served
from service.repository import Found


class State(enum.Enum):
    """Where in its life a version is."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Holding:
    """One version of one model, and what became of it."""

    found: Found
    state: State = State.LOADING
    reason: str = ""
    """Why it failed; empty otherwise."""
    served: Served | None = None
    size: int = 0
    """About how many bytes it takes."""
