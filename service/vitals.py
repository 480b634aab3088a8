"""Signs of life of the process: how late its event loop is, and how much memory native code holds."""

import asyncio
import ctypes
from collections.abc import Callable

PERIOD_SECONDS = 0.1
MALLINFO_FIELDS = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip

M_ARENA_MAX, ARENAS = -8, 2
"""What malloc.h calls it, and how many: by itself glibc makes up to eight a processor, each with holes of its own."""


class MallInfo(ctypes.Structure):
    """What mallinfo2(3) tells, in bytes: `uordblks` is handed out of the heap, `hblkhd` mapped by itself."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO_FIELDS]


async def watch_loop(observe: Callable[[float], None], period: float = PERIOD_SECONDS) -> None:
    """Tell again and again how late a timer of this event loop was, in seconds: so late is everything on it."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + period
        await asyncio.sleep(period)
        observe(max(0.0, loop.time() - due))


def native_memory() -> int | None:
    """Return the bytes that native code has allocated, ONNX Runtime's among them; None: this libc does not say.

    Python's own objects are not in it: they live in arenas that malloc does not manage.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return None
    mallinfo.restype = MallInfo
    told = mallinfo()
    return int(told.uordblks + told.hblkhd)


def give_memory_back() -> None:
    """Let malloc return to the system what nothing in it uses: what a model took lies between what others keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's alone
        trim(0)


def share_arenas() -> None:
    """Let all threads share malloc's few arenas: what models and calls leave in one is then used again by others."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
