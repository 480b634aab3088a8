"""Training on a tiny corpus: from the command line, and resumed after being killed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from torch.nn import functional
from transformers import MarianMTModel, MarianTokenizer

from export import checkpoint
from export.cli import main
from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig
from export.training import data, marian, trainer
from export.training.batches import Example
from export.training.learner import AttentionRnnLearner
from export.training.recipe import Recipe
from export.training.trainer import Trainer
from export.transformer import marian_vocabulary

pytestmark = pytest.mark.torch

UPDATES, KILLED_AFTER = 12, 7
RECIPE = Recipe(updates=UPDATES, max_tokens=200, warmup_updates=4, evaluate_every=100, seed=5)
CONFIG = AttentionRnnConfig(380, 380, embedding_size=8, hidden_size=8, dropout=0.2)


class KilledError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def examples(corpus: Path, checkpoint_folder: Path) -> list[Example]:
    """Encode the tiny corpus; fewer batches than updates, so that a pass ends within the run."""
    return data.encode(data.training_pairs(corpus, RECIPE)[:60], checkpoint.load_vocabularies(checkpoint_folder))


def train(folder: Path, examples: list[Example], recipe: Recipe = RECIPE, killed: bool = False) -> AttentionRnn:
    """Train a fresh model in a folder; with `killed`, end it in the middle of an evaluation."""
    torch.manual_seed(1)
    model = AttentionRnn(CONFIG)
    folder.mkdir(exist_ok=True)

    def evaluate() -> float:
        if killed:
            raise KilledError
        return 1.0

    Trainer(AttentionRnnLearner(model, folder), examples, recipe, folder, evaluate).run()
    return model


def test_a_killed_run_resumes_as_if_nothing_had_happened(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle and started again, a run ends with the very weights of an uninterrupted one."""
    monkeypatch.setattr(trainer, "SAVE_EVERY_SECONDS", 0.0)
    expected = train(tmp_path / "whole", examples)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", examples, dataclasses.replace(RECIPE, evaluate_every=KILLED_AFTER), killed=True)
    state = torch.load(tmp_path / "killed" / trainer.TRAINING_STATE, weights_only=True)
    actual = train(tmp_path / "killed", examples)

    assert KILLED_AFTER - 1 == state["update"]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name


def test_a_finished_run_has_nothing_to_do(examples: list[Example], tmp_path: Path) -> None:
    """Started again after its end, a run changes nothing."""
    expected = train(tmp_path, examples)
    actual = train(tmp_path, examples)

    assert torch.equal(expected.combine.weight, actual.combine.weight)


def test_training_stops_early(examples: list[Example], tmp_path: Path) -> None:
    """Without a better chrF on dev for so many evaluations, before the decay, the run ends."""
    train(tmp_path, examples, dataclasses.replace(RECIPE, updates=100, evaluate_every=2, patience=2))
    history = [json.loads(line) for line in (tmp_path / trainer.HISTORY).read_text().splitlines()]

    assert [2, 4, 6] == [record["update"] for record in history]


def test_train_command(
    corpus: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command makes a checkpoint with a history, keeps vocabularies that are there, and says where it is."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("source.spm", "target.spm"):
        shutil.copy(checkpoint_folder / name, folder)
    status = main(["train", str(folder), "--corpus", str(corpus), "--vocabulary-size", "380", "--hidden-size", "8",
                   "--embedding-size", "8", "--updates", "2", "--max-tokens", "300", "--label-weight", "1.0",
                   "--template-weight", "0.01", "--cell", "gru"])  # fmt: skip

    assert 0 == status
    assert "best dev chrF" in capsys.readouterr().out
    assert "gru" == checkpoint.load(folder).config.cell
    assert {"source.spm", "target.spm", "history.jsonl", "training.pt"} <= {path.name for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # Tokenizing does not use it.
def test_train_command_for_marian(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command makes a MarianMT checkpoint that Hugging Face's library loads, tokenizer and all, and resumes it."""
    command = ["train", str(tmp_path), "--corpus", str(corpus), "--family", "marian", "--vocabulary-size", "400",
               "--embedding-size", "32", "--encoder-layers", "2", "--dropout", "0.0", "--max-tokens", "300",
               "--label-weight", "1.0", "--template-weight", "0.01", "--evaluate-every", "2"]  # fmt: skip

    assert [0, 0] == [main([*command, "--updates", updates]) for updates in ("2", "4")]
    assert "best dev chrF" in capsys.readouterr().out
    model, tokenizer = MarianMTModel.from_pretrained(tmp_path), MarianTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(["나는 카페에 갔다."]).input_ids[0]
    assert marian_vocabulary.load(tmp_path).encode_sources(["나는 카페에 갔다."]) == [ids]
    assert (400, 2, 1, 399) == (len(tokenizer), len(model.model.encoder.layers), len(model.model.decoder.layers),
                                model.config.decoder_start_token_id)  # fmt: skip


def test_a_new_marian_model_keeps_words_apart() -> None:
    """However deep, an untrained encoder returns about the words that it read: its layers add little at first."""
    torch.manual_seed(1)
    ids = {piece: number for number, piece in enumerate(["</s>", "<unk>", *map(str, range(97)), "<pad>"])}
    vocabulary = marian_vocabulary.MarianVocabulary(SentencePieceProcessor(), SentencePieceProcessor(), ids)
    encoder = marian.new_model(vocabulary, marian.sizes(32, 6, 2, 0.0)).eval().model.encoder
    source = torch.arange(2, 22).unsqueeze(0)
    with torch.inference_mode():
        (states,) = encoder(input_ids=source).last_hidden_state
        read = encoder.embed_tokens(source)[0] * 32**0.5 + encoder.embed_positions(source.shape)
    likeness = functional.normalize(states, dim=-1) @ functional.normalize(read, dim=-1).T

    assert list(range(20)) == likeness.argmax(dim=1).tolist()
    assert likeness.diagonal().min() > 0.6


def test_missing_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without the corpus' files is named."""
    assert 1 == main(["train", str(tmp_path / "run"), "--corpus", str(tmp_path / "nowhere")])
    assert "nowhere/dev.tsv" in capsys.readouterr().err


def test_vocabulary_too_large_for_the_corpus(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More subwords than the text has are refused, and no half-made vocabulary stays."""
    assert 1 == main(["train", str(tmp_path / "run"), "--corpus", str(corpus), "--vocabulary-size", "50000"])
    assert "no vocabulary of 50000 subwords can be made of this corpus" in capsys.readouterr().err
    assert [] == list((tmp_path / "run").iterdir())
