"""Model repositories on disk, with bundles that serve, and ways to break them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from service import bundle
from service.config import EMBEDDED
from tests import onnx_toy
from tests.serving import character_model, tokenizer


def toy(repository: Path) -> Path:
    """Write the toy bundle `toy/1` with a tokenizer and a self-test; return its folder. "abc" becomes "cba"."""
    folder = onnx_toy.write_bundle(repository)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(character_model())
    ids = tokenizer().encode("abc").ids
    manifest = bundle.read_manifest(folder)
    written = msgspec.structs.replace(
        manifest,
        tokenizer=msgspec.structs.replace(manifest.tokenizer, source_suffix=()),
        files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest.files},
        self_test=bundle.SelfTest("abc", ids, ids[::-1], "cba"),
    )
    (folder / bundle.MANIFEST).write_text(written.to_json(), encoding="utf-8")
    return folder


def embedded(repository: Path) -> Path:
    """Copy the embedded bundle; return its folder."""
    folder = repository / "ko-en" / "1"
    shutil.copytree(EMBEDDED / "ko-en" / "1", folder)
    return folder


def put(folder: Path, version: int, corrupt: Callable[[Path], None] = lambda _: None) -> Path:
    """Put a copy of a bundle beside it, as another version, whole at once; return its folder."""
    fresh = folder.parent / ".fresh"
    shutil.copytree(folder, fresh)
    corrupt(fresh)
    return fresh.rename(folder.parent / str(version))


def alter(folder: Path) -> None:
    """Change one byte of the decoder."""
    path = folder / "decoder_step.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_tokenizer(folder: Path) -> None:
    """Let the tokenizer add what the model does not know; every checksum holds."""
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["tokenizer"]["source_suffix"].append(manifest["tokenizer"]["unknown_id"])
    path.write_text(json.dumps(manifest))


def lose_a_file(folder: Path) -> None:
    """Leave the encoder out."""
    (folder / "encoder.onnx").unlink()


def cut_manifest(folder: Path) -> None:
    """Keep half of the manifest, as where a copy was interrupted."""
    path = folder / bundle.MANIFEST
    text = path.read_text()
    path.write_text(text[: len(text) // 2])


CORRUPTIONS = (alter, change_tokenizer, lose_a_file, cut_manifest)
