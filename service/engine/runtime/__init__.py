"""ONNX Runtime, and where it runs: providers, devices, their memory."""
