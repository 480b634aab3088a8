"""`dragoman-export bundle` and `verify`, from the command line to the files."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from export import checkpoint
from export.bundle_writer import write
from export.cli import main
from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig
from service import bundle
from service.bundle import Manifest
from tests.export.tiny import PAIRS, VOCABULARY_SIZE

pytestmark = pytest.mark.torch

COUNT = 40


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real sentences with references."""
    path = tmp_path_factory.mktemp("sentences") / "test.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS[:COUNT]), encoding="utf-8")
    return path


def make(folder: Path, repository: Path, sentences: Path, *options: str) -> int:
    """Run `dragoman-export bundle` with what it requires."""
    return main([
        "bundle", str(folder), str(repository), "--name", "tiny", "--source-language", "ko", "--target-language", "en",
        "--license", "CC0-1.0", "--corpus-file", str(sentences), "--count", str(COUNT), *options,
    ])  # fmt: skip


def refusal(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """Return the one line that a failed command leaves."""
    assert 1 == status
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dragoman-export: ")
    return message


@contextmanager
def no_space_after(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def repository(checkpoint_folder: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model repository with a float32 and an int8 bundle of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("repository")
    assert 0 == make(checkpoint_folder, folder, sentences, "--test-set", str(sentences), "--data", "templates")
    assert 0 == make(checkpoint_folder, folder, sentences, "--version", "2", "--precision", "int8")
    return folder


def manifest_of(repository: Path, version: str) -> Manifest:
    """Load a bundle as the service does, hashes and all."""
    return bundle.load(repository / "tiny" / version).manifest


def test_bundle_says_what_it_is(repository: Path, checkpoint_folder: Path) -> None:
    """The manifest carries card, provenance, signatures, parity and quality, and the service can read it."""
    manifest = manifest_of(repository, "1")

    assert ("tiny", "attention-rnn", "ko", "en", "CC0-1.0", "fp32", "templates") == tuple(
        getattr(manifest.model, name) for name in manifest.model.__struct_fields__
    )
    assert ("states", "mask") == manifest.memory
    assert ["hidden", "cell"] == [pair.input for pair in manifest.state]
    assert ("row", "source", 64) == manifest.encoder.outputs[0].axes
    assert {"encoder.onnx", "decoder_step.onnx", "source.spm", "target.spm"} == set(manifest.files)
    assert 64 == len(manifest.provenance.checkpoint_sha256)
    assert {"torch", "onnx"} <= manifest.provenance.tools.keys()
    assert (COUNT, COUNT) == (manifest.parity.sentences, manifest.parity.identical_sentences)
    assert 9 == len(manifest.parity.shapes)
    assert manifest.parity.max_log_prob_difference < 1e-4
    assert ["test.tsv"] == [quality.test_set for quality in manifest.quality]
    assert (checkpoint_folder / "source.spm").read_bytes() == (repository / "tiny/1/source.spm").read_bytes()


def test_int8_is_smaller(repository: Path) -> None:
    """An int8 bundle says so, and its decoder step takes less space than float16 weights do."""
    sizes = [(repository / "tiny" / version / "decoder_step.onnx").stat().st_size for version in ("1", "2")]

    assert "int8" == manifest_of(repository, "2").model.precision
    assert sizes[1] < sizes[0]


def test_nothing_but_bundles_is_left(repository: Path) -> None:
    """No temporary folder stays behind."""
    assert ["1", "2"] == sorted(path.name for path in (repository / "tiny").iterdir())


@pytest.mark.parametrize("version", ["1", "2"])
def test_verify(
    repository: Path, checkpoint_folder: Path, sentences: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that was written can be proved again."""
    status = main(["verify", str(repository / "tiny" / version), "--checkpoint", str(checkpoint_folder),
                   "--sentences", str(sentences), "--count", str(COUNT)])  # fmt: skip

    assert 0 == status
    assert f"of {COUNT} sentences translated as in PyTorch" in capsys.readouterr().out


def test_verify_knows_another_checkpoint(
    repository: Path, checkpoint_folder: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle is only compared with the checkpoint that it was made from."""
    other = shutil.copytree(checkpoint_folder, tmp_path / "other")
    checkpoint.save(checkpoint.load(checkpoint_folder), other, torch.float32)
    status = main(["verify", str(repository / "tiny/1"), "--checkpoint", str(other), "--sentences", str(sentences),
                   "--count", str(COUNT)])  # fmt: skip

    assert "the bundle was not made from" in refusal(capsys, status)


def test_failed_parity_writes_nothing(
    checkpoint_folder: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose graphs cannot equal it, here for its NaN, is refused by name of the tensor; no file appears."""
    broken = shutil.copytree(checkpoint_folder, tmp_path / "broken")
    model = checkpoint.load(broken)
    model.combine.bias.data[:] = float("nan")
    checkpoint.save(model, broken)

    message = refusal(capsys, make(broken, tmp_path / "out", sentences))
    assert "log_probs of decoder step 0: 7 of 7 values are NaN or infinite in fp32; its weights are broken" in message
    assert not (tmp_path / "out").exists()


def test_existing_bundle_is_kept_unless_forced(
    repository: Path, checkpoint_folder: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version is not overwritten by accident; --force replaces it whole."""
    copy = shutil.copytree(repository, tmp_path / "copy")
    message = refusal(capsys, make(checkpoint_folder, copy, sentences))
    status = make(checkpoint_folder, copy, sentences, "--force", "--data", "replaced")

    assert "choose another --version, or --force to replace it" in message
    assert 0 == status
    assert "replaced" == manifest_of(copy, "1").model.data
    assert ["1", "2"] == sorted(path.name for path in (copy / "tiny").iterdir())


def test_full_disk_leaves_nothing(
    checkpoint_folder: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    """Where the files do not fit, nothing is left, and an older bundle stays as it was."""
    copy = shutil.copytree(repository, tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in (copy / "tiny/1").iterdir()}
    with no_space_after(30_000):
        with pytest.raises(ValueError, match="check space and permissions"):
            write(bundle.load(repository / "tiny/1"), copy, replace=True)
        with pytest.raises(ValueError, match="check space and permissions"):
            write(bundle.load(repository / "tiny/1"), tmp_path / "new", replace=False)

    assert before == {path.name: path.read_bytes() for path in (copy / "tiny/1").iterdir()}
    assert [] == list((tmp_path / "new/tiny").iterdir())


def test_repository_that_is_a_file(
    checkpoint_folder: Path, sentences: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that cannot hold folders is named."""
    assert "check space and permissions" in refusal(capsys, make(checkpoint_folder, sentences, sentences))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "../up"], "'../up' cannot name a folder"),
        (["--version", "a/b"], "'a/b' cannot name a folder"),
        (["--count", "5000"], "has 40 line(s), fewer than the 5000 to compare"),
        (["--test-set", "/nowhere.tsv"], "/nowhere.tsv"),
    ],
)  # fmt: skip
def test_wrong_options(
    checkpoint_folder: Path, sentences: Path, tmp_path: Path, options: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The message names the option's value."""
    assert message in refusal(capsys, make(checkpoint_folder, tmp_path, sentences, *options))


@pytest.mark.parametrize(
    ("options", "message"), [(["--precision", "fp8"], "'fp8'"), (["--opset", "9"], "9"), (["--opset", "x"], "'x'")]
)
def test_unknown_choices(
    checkpoint_folder: Path, sentences: Path, tmp_path: Path, options: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An unknown precision or opset is refused with those that there are."""
    with pytest.raises(SystemExit):
        make(checkpoint_folder, tmp_path, sentences, *options)

    error = capsys.readouterr().err
    assert f"invalid choice: {message}" in error or f"invalid int value: {message}" in error


def test_missing_checkpoint(sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a checkpoint is called that."""
    assert "is no checkpoint: it has no config.json" in refusal(capsys, make(tmp_path, tmp_path / "out", sentences))


def test_vocabulary_of_another_model(
    checkpoint_folder: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A vocabulary that knows more words than the network is refused before anything is computed."""
    other = shutil.copytree(checkpoint_folder, tmp_path / "other")
    config = AttentionRnnConfig(VOCABULARY_SIZE, VOCABULARY_SIZE - 9, embedding_size=8, hidden_size=8)
    checkpoint.save(AttentionRnn(config), other)

    message = refusal(capsys, make(other, tmp_path / "out", sentences))
    assert "the target vocabulary has 380 subwords, the network 371" in message
