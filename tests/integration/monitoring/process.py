"""`dragoman serve` with the embedded model, in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
READY = re.compile(r"Serving .* on (\S+), metrics on (\S+)")


@contextmanager
def served(*options: str) -> Iterator[tuple[str, str]]:
    """Serve on free ports; give the address and the URL of the metrics."""
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--metrics-port", "0", *options]
    started = subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert started.stdout is not None
        found = READY.match(line := started.stdout.readline())
        assert found is not None, line
        yield found.group(1), found.group(2)
    finally:
        started.terminate()
        started.communicate(timeout=60)
