"""CTranslate2: its model of a checkpoint, written by its own converter, and a translator on one thread."""

from pathlib import Path
from typing import Any

import ctranslate2
from ctranslate2.converters import TransformersConverter, transformers

NEVER = -1e9
PRECISIONS = {"fp32": "float32", "int8": "int8"}
"""What it calls the precision of a bundle."""


class LearnedStart(transformers.MarianMTLoader):  # type: ignore[misc]
    """Reads a Marian model whose start symbol has learned a vector.

    The original takes it for zero, as OPUS-MT's is, and drops it; so does nobody who trains with the library.
    """

    def get_model_spec(self, model: Any) -> Any:
        """Read the model; the start symbol is never chosen."""
        model.final_logits_bias[:, model.config.pad_token_id] = NEVER
        return super().get_model_spec(model)

    def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
        """Begin with the start symbol."""
        super().set_config(config, model, tokenizer)
        config.decoder_start_token = tokenizer.pad_token

    def set_decoder(self, spec: Any, decoder: Any) -> None:
        """Begin with its vector."""
        super().set_decoder(spec, decoder)
        spec.start_from_zero_embedding = False

    def get_vocabulary(self, model: Any, tokenizer: Any) -> Any:
        """Keep it among the words."""
        return super(transformers.MarianMTLoader, self).get_vocabulary(model, tokenizer)

    def _remove_pad_weights(self, spec: Any) -> None:
        """Keep its weights."""


def convert(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write a checkpoint's model for the precision of a bundle."""
    transformers.register_loader("MarianConfig")(LearnedStart)
    TransformersConverter(str(checkpoint)).convert(str(folder), quantization=PRECISIONS[precision], force=True)


def open_translator(folder: Path, precision: str) -> Any:
    """Load what was written, for one thread."""
    return ctranslate2.Translator(
        str(folder), device="cpu", compute_type=PRECISIONS[precision], inter_threads=1, intra_threads=1
    )
