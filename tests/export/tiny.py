"""Models small enough to be traced, trained and compared by the dozen."""

import itertools
from pathlib import Path
from typing import get_args

import torch

from export import checkpoint, vocabulary
from export.models.attention_rnn import AttentionKind, AttentionRnn, AttentionRnnConfig, CellKind
from export.training import templates

VOCABULARY_SIZE = 380
STRIDE = 20
PAIRS = list(templates.sentences())[::STRIDE]
"""Some of the template sentences, of every kind."""

CONFIGS = [
    AttentionRnnConfig(50, 60, cell, attention, 8, 12, layers, layers, input_feeding)
    for cell, attention, layers, input_feeding in itertools.product(
        get_args(CellKind), get_args(AttentionKind), (1, 2), (False, True)
    )
]

EXPORTED = [
    config for config in CONFIGS
    if config.input_feeding == (config.decoder_layers > 1) or (config.cell, config.attention) == ("lstm", "dot")
]  # fmt: skip
"""Every cell with every attention, shallow and plain as well as deep and fed: tracing all takes a minute."""


def name_of(config: AttentionRnnConfig) -> str:
    """Name a configuration as test ids do: lstm-dot-1, with -fed for input feeding."""
    return f"{config.cell}-{config.attention}-{config.decoder_layers}" + ("-fed" if config.input_feeding else "")


def random_model(config: AttentionRnnConfig) -> AttentionRnn:
    """Make a model whose every weight is random, the biases too, so that no term goes untested."""
    torch.manual_seed(7)
    model = AttentionRnn(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


def write_checkpoint(folder: Path) -> Path:
    """Write an untrained checkpoint of float16 values, and vocabularies of the template sentences."""
    pairs = list(templates.sentences())
    for name, side in ((checkpoint.SOURCE_VOCABULARY, 0), (checkpoint.TARGET_VOCABULARY, 1)):
        vocabulary.train((pair[side] for pair in pairs[::7]), VOCABULARY_SIZE, folder / name)
    config = AttentionRnnConfig(VOCABULARY_SIZE, VOCABULARY_SIZE, embedding_size=32, hidden_size=64)
    torch.manual_seed(7)
    checkpoint.save(AttentionRnn(config), folder, torch.float16)
    return folder
