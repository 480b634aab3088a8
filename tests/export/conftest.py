"""Fixtures of the torch side: a tiny corpus of template sentences, and a tiny checkpoint with its vocabularies."""

import importlib.util
import lzma
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py", "tiny.py"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tensors this small are not worth a second thread, and waiting for one takes most of the time."""
    import torch  # noqa: PLC0415 # May be missing.

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a corpus folder of the usual file names, some hundred lines in all."""
    from tests.export.tiny import PAIRS  # noqa: PLC0415 # Needs torch, which may be missing.

    folder = tmp_path_factory.mktemp("corpus")
    lines = [f"{source}\t{target}\ttemplates\n" for source, target in PAIRS]
    with lzma.open(folder / "train.tsv.xz", "wt", encoding="utf-8") as train:
        train.writelines(lines[:600])
    for number, name in enumerate(("everyday_train.tsv", "dev.tsv", "test.tsv", "everyday_test.tsv")):
        (folder / name).write_text("".join(lines[600 + 20 * number :][:20]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an untrained checkpoint: random weights, real vocabularies of 380 subwords."""
    from tests.export.tiny import write_checkpoint  # noqa: PLC0415 # Needs torch, which may be missing.

    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
