"""Lateness of a real event loop, and memory of real allocations."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from service.vitals import native_memory, watch_loop


async def test_a_blocked_loop_is_late() -> None:
    """What holds the loop up for 50 ms makes a timer of 10 ms at least 30 ms late."""
    seen: list[float] = []
    told = asyncio.Event()

    def note(lag: float) -> None:
        seen.append(lag)
        told.set()

    watching = asyncio.create_task(watch_loop(note, period=0.01))
    await asyncio.sleep(0.005)
    time.sleep(0.05)  # noqa: ASYNC251  this is what must show
    await told.wait()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert max(seen) >= 0.03
    assert min(seen) >= 0.0


@pytest.mark.skipif(native_memory() is None, reason="this libc has no mallinfo2")
def test_an_array_is_native_memory() -> None:
    """64 MiB show, and go again."""
    before = native_memory() or 0
    array = np.ones(8 << 20)
    during = native_memory() or 0
    del array
    after = native_memory() or 0
    assert during - before >= 60 << 20
    assert during - after >= 60 << 20


ARENAS_OF_THREADS = """
import ctypes, re, sys, threading
from service import vitals
if sys.argv[1] == "shared":
    vitals.share_arenas()
libc = ctypes.CDLL(None)
ready, done = threading.Barrier(9), threading.Event()
def keep():
    held = ctypes.CDLL(None).malloc
    held(5000)
    ready.wait()
    done.wait()
threads = [threading.Thread(target=keep) for _ in range(8)]
for thread in threads: thread.start()
ready.wait()
libc.malloc_stats()
done.set()
"""


@pytest.mark.skipif(native_memory() is None, reason="this libc has no mallinfo2")
@pytest.mark.parametrize(("how", "most"), [("shared", 2), ("by itself", 100)])
def test_threads_share_arenas(how: str, most: int) -> None:
    """Eight threads that allocate have two arenas among them, and without asking for it more than that."""
    command = [sys.executable, "-c", ARENAS_OF_THREADS, how]
    alone = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)  # noqa: S603  our own words
    arenas = len(re.findall(r"^Arena \d+:$", told.stderr, re.MULTILINE))
    assert most >= arenas > (0 if how == "shared" else 2)
