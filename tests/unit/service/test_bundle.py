"""Bundles are verified before anything in them is believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import bundle
from service.errors import BundleError
from tests.fakes import manifest

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a good bundle."""
    written: Path = onnx_toy.write_bundle(tmp_path)
    return written


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON."""
    path = folder / bundle.MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_manifest_survives_the_way_through_json(folder: Path) -> None:
    """What is written is what is read."""
    loaded = bundle.load(folder)
    assert ("toy", "1") == (loaded.name, loaded.version)
    assert manifest().decoding == loaded.manifest.decoding
    assert manifest().encoder == loaded.manifest.encoder
    assert set(loaded.manifest.files) == set(loaded.contents)


def test_a_missing_file_is_named(folder: Path) -> None:
    """The message says which file is missing."""
    (folder / "target.spm").unlink()
    with pytest.raises(BundleError, match=r"target\.spm is missing"):
        bundle.load(folder)


def test_an_altered_file_is_refused(folder: Path) -> None:
    """One changed byte is enough."""
    path = folder / "encoder.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"encoder\.onnx was altered"):
        bundle.load(folder)


def test_a_symbolic_link_is_refused(folder: Path) -> None:
    """A bundle cannot point outside itself."""
    (folder / "source.spm").rename(folder / "elsewhere")
    (folder / "source.spm").symlink_to(folder / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.load(folder)


def test_another_format_is_told_apart(folder: Path) -> None:
    """A bundle of a later format says so, whatever else it holds."""
    (folder / bundle.MANIFEST).write_text('{"format": 2, "new": true}', encoding="utf-8")
    with pytest.raises(BundleError, match="has format 2; this version reads format 1"):
        bundle.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", '{"format": "1"}', '{"name": 1}'])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    """Broken JSON, JSON of another kind and bytes that are no text are bundle errors."""
    (folder / bundle.MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match="is not a manifest"):
        bundle.load(folder)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    """A manifest beyond a megabyte is refused by its size."""
    (folder / bundle.MANIFEST).write_bytes(b" " * (bundle.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(BundleError, match="larger than"):
        bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["files"].update({"../secret": "0"}), "plain file name"),
        (lambda v: v["files"].update({"/etc/passwd": "0"}), "plain file name"),
        (lambda v: v["files"].pop("source.spm"), "have no sha256"),
        (lambda v: v.update(memory=["states", "keys"]), r"encoder\.outputs: \['keys'\] are not there"),
        (lambda v: v.update(state=[]), r"decoder_step\.inputs"),
        (lambda v: v.update(attention="weights"), r"decoder_step\.outputs: \['weights'\]"),
        (lambda v: v["encoder"].update(inputs=[]), r"encoder\.inputs"),
        (
            lambda v: v["decoder_step"]["inputs"].append({"name": "lengths", "dtype": "int64", "axes": ["row"]}),
            "and lengths beside caches",
        ),
        (lambda v: v["tokenizer"].update(ids_file="vocab.json"), r"\['vocab\.json'\] have no sha256"),
        (lambda v: v["decoding"].update(max_source_tokens=0), "at least 1"),
        (lambda v: v["tokenizer"].update(kind="words"), "is not a manifest"),
        (lambda v: v.update(surprise=1), "unknown field `surprise`"),
        (lambda v: v.pop("parity"), "missing required field `parity`"),
        (lambda v: v["decoding"].update(max_target_tokens="many"), r"decoding\.max_target_tokens"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Every rule of the manifest has a message that names the field."""
    rewrite(folder, change)
    with pytest.raises(BundleError, match=message):
        bundle.load(folder)


def test_state_that_grows_is_a_cache(folder: Path) -> None:
    """A cache comes with the rows' lengths, and the encoder need not write it."""

    def grow(values: dict[str, Any]) -> None:
        state = values["state"][0]["input"]
        (tensor,) = (one for one in values["decoder_step"]["inputs"] if one["name"] == state)
        tensor["axes"] = ["row", 2, "target", 4]
        values["encoder"]["outputs"] = [one for one in values["encoder"]["outputs"] if one["name"] != state]

    rewrite(folder, grow)
    with pytest.raises(BundleError, match="and lengths beside caches"):
        bundle.load(folder)
    lengths = {"name": "lengths", "dtype": "int64", "axes": ["row"]}
    rewrite(folder, lambda values: values["decoder_step"]["inputs"].append(lengths))
    loaded = bundle.load(folder).manifest

    assert [("row", 2, "target", 4)] == [tensor.axes for tensor in loaded.caches]
    assert () == manifest().caches
