"""Checkpoints: a folder with safetensors weights, a JSON configuration and the SentencePiece files. No pickle."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SOURCE_VOCABULARY, TARGET_VOCABULARY = "source.spm", "target.spm"
FAMILY = "attention-rnn"


def save(model: AttentionRnn, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights and configuration; tied weights are written once."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_output_embedding:
        del weights["output.weight"]
    save_file(weights, folder / (WEIGHTS + ".part"))
    (folder / (WEIGHTS + ".part")).replace(folder / WEIGHTS)
    description = {"family": FAMILY, **dataclasses.asdict(model.config)}
    (folder / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> AttentionRnn:
    """Read a checkpoint in float32 and evaluation mode; raise ValueError that says what is wrong with it."""
    config = _read_config(folder)
    model = AttentionRnn(config)
    weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    if config.tie_output_embedding and "target_embedding.weight" in weights:
        weights["output.weight"] = weights["target_embedding.weight"]
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        name = wrong[0]
        raise ValueError(
            f"{folder / WEIGHTS}: {len(wrong)} tensor(s) do not match {CONFIG}; the first is {name}: "
            f"expected shape {expected.get(name, 'none')}, found {found.get(name, 'none')}"
        )
    model.load_state_dict(weights)
    return model.eval()


def _read_config(folder: Path) -> AttentionRnnConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no {CONFIG}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        family = description.pop("family")
        if family != FAMILY:
            raise ValueError(f"family is {family!r}; this version exports {FAMILY!r}")
        return AttentionRnnConfig(**description)
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid configuration: {error}") from error
