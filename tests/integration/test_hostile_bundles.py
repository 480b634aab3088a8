"""Bundles as hostile input: whatever is in them, loading ends with a model or with an error that says why.

The mutants have the right hashes, as whoever makes a bundle can give it, so that nothing but the loading itself
stands in their way. They are loaded in a process of their own, which must end well: no crash, no hang, no growth.
DRAGOMAN_MUTANTS says how many.
"""

import collections
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import bundle, graph_file, models
from service.config import Settings
from service.errors import BundleError, StartupError

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")
import onnx  # noqa: E402  it is there: the line above has seen to it
from onnx import TensorProto, helper  # noqa: E402

MUTANTS = int(os.environ.get("DRAGOMAN_MUTANTS", "60"))
GROWTH_MEGABYTES = 256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a good bundle."""
    written: Path = onnx_toy.write_bundle(tmp_path)
    return written


def rehash(folder: Path) -> None:
    """Give the manifest the hashes of the files as they are."""
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        if (folder / name).is_file():
            manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


def change_graph(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the decoder's graph."""
    model = onnx.load(folder / "decoder_step.onnx")
    change(model)
    (folder / "decoder_step.onnx").write_bytes(model.SerializeToString())
    rehash(folder)


def external(model: Any, location: str) -> None:
    """Let the first tensor lie in a file."""
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")


def nested(model: Any, deep: int) -> None:
    """Put graphs within graphs."""
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(deep):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=graph)], "g", [], [])
    model.graph.node.append(graph.node[0])


def in_branch(model: Any) -> None:
    """Hide a tensor of another file in a branch."""
    inner = helper.make_graph([], "inner", [], [])
    inner.initializer.append(TensorProto(name="x", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL))
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: external(m, "../../../etc/passwd"), "keeps a tensor in another file"),
        (lambda m: external(m, "/etc/passwd"), "keeps a tensor in another file"),
        (lambda m: external(m, "source.spm"), "keeps a tensor in another file"),
        (in_branch, "keeps a tensor in another file"),
        (lambda m: m.graph.initializer[0].dims.extend([1 << 40]), "declares a tensor of shape"),
        (lambda m: m.graph.initializer[0].dims.extend([-1]), "declares a tensor of shape"),
        (lambda m: m.graph.initializer.add(name="bomb", dims=[1 << 20, 1 << 20], data_type=1), "declares a tensor"),
        (lambda m: m.graph.sparse_initializer.add(dims=[1 << 40]), "holds a sparse tensor"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.evil"), "uses operators of 'com.evil'"),
        (lambda m: m.opset_import.add(domain="com.evil", version=1), "uses operators of 'com.evil'"),
        (lambda m: nested(m, 25), "graphs within graphs"),
    ],
)
def test_what_a_graph_may_not_hold(folder: Path, change: Callable[[Any], object], says: str) -> None:
    """References to other files, sizes without data and strange operators are found before the runtime sees them."""
    change_graph(folder, change)
    with pytest.raises(BundleError, match=says):
        bundle.load(folder)


def test_functions_of_its_own_are_fine(folder: Path) -> None:
    """A domain that the file itself defines needs no library."""

    def define(model: Any) -> None:
        node = helper.make_node("Identity", ["x"], ["y"])
        function = helper.make_function("own", "Same", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
        model.functions.append(function)
        model.opset_import.add(domain="own", version=1)

    change_graph(folder, define)
    assert None is graph_file.fault(bundle.load(folder).contents["decoder_step.onnx"])


@pytest.mark.parametrize("name", ["encoder.onnx", "source.spm", bundle.MANIFEST])
def test_what_is_no_plain_file_is_refused(folder: Path, name: str) -> None:
    """Links lead outside; a pipe, read, would wait for ever."""
    original = (folder / name).read_bytes()
    secret = folder.parent / "secret"
    secret.write_bytes(original)
    for make, says in (
        (lambda path: path.symlink_to(secret), "symbolic link"),
        (lambda path: path.symlink_to(path), "symbolic link"),
        (os.mkfifo, "no plain file"),
        (Path.mkdir, "no plain file|cannot be read"),
    ):
        path = folder / name
        path.unlink()
        make(path)
        with pytest.raises(BundleError, match=says):
            bundle.load(folder)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.write_bytes(original)
    assert "toy" == bundle.load(folder).name


def test_a_file_larger_than_any_is_not_read(folder: Path) -> None:
    """A sparse file of a terabyte takes no room on disk, and must not take any in memory."""
    with (folder / "source.spm").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="larger than"):
        bundle.load(folder)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return the data with some bytes changed, moved, doubled or gone."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(changed) + 1)
        size = chance.choice((1, 1, 2, 8, 64))
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + size] = b""
            case 2:
                changed[at:at] = changed[at : at + size]
            case 3:
                changed[at : at + size] = chance.randbytes(size)
            case _:
                changed[at : at + 1] = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    return bytes(changed)


def outcome(repository: Path) -> str:
    """Load a repository as a server does; return how that ends."""
    try:
        source = models.Repository(Settings(model_repository=repository, provider="cpu", threads=1))
        for found in source.find():
            source.load(found)
    except StartupError as error:
        return type(error).__name__
    return "loaded"


def main(repository: Path, count: int, seed: int) -> None:
    """Load mutants; write down how they end, and by how many megabytes this process grew."""
    chance = random.Random(seed)  # noqa: S311  mutants are no secrets
    folder = onnx_toy.write_bundle(repository)
    from tests.serving import character_model  # noqa: PLC0415

    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(character_model())
    rehash(folder)
    originals = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "loaded" == outcome(repository)
    outcomes: collections.Counter[str] = collections.Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        name = chance.choice(("decoder_step.onnx", "encoder.onnx", "source.spm", bundle.MANIFEST))
        (folder / name).write_bytes(mutate(originals[name], chance))
        if name != bundle.MANIFEST:
            rehash(folder)
        (repository / "last").write_text(f"{number} {name}")
        outcomes[outcome(repository)] += 1
        for changed in {name, bundle.MANIFEST}:
            (folder / changed).write_bytes(originals[changed])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (repository / "found").write_text(json.dumps({"outcomes": outcomes, "grown": (after - before) // 1024}))


def test_mutants_end_well(tmp_path: Path) -> None:
    """Each is loaded or refused; the process neither crashes nor hangs nor grows."""
    seed = int(os.environ.get("DRAGOMAN_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    code = "import sys, pathlib; from tests.integration import test_hostile_bundles as bundles\n"
    code += f"bundles.main(pathlib.Path(sys.argv[1]), {MUTANTS}, {seed})"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=False, text=True,
        capture_output=True, timeout=60 + 2 * MUTANTS,
    )  # fmt: skip
    last = (tmp_path / "last").read_text()
    assert 0 == done.returncode, f"seed {seed}, mutant {last}: {done.stderr[-2000:]}"
    found = json.loads((tmp_path / "found").read_text())
    print(f"{MUTANTS} mutants, seed {seed}: {found}")  # noqa: T201
    assert {"loaded", "BundleError"} >= found["outcomes"].keys()
    assert MUTANTS == sum(found["outcomes"].values())
    assert GROWTH_MEGABYTES >= found["grown"]
