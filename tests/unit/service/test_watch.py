"""Files that change."""

import os
from pathlib import Path

from service.watch import Watch


def test_writing_replacing_and_deleting_are_changes(tmp_path: Path) -> None:
    """Each is seen once; looking again sees nothing new."""
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("1")
    watch = Watch([file])
    seen = [watch.changed()]
    for text in ("two", "three"):
        other.write_text(text)
        os.replace(other, file)  # noqa: PTH105
        seen += [watch.changed(), watch.changed()]
    file.unlink()
    seen += [watch.changed(), watch.changed()]
    assert [False, True, False, True, False, True, False] == seen


def test_a_swapped_link_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted secret."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text(name)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "a")
    watch = Watch([link / "tls.crt"])
    link.unlink()
    link.symlink_to(tmp_path / "b")
    assert watch.changed()


def test_it_looks_once_per_interval(tmp_path: Path) -> None:
    """In between, nothing is seen, and nothing is lost."""
    now = 0.0
    watch = Watch([tmp_path / "file"], 1.0, lambda: now)
    (tmp_path / "file").touch()
    seen = []
    for now in (0.5, 1.5, 2.0, 2.5):  # noqa: B007  the clock reads it
        seen.append(watch.changed())  # noqa: PERF401
    assert [False, True, False, False] == seen
