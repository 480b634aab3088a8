"""`python -m tests.benchmark.static_batches BUNDLE PORT`: the bundle behind LitServe, which batches whole requests."""

import sys
from pathlib import Path

import litserve

from tests.benchmark.offline import Offline, OnnxBatches, build_onnx

ROWS = 32
BATCH_TIMEOUT = 0.002
"""Seconds that a batch waits for company."""
REQUEST_SECONDS = 120


class Batches(litserve.LitAPI):  # type: ignore[misc]
    """Translates what came together as one batch, which runs until its longest text has ended."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(max_batch_size=ROWS, batch_timeout=BATCH_TIMEOUT)
        self._bundle = bundle
        self._offline: Offline | None = None

    def setup(self, device: str) -> None:
        """Load the bundle, in the process that decodes."""
        self._offline = build_onnx(self._bundle, ROWS, OnnxBatches)

    def decode_request(self, request: dict[str, str]) -> str:
        """Read one request."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[str]:
        """Translate one batch."""
        assert self._offline is not None
        return [one.text for one in self._offline(texts).translated]

    def encode_response(self, text: str) -> dict[str, str]:
        """Write one answer."""
        return {"text": text}


def main(bundle: Path, port: int) -> None:
    """Serve until a signal comes."""
    server = litserve.LitServer(Batches(bundle), accelerator="cpu", timeout=REQUEST_SECONDS)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
