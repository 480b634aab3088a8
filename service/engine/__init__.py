"""The decoding engine: continuous batching over any model that a bundle describes."""
