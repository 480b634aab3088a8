"""Checkpoints: a folder with weights, a JSON configuration and the SentencePiece files. No pickle is ever executed."""

import dataclasses
import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from export import vocabulary
from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig
from export.vocabulary import Vocabularies

WEIGHTS, FOREIGN_WEIGHTS, CONFIG = "model.safetensors", "model.pt", "config.json"
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
    path = weights_file(folder)
    weights = {name: tensor.float() for name, tensor in _read_weights(path).items()}
    if config.tie_output_embedding and "target_embedding.weight" in weights:
        weights["output.weight"] = weights["target_embedding.weight"]
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        name = wrong[0]
        raise ValueError(
            f"{path}: {len(wrong)} tensor(s) do not match {CONFIG}; the first is {name}: "
            f"expected shape {expected.get(name, 'none')}, found {found.get(name, 'none')}"
        )
    model.load_state_dict(weights)
    return model.eval()


def load_vocabularies(folder: Path) -> Vocabularies:
    """Read the checkpoint's two SentencePiece models."""
    return vocabulary.load_both(folder / SOURCE_VOCABULARY, folder / TARGET_VOCABULARY)


def weights_file(folder: Path) -> Path:
    """Return the file that holds the weights: safetensors, or a foreign PyTorch state dict."""
    for name in (WEIGHTS, FOREIGN_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} is no checkpoint: it has neither {WEIGHTS} nor {FOREIGN_WEIGHTS}")


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.name == WEIGHTS:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); copy or train it again") from error
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} holds more than tensors, or is damaged; nothing of it was executed. "
            f"Save model.state_dict() alone, or better {WEIGHTS}"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{path} is no state dict: it must map the names of parameters to tensors, and nothing else")
    return weights


def _read_config(folder: Path) -> AttentionRnnConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no {CONFIG}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        family = description.pop("family")
        if family != FAMILY:
            raise ValueError(f"{path}: family is {family!r}; this version exports {FAMILY!r}")
        return AttentionRnnConfig(**description)
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid configuration: {error}") from error
