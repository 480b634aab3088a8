"""A server in a process of its own, fast and without a model file, that a test may stop and continue."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = """
import sys, time
from tests.serving import LiveServer, loaded, reversing
with LiveServer([loaded(reversing(lambda rows: time.sleep(0.001)))]) as live:
    print(live.ready.address, live.ready.metrics_url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def served() -> "Iterator[tuple[subprocess.Popen[str], str, str]]":
    """Serve; give the process, its address and the URL of its metrics."""
    started = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", CODE], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert started.stdout is not None
        address, metrics_url = started.stdout.readline().split()
        yield started, address, metrics_url
    finally:
        started.kill()
        started.communicate()
