"""float16 bundles of both families: proved, served by the engine, and refused where a value is no number."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import bundle_writer, checkpoint, onnx_decoding, originals
from export.bundle_writer import Order
from export.cli import main
from export.finite import WatchedModel
from export.original import Languages, Original
from export.verify import ParityError
from service.bundle import Bundle, ModelCard
from service.engine.session import OnnxModel
from tests.benchmark.stepping import at_random, decode
from tests.export.families import FAMILIES, languages_of
from tests.export.tiny import PAIRS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

SAMPLE = PAIRS[::150]
ORDER = Order(ModelCard("tiny", "any", "ko", "en", "CC0-1.0", "fp16", ""), "1", 20, SAMPLE, ())


@pytest.fixture(scope="module", params=["attention-rnn", "t5"])
def original(request: pytest.FixtureRequest, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
             ) -> Original:  # fmt: skip
    """Read a random checkpoint of each kind: recurrent, and a Transformer."""
    if request.param == "attention-rnn":
        return originals.load(checkpoint_folder, Languages("ko", "en"), SAMPLE)
    folder = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param](folder)
    return originals.load(folder, languages_of(request.param), SAMPLE)


@pytest.fixture(scope="module")
def made(original: Original) -> Bundle:
    """Make a proved float16 bundle of it."""
    return bundle_writer.make(original, ORDER)


def test_what_is_large_is_float16(made: Bundle) -> None:
    """Every large tensor of the files, and whatever is carried but an LSTM's cell, has sixteen bits."""
    carried = {tensor.name: tensor.dtype for tensor in made.manifest.decoder_step.inputs}
    stored = {
        tensor.data_type
        for graph in (made.manifest.encoder, made.manifest.decoder_step)
        for tensor in onnx.load_from_string(made.contents[graph.file]).graph.initializer
        if np.prod(tensor.dims) > 4096
    }

    assert {onnx.TensorProto.FLOAT16} == stored
    wide = {name for name, dtype in carried.items() if dtype == "float32"}
    assert wide == ({"cell"} if "cell" in carried else set())


def test_the_proof_counts_what_it_saw(made: Bundle) -> None:
    """The manifest says how far float16 is from PyTorch's float32, and over how many values all were finite."""
    parity = made.manifest.parity

    assert 0.0 < parity.max_log_prob_difference < 0.1
    assert parity.finite_values is not None
    assert parity.finite_values > 100_000


def test_the_engine_decodes_it(made: Bundle, original: Original) -> None:
    """Rows that join and leave give the words that they give in batches of their own."""
    model = OnnxModel.load(made, "cpu")
    sources = [original.source_ids(text) for text, _ in SAMPLE]
    together = decode(model, sources, at_random(1.0, seed=3), max_rows=8)
    alone = onnx_decoding.greedy_sorted(model, sources, rows=1)

    assert [output.target_ids for output in alone] == [list(one.hypotheses[0].token_ids) for one in together]


def overflowing(folder: Path, checkpoint_folder: Path) -> Path:
    """Write a checkpoint whose output weights are beyond what float16 can hold."""
    model = checkpoint.load(checkpoint_folder)
    with torch.no_grad():
        model.output.weight.mul_(1e6)
    for name in (checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY):
        (folder / name).write_bytes((checkpoint_folder / name).read_bytes())
    checkpoint.save(model, folder, torch.float32)
    return folder


def test_overflow_is_refused(checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a value is no number, nothing is published, and the message names tensor and step."""
    sentences, repository = tmp_path / "test.tsv", tmp_path / "repository"
    sentences.write_text("".join(f"{source}\t{target}\n" for source, target in SAMPLE), encoding="utf-8")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    overflowing(folder, checkpoint_folder)
    status = main([
        "bundle", str(folder), str(repository), "--name", "tiny", "--source-language", "ko", "--target-language", "en",
        "--license", "CC0-1.0", "--corpus-file", str(sentences), "--count", str(len(SAMPLE)), "--precision", "fp16",
    ])  # fmt: skip

    assert 1 == status
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "hidden of decoder step 0: " in message  # the embedding is the same matrix
    assert "values are NaN or infinite in fp16; make the bundle in fp32" in message
    assert not list(repository.rglob("*.onnx"))


@pytest.mark.parametrize("original", ["t5"], indirect=True)
def test_a_nan_in_a_cache_is_named(made: Bundle) -> None:
    """What lies in a cache is looked at like what a step returns."""
    model = WatchedModel.load(made)
    encoded = model.encode(np.full((1, 2), 5), np.array([2]))
    carried = encoded.memory | encoded.state
    for tensor in made.manifest.caches:
        shape = [axis if isinstance(axis, int) else {"row": 1, "target": 4}.get(axis, 1) for axis in tensor.axes]
        carried[tensor.name] = np.zeros(shape, tensor.dtype)
    carried[model.caches[0]][:, :, 3] = np.nan
    with pytest.raises(ParityError, match=rf"{model.caches[0]} of decoder step 0: \d+ of \d+ values are NaN"):
        model.step(np.array([5]), carried | {"lengths": np.array([0])}, 1, attention=False)
