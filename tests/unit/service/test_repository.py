"""Finding bundles in a model repository."""

import os
from pathlib import Path

import pytest

from service.errors import StartupError
from service.repository import find, find_bundles


def test_bundles_are_found_in_order(tmp_path: Path) -> None:
    """By model, then by version, numbers as numbers; hidden folders, files and folders without manifest are not."""
    for name in ("b/10", "b/9", "b/draft", "a/1", ".hidden/1", "a/.tmp"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "bundle.json").touch()
    (tmp_path / "c" / "1").mkdir(parents=True)
    (tmp_path / "README").touch()
    found = [folder.relative_to(tmp_path).as_posix() for folder in find_bundles(tmp_path)]
    assert ["a/1", "b/draft", "b/9", "b/10"] == found


def test_a_bundle_that_was_written_or_touched_is_another(tmp_path: Path) -> None:
    """It is known by its files, not by what is in them; its size is that of all of them."""
    folder = tmp_path / "toy" / "1"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    (folder / "encoder.onnx").write_bytes(bytes(1000))
    (found,) = find(tmp_path)
    assert ("toy@1", 1002) == (found.spelled, found.size)
    assert [found] == find(tmp_path)
    os.utime(folder / "encoder.onnx", ns=(0, 0))
    assert [found] != find(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder and says what it needs; the superuser, whom nothing is closed to, is played."""

    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(StartupError, match=r"cannot be read \(Permission denied\); let this user"):
        find_bundles(tmp_path)
