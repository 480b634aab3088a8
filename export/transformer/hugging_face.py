"""Checkpoints as Hugging Face's library writes them: read without running anything that they hold, or refused."""

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from export.transformer.parts import ARCHITECTURES

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which the library prefers them; the last two are read as tensors alone."""
SERVED = ("MTModel", "ForConditionalGeneration")


class Checkpoint(NamedTuple):
    """A model in float32 and evaluation mode, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; raise ValueError that says what is wrong with it."""
    check_architecture(folder / CONFIG, _read_config(folder / CONFIG))
    weights_files(folder)
    logging.disable_progress_bar()
    return Checkpoint(_load_model(folder), _load_tokenizer(folder))


def check_architecture(path: Path, config: dict[str, Any]) -> None:
    """Raise ValueError for an architecture that is not served, with the reason."""
    kind, (architecture, *_) = config["model_type"], config.get("architectures") or [""]
    names = ", ".join(sorted(ARCHITECTURES))
    if kind not in ARCHITECTURES and not config.get("is_encoder_decoder"):
        raise ValueError(f"{path}: {kind} has no decoder that attends to an encoder; Dragoman serves encoder-decoder "
                         f"models ({names}), and a decoder-only model needs another server")  # fmt: skip
    if kind not in ARCHITECTURES:
        raise ValueError(f"{path}: architecture {kind!r} is unknown; this version exports {names}")
    if architecture and not architecture.endswith(SERVED):
        raise ValueError(f"{path}: {architecture} does not translate: it is only part of a {kind} model, or another "
                         f"model made of its parts; give a checkpoint of {kind} that ends in {' or '.join(SERVED)}"
                         )  # fmt: skip


def weights_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights; raise ValueError where one is missing."""
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return [path]
        parts = sorted({folder / part for part in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
        if missing := [part.name for part in parts if not part.is_file()]:
            raise ValueError(f"{path} names {missing[0]}, which is missing; copy the checkpoint again")
        return parts
    raise ValueError(f"{folder} is no whole checkpoint: it has none of {', '.join(WEIGHTS)}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid configuration: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a valid configuration: it must be a JSON object")
    return config


def _load_model(folder: Path) -> PreTrainedModel:
    try:
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, weights_only=True, dtype=torch.float32,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except (SafetensorError, EOFError) as error:
        raise ValueError(f"the weights in {folder} are damaged ({error}); copy the checkpoint again") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"the weights in {folder} hold more than tensors, or are damaged; nothing of them was executed. "
            "Load them where you trust them, and write them with save_pretrained, which makes model.safetensors"
        ) from error
    except StrictDataclassError as error:
        raise ValueError(f"{folder / CONFIG} is not a valid configuration: {error}") from error
    except (RuntimeError, TypeError, KeyError) as error:
        raise ValueError(f"the weights in {folder} do not fit its {CONFIG}: {error}") from error
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"the weights in {folder} lack {len(missing)} tensor(s) that its {CONFIG} asks for; the first "
                         f"is {missing[0]}")  # fmt: skip
    loaded: PreTrainedModel = model.eval()
    return loaded


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # The library raises what its parts happen to raise.
        raise ValueError(f"{folder} has no tokenizer that can be read ({error}); copy its files beside the weights, "
                         "such as source.spm, target.spm and vocab.json, or tokenizer.json") from error  # fmt: skip
    return tokenizer
