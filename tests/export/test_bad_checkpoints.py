"""Folders of Hugging Face's kind that are no checkpoint to serve: each is refused with what is wrong and what helps."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.cli import main
from export.original import Languages
from export.originals import load
from tests.export.families import FAMILIES
from tests.export.tiny import PAIRS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

ASKED = Languages("ko", "en")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint that is well."""
    folder = tmp_path_factory.mktemp("good")
    FAMILIES["marian"](folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """Copy it, to be spoilt."""
    return shutil.copytree(good, tmp_path / "checkpoint")


def reconfigure(folder: Path, **changes: Any) -> None:
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


class Evil:
    """A pickled object that runs a command when it is loaded without care."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._trace,)


def test_the_command_says_it_in_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal ends the command with its reason, and nothing is written."""
    (folder / "model.safetensors").unlink()
    sentences = tmp_path / "test.tsv"
    sentences.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS[:2]), encoding="utf-8")
    status = main(["bundle", str(folder), str(tmp_path / "models"), "--name", "tiny", "--source-language", "ko",
                   "--target-language", "en", "--license", "CC0-1.0", "--corpus-file", str(sentences), "--count", "2"]
                  )  # fmt: skip

    assert 1 == status
    assert "is no whole checkpoint: it has none of model.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2", "is_encoder_decoder": False, "architectures": ["GPT2LMHeadModel"]},
         "gpt2 has no decoder that attends to an encoder; .* a decoder-only model needs another server"),
        ({"model_type": "prophetnet"}, "architecture 'prophetnet' is unknown; this version exports bart, m2m_100"),
        ({"architectures": ["MarianForCausalLM"]}, "MarianForCausalLM does not translate: it is only part of a marian"),
        ({"d_model": 32}, "do not fit its config.json"),
        ({"decoder_layers": 3}, r"lack \d+ tensor\(s\) that its config.json asks for; the first is model.decoder"),
    ],
)  # fmt: skip
def test_architecture(folder: Path, changes: dict[str, Any], message: str) -> None:
    """A decoder alone, an unknown architecture, a part of a model and a configuration of another size are told."""
    reconfigure(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load(folder, ASKED, [])


@pytest.mark.parametrize("name", ["source.spm", "target.spm", "vocab.json"])
def test_a_missing_tokenizer_file(folder: Path, name: str) -> None:
    """The message says which files a tokenizer has."""
    (folder / name).unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer that can be read .* such as source\.spm, target\.spm"):
        load(folder, ASKED, [])


def test_a_missing_part_of_the_weights(folder: Path) -> None:
    """Where the weights lie in several files, the missing one is named."""
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(ValueError, match=r"names model-00002-of-00002\.safetensors, which is missing"):
        load(folder, ASKED, [])


def test_missing_tensors(folder: Path) -> None:
    """No tensor is made up."""
    weights = load_file(folder / "model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensor.* the first is model\.encoder\.layers\.0\.fc1\.weight"):
        load(folder, ASKED, [])


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100])
def test_damaged_weights(folder: Path, content: bytes) -> None:
    """A file that is no safetensors file is called damaged."""
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"the weights in .* are damaged"):
        load(folder, ASKED, [])


def test_a_pickle_with_code_in_it_is_not_executed(folder: Path, tmp_path: Path) -> None:
    """Weights that would run something are refused, and nothing has run."""
    weights: dict[str, object] = dict(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"model.shared.weight": Evil(tmp_path / "executed")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="hold more than tensors, or are damaged; nothing of them was executed"):
        load(folder, ASKED, [])
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "executed"), protocol=2))
    with pytest.raises(ValueError, match="nothing of them was executed"):
        load(folder, ASKED, [])

    assert not (tmp_path / "executed").exists()


def test_code_beside_the_weights_is_not_executed(folder: Path, tmp_path: Path) -> None:
    """A checkpoint that brings classes of its own is read with the library's; its code is left alone."""
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'executed')!r}).touch()\n"
    (folder / "modeling_own.py").write_text(code, encoding="utf-8")
    reconfigure(folder, auto_map={"AutoModelForSeq2SeqLM": "modeling_own.Own", "AutoConfig": "modeling_own.OwnConfig"})

    assert "marian" == load(folder, ASKED, []).facts.family
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("field", ["decoder_start_token_id", "d_model"])
def test_a_setting_of_the_wrong_kind(folder: Path, field: str) -> None:
    """A configuration that the library does not take is refused with the name of the field."""
    reconfigure(folder, **{field: "many"})
    with pytest.raises(ValueError, match=rf"config\.json is not a valid configuration: .*{field}"):
        load(folder, ASKED, [])


def test_a_pickle_of_tensors_alone_is_read(folder: Path) -> None:
    """Older checkpoints hold nothing else; their tensors are read without their code."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")

    assert [folder / "pytorch_model.bin"] == load(folder, ASKED, []).facts.weights


@pytest.mark.parametrize("text", ["[]", "{", '{"model_type": 7}'])
def test_a_broken_configuration(folder: Path, text: str) -> None:
    """config.json is named."""
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json"):
        load(folder, ASKED, [])


def test_an_unknown_language_is_listed_with_the_known(tmp_path: Path) -> None:
    """A model of many languages needs its own names; the message has them."""
    FAMILIES["nllb"](tmp_path)
    with pytest.raises(ValueError, match=r"no language 'ko', or several; .*--source-token .*kor_Hang"):
        load(tmp_path, ASKED, [])
