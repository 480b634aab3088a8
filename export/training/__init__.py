"""The training recipe of the embedded model."""
