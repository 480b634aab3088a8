"""Checkpoints: what is written is read back, and what is no checkpoint is refused with a reason."""

import json
from pathlib import Path

import pytest
import torch

from export import checkpoint
from export.models.attention_rnn import AttentionRnnConfig
from tests.export.tiny import CONFIGS, name_of, random_model

pytestmark = pytest.mark.torch


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a valid checkpoint, to be damaged."""
    checkpoint.save(random_model(CONFIGS[0]), tmp_path)
    return tmp_path


def make_foreign(folder: Path, content: object) -> None:
    """Put a PyTorch file in the place of the weights."""
    (folder / checkpoint.WEIGHTS).unlink(missing_ok=True)
    torch.save(content, folder / checkpoint.FOREIGN_WEIGHTS)


@pytest.mark.parametrize("config", CONFIGS[::3], ids=name_of)
def test_round_trip(config: AttentionRnnConfig, tmp_path: Path) -> None:
    """Weights and configuration come back as they were, tied weights tied."""
    model = random_model(config)
    checkpoint.save(model, tmp_path)
    loaded = checkpoint.load(tmp_path)

    assert config == loaded.config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert loaded.output.weight is loaded.target_embedding.weight


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    """A checkpoint rounded to float16 takes half the space and is computed with in float32."""
    model = random_model(CONFIGS[0])
    checkpoint.save(model, tmp_path, torch.float16)
    loaded = checkpoint.load(tmp_path)

    assert torch.float32 == loaded.output.weight.dtype
    assert torch.equal(model.output.weight.half().float(), loaded.output.weight)


def test_foreign_state_dict(folder: Path) -> None:
    """A PyTorch state dict next to a configuration is as good as safetensors."""
    model = random_model(CONFIGS[0])
    make_foreign(folder, model.state_dict())

    assert torch.equal(model.output.weight, checkpoint.load(folder).output.weight)


def test_pickled_code_is_refused_unexecuted(folder: Path, tmp_path: Path) -> None:
    """A .pt file that runs code when it is unpickled is refused, and nothing runs."""
    trace = tmp_path / "executed"
    make_foreign(folder, {"model": Bomb(trace)})

    with pytest.raises(ValueError, match="holds more than tensors, or is damaged; nothing of it was executed"):
        checkpoint.load(folder)
    assert not trace.exists()


def test_foreign_file_that_is_no_state_dict(folder: Path) -> None:
    """A list of tensors is no state dict."""
    make_foreign(folder, [torch.zeros(2)])

    with pytest.raises(ValueError, match="it must map the names of parameters to tensors"):
        checkpoint.load(folder)


def test_missing_parts(folder: Path, tmp_path: Path) -> None:
    """The message says which part of a checkpoint is missing."""
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        checkpoint.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"source\.spm is missing or is no SentencePiece model"):
        checkpoint.load_vocabularies(folder)
    (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"it has neither model\.safetensors nor model\.pt"):
        checkpoint.load(folder)


def test_damaged_weights(folder: Path) -> None:
    """A truncated safetensors file is called damaged."""
    path = folder / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "transformer"}, r"family is 'transformer'; this version exports 'attention-rnn'"),
        ({"heads": 8}, "is not a valid configuration: .*heads"),
        ({"cell": "rnn"}, "use 'lstm' or 'gru'"),
        ({"embedding_size": 16}, r"the first is combine.bias: expected shape \(16,\), found \(8,\)"),
        ({"decoder_layers": 2}, r"the first is bridge.0.bias: expected shape \(24,\), found \(12,\)"),
    ],
)  # fmt: skip
def test_wrong_configuration(folder: Path, changes: dict[str, object], message: str) -> None:
    """An unknown family, an unknown field or sizes that the weights do not have: the message names them."""
    path = folder / checkpoint.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    with pytest.raises(ValueError, match=message):
        checkpoint.load(folder)


def test_configuration_that_is_no_json(folder: Path) -> None:
    """A broken config.json is named."""
    (folder / checkpoint.CONFIG).write_text("{")

    with pytest.raises(ValueError, match=r"config\.json is not a valid configuration"):
        checkpoint.load(folder)
