"""The torch side: models, their training recipe, export to ONNX bundles, and the proof that both are equal."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports to its maker unless told before its import.
