"""The Transformer family: checkpoints of Hugging Face's encoder-decoder architectures."""
