"""What a model is reckoned to take, and what loading it does."""

from pathlib import Path

import pytest

from service.config import Settings
from service.errors import BundleError
from service.models import Repository

repositories = pytest.importorskip("tests.repositories", reason="needs onnx, of the export set")


def test_what_a_model_is_reckoned_to_take(tmp_path: Path) -> None:
    """Its files and the memory of a full batch of the longest texts, here of 4 bytes per token, both twice."""
    repositories.toy(tmp_path)
    source = Repository(Settings(model_repository=tmp_path, max_rows=10))
    (found,) = source.find()
    assert 2 * (found.size + 10 * 100 * 4) == source.estimate(found)
    assert sum(path.stat().st_size for path in found.folder.iterdir()) == found.size


def test_loading_runs_the_self_test(tmp_path: Path) -> None:
    """A bundle whose hashes all hold, and that translates another way than at its export, is refused."""
    folder = repositories.toy(tmp_path)
    source = Repository(Settings(model_repository=tmp_path, provider="cpu", threads=1))
    assert "toy" == source.load(source.find()[0]).name
    repositories.change_tokenizer(folder)
    with pytest.raises(BundleError, match="self-test: tokenizing 'abc' gives"):
        source.load(source.find()[0])
