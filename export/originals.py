"""Which family a checkpoint is of."""

import json
from collections.abc import Sequence
from pathlib import Path

from export.attention_rnn_original import AttentionRnnOriginal
from export.original import Languages, Original


def load(folder: Path, languages: Languages, sample: Sequence[tuple[str, str]], attention_layer: int | None = None
         ) -> Original:  # fmt: skip
    """Read a checkpoint of either family; raise ValueError that says what is wrong with it.

    Without an `attention_layer`, where there are several, the one that aligns the sample best is taken.
    """
    if not is_hugging_face(folder):
        return AttentionRnnOriginal.load(folder)
    from export.transformer.original import TransformerOriginal  # noqa: PLC0415 # Takes seconds to import.

    return TransformerOriginal.load(folder, languages, sample, attention_layer)


def is_hugging_face(folder: Path) -> bool:
    """Tell whether config.json is one of Hugging Face's: these name their architecture."""
    try:
        return "model_type" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # The family that reads it says what is wrong.
