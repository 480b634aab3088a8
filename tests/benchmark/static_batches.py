"""`python -m tests.benchmark.static_batches PORT PROGRAM …`: it behind LitServe, which batches whole requests."""

import sys
from collections.abc import Sequence

import litserve

from tests.benchmark.whole_batches import ROWS, WAIT_SECONDS, TranslateBatch, build

REQUEST_SECONDS = 120


class Batches(litserve.LitAPI):  # type: ignore[misc]
    """Translates what came together as one batch."""

    def __init__(self, program: Sequence[str]) -> None:
        super().__init__(max_batch_size=ROWS, batch_timeout=WAIT_SECONDS)
        self._program = program
        self._translate: TranslateBatch | None = None

    def setup(self, device: str) -> None:
        """Load the model, in the process that decodes."""
        self._translate = build(*self._program)

    def decode_request(self, request: dict[str, str]) -> str:
        """Read one request."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[str]:
        """Translate one batch."""
        assert self._translate is not None
        return self._translate(texts)

    def encode_response(self, text: str) -> dict[str, str]:
        """Write one answer."""
        return {"text": text}


def main(port: int, program: Sequence[str]) -> None:
    """Serve until a signal comes."""
    server = litserve.LitServer(Batches(program), accelerator="cpu", timeout=REQUEST_SECONDS)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
