"""The torch side: models, their training recipe, export to ONNX bundles, and the proof that both are equal."""
