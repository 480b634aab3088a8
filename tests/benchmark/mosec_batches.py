"""`python -m tests.benchmark.mosec_batches PORT PROGRAM …`: the same behind Mosec, whose HTTP server is not Python."""

import os
import sys

import mosec

from tests.benchmark.whole_batches import ROWS, WAIT_SECONDS, build

PROGRAM = "DRAGOMAN_BENCH_PROGRAM"
"""Mosec makes its workers in processes of their own, without arguments."""


class Batches(mosec.Worker):  # type: ignore[misc]
    """Translates what came together as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self._translate = build(*os.environ[PROGRAM].split("\n"))

    def forward(self, data: list[dict[str, str]]) -> list[dict[str, str]]:
        """Translate one batch."""
        return [{"text": text} for text in self._translate([one["text"] for one in data])]


def main() -> None:
    """Serve until a signal comes."""
    port, program = sys.argv[1], sys.argv[2:]
    os.environ[PROGRAM] = "\n".join(program)
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--timeout", "120000"]
    server = mosec.Server()
    server.append_worker(
        Batches, num=1, max_batch_size=ROWS, max_wait_time=round(1000 * WAIT_SECONDS), route="/predict"
    )
    server.run()


if __name__ == "__main__":
    main()
