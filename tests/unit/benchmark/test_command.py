"""The whole command on a model of a few thousand weights."""

import json
from pathlib import Path

import pytest

from export.cli import main as export
from tests.benchmark.__main__ import ON_REQUEST, PARTS, main
from tests.benchmark.plan import COMMITTED
from tests.export.tiny import write_checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a checkpoint, and a bundle of it."""
    checkpoint, repository = write_checkpoint(tmp_path_factory.mktemp("checkpoint")), tmp_path_factory.mktemp("bundles")
    status = export([
        "bundle", str(checkpoint), str(repository), "--name", "tiny", "--source-language", "ko", "--target-language",
        "en", "--license", "CC0-1.0", "--corpus-file", str(COMMITTED / "test.tsv"), "--count", "4",
    ])  # fmt: skip
    assert 0 == status
    return checkpoint, repository / "tiny" / "1"


def test_all_parts_leave_figures(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part runs to its end and is in the table, in the JSON and on the page; a missed goal is no failure."""
    checkpoint, bundle = folders
    data, page = tmp_path / "figures.json", tmp_path / "figures.md"

    status = main([
        "--quick", "--bundle", str(bundle), "--checkpoint", str(checkpoint), "--corpus", str(COMMITTED),
        "--json", str(data), "--markdown", str(page),
    ])  # fmt: skip

    sections = json.loads(data.read_text(encoding="utf-8"))["sections"]
    figures = {figure["name"]: figure for section in sections for figure in section["figures"]}
    assert 0 == status
    assert [name.replace("-", " ") for name in PARTS] == [section["title"] for section in sections]
    assert 100 == figures["service fp32, test.tsv, same string as PyTorch"]["median"]
    assert 100 == figures["engine, random arrivals, many, fp32, same strings"]["median"]
    assert "VERDICT" in capsys.readouterr().out
    assert "## throughput" in page.read_text(encoding="utf-8")


def test_parts_on_request(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Parts that need another family, a peer or a revision say so; what a step costs is measured and drawn."""
    checkpoint, bundle = folders
    data, picture = tmp_path / "figures.json", tmp_path / "cost.png"

    status = main([
        *ON_REQUEST, "--quick", "--bundle", str(bundle), "--checkpoint", str(checkpoint), "--corpus", str(COMMITTED),
        "--json", str(data), "--picture", str(picture),
    ])  # fmt: skip

    sections = {found["title"]: found for found in json.loads(data.read_text(encoding="utf-8"))["sections"]}
    without = [title for title, section in sections.items() if not section["figures"]]
    assert 0 == status
    assert ["ctranslate2", "ctranslate2 served", "before and after"] == without
    assert "attention-rnn fp32, 8 tokens, mean step" in {one["name"] for one in sections["length cost"]["figures"]}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_foreign_checkpoint_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle is not compared with a model that it was not made from."""
    status = main(["--bundle", str(folders[1]), "--checkpoint", str(tmp_path), "--corpus", str(COMMITTED)])

    assert 2 == status
    assert f"benchmark: {tmp_path} is no checkpoint" in capsys.readouterr().err
