"""ONNX Runtime behind the Model interface, on real graphs."""

from pathlib import Path

import numpy as np
import pytest

from service import bundle
from service.bundle import Bundle
from service.engine.engine import Engine
from service.engine.runtime.ort import saturates
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.errors import BundleError
from service.request import DecodingParams, Request
from tests.fakes import FakePermit, Recorder, ReversingModel

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    """Load the toy bundle."""
    return bundle.load(onnx_toy.write_bundle(tmp_path))


def test_graphs_give_what_the_model_gives(toy: Bundle) -> None:
    """Encoding and a step on ONNX Runtime equal the same model worked out by hand."""
    real, fake = OnnxModel.load(toy, "cpu"), ReversingModel()
    ids, lengths = np.array([[5, 6, 7], [8, 9, 0]]), np.array([3, 2])
    for model in (real, fake):
        encoded = model.encode(ids, lengths)
        stepped = model.step(np.array([2, 2]), encoded.memory | encoded.state, 2, attention=True)
        assert [[7, 7], [9, 9]] == stepped.ids.tolist()
        assert [[-0.5, -0.5], [-0.5, -0.5]] == stepped.log_probs.tolist()
        assert [[2.0], [1.0]] == stepped.state["position"].tolist()
        assert stepped.attention is not None
        assert [[0, 0, 1], [0, 1, 0]] == stepped.attention.tolist()


def test_attention_is_fetched_only_where_it_is_wanted(toy: Bundle) -> None:
    """A step without the wish returns no weights."""
    model = OnnxModel.load(toy, "cpu")
    encoded = model.encode(np.array([[5]]), np.array([1]))
    assert model.step(np.array([2]), encoded.memory | encoded.state, 1, attention=False).attention is None


def test_the_engine_decodes_on_real_graphs(toy: Bundle) -> None:
    """The whole engine runs on ONNX Runtime, sources of many lengths at once."""
    recorder = Recorder()
    engine = Engine(OnnxModel.load(toy, "cpu"), Limits(max_rows=3), recorder.deliver, recorder, recorder.fail)
    sources = [tuple(range(10, 10 + length)) for length in (1, 30, 4, 17, 2, 9)]
    for name, source in enumerate(sources):
        engine.submit(Request(str(name), source, DecodingParams(60)), FakePermit())
    while engine.step():
        pass
    assert [source[::-1] for source in sources] == [
        recorder.last(str(name)).hypotheses[0].token_ids for name in range(len(sources))
    ]


def test_graphs_that_do_not_match_the_manifest_are_refused(tmp_path: Path) -> None:
    """The message names the file and the tensor."""
    folder = onnx_toy.write_bundle(tmp_path, decoder=onnx_toy.decoder_graph(state="place"))
    with pytest.raises(BundleError, match=r"decoder_step\.onnx: input place is .* the manifest says nothing of it"):
        OnnxModel.load(bundle.load(folder), "cpu")


def test_what_is_no_graph_is_refused(toy: Bundle) -> None:
    """Bytes that ONNX Runtime cannot read end as a bundle error."""
    broken = Bundle(toy.name, toy.version, toy.manifest, {**toy.contents, "encoder.onnx": b"no graph"})
    with pytest.raises(BundleError, match=r"encoder\.onnx of toy is no graph that runs here"):
        OnnxModel.load(broken, "cpu")


def test_graphs_that_fail_are_found_at_load(tmp_path: Path) -> None:
    """A step that cannot take what the encoder gives is found before the first request."""
    folder = onnx_toy.write_bundle(tmp_path)
    loaded = bundle.load(folder)
    shape = onnx_toy.encoder_graph()
    shape.graph.initializer[0].CopyFrom(onnx_toy.numpy_helper.from_array(np.array([-7]), "last"))
    broken = Bundle("toy", "1", loaded.manifest, {**loaded.contents, "encoder.onnx": shape.SerializeToString()})
    with pytest.raises(BundleError):
        OnnxModel.load(broken, "cpu")


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [("x86_64", "avx2 fma", True), ("x86_64", "avx2 avx512_vnni", False), ("x86_64", "avx_vnni", False),
     ("aarch64", "asimd", False)],
)  # fmt: skip
def test_old_processors_are_told_from_new_ones(tmp_path: Path, machine: str, flags: str, *, expected: bool) -> None:
    """Without VNNI, bytes are multiplied exactly instead of fast; elsewhere, and where nothing is known, fast."""
    cpuinfo = tmp_path / "cpuinfo"
    assert not saturates(machine, cpuinfo)
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    assert expected is saturates(machine, cpuinfo)
