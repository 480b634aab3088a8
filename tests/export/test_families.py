"""Transformers of every architecture: their bundles against the library's forward pass, `generate` and tokenizer."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export import bundle_writer, originals, verify
from export.bundle_writer import Order
from export.cli import main
from export.decoding import pad_sources
from export.transformer import hugging_face
from export.transformer.original import TransformerOriginal
from service import bundle
from service.bundle import Bundle, ModelCard, Precision
from service.engine.lane import Lane
from service.engine.layout import Layout
from service.engine.session import OnnxModel, Stepped
from service.tokenizer import Tokenizer
from tests.export.families import FAMILIES, languages_of, marian_separate
from tests.export.tiny import PAIRS

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

SAMPLE = PAIRS[::45]
FIRST_WORDS = {
    "marian": ["<pad>"], "m2m_100": ["</s>", "__en__"], "nllb": ["</s>", "eng_Latn"], "mbart": ["en_XX"],
    "bart": ["</s>", "<s>"], "t5": ["<pad>"],
}  # fmt: skip
"""The start symbol, and the word that the first step is made to choose."""
NEVER_CHOSEN = {"nllb": {40, 41}, "m2m_100": {400, 404, 407}}
"""Suppressed by generation_config.json; numbered by config.json, and without a piece."""


def order(precision: Precision = "fp32") -> Order:
    """Return what the bundles of these tests are asked to be."""
    return Order(ModelCard("tiny", "any", "ko", "en", "CC0-1.0", precision, ""), "1", 20, SAMPLE, ())


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Run a test once for each family."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random checkpoint."""
    written = tmp_path_factory.mktemp(family)
    FAMILIES[family](written)
    return written


@pytest.fixture(scope="module")
def original(family: str, folder: Path) -> TransformerOriginal:
    """Read it."""
    loaded = originals.load(folder, languages_of(family), SAMPLE)
    assert isinstance(loaded, TransformerOriginal)
    return loaded


@pytest.fixture(scope="module")
def made(original: TransformerOriginal) -> Bundle:
    """Make a proved bundle of it."""
    return bundle_writer.make(original, order())


@pytest.fixture(scope="module")
def model(made: Bundle) -> OnnxModel:
    """Load the bundle's graphs."""
    return OnnxModel.load(made, "cpu")


def test_a_bundle_is_equal_to_its_model(made: Bundle) -> None:
    """Memory, every step and whole translations are the library's, by greedy decoding and by the engine's beams."""
    parity = made.manifest.parity

    assert parity.beam is not None
    assert (len(SAMPLE), len(SAMPLE)) == (parity.beam.sentences, parity.beam.identical_sentences)
    assert (0.0, 0.0) == (parity.chrf_difference, parity.beam.chrf_difference)
    assert (len(SAMPLE), len(SAMPLE)) == (parity.sentences, parity.identical_sentences)
    assert parity.max_memory_difference < 1e-5
    assert parity.max_log_prob_difference < 1e-5
    assert parity.max_attention_difference < 1e-5


def test_the_manifest_names_caches(made: Bundle) -> None:
    """Keys and values of each layer are caches of a row's own, and memory belongs to a group."""
    reads = {tensor.name: tensor.axes for tensor in made.manifest.decoder_step.inputs}

    assert ["keys_0", "values_0", "keys_1", "values_1"] == [tensor.name for tensor in made.manifest.caches]
    assert ("row", "target") == (reads["keys_0"][0], reads["keys_0"][2])
    assert ("group", "source") == (reads["cross_keys_0"][0], reads["cross_keys_0"][2])
    assert (("row",), ("group", "source")) == (reads["lengths"], reads["mask"])
    assert made.manifest.attention_layer in (0, 1)
    assert 24 == made.manifest.provenance.opset


def test_ids_are_those_of_the_library(made: Bundle, original: TransformerOriginal) -> None:
    """The service's tokenizer cuts, numbers and joins as the library's does, without the library."""
    tokenizer = Tokenizer.from_bundle(made)
    for source, target in PAIRS[::3]:
        ids = original.target_ids(target)
        assert tuple(original.source_ids(source)) == tokenizer.encode(source).ids
        assert tuple(ids) == tokenizer.encode_target(target)
        assert original.target_text(ids) == tokenizer.decode(ids)
        assert len(ids) == len(tokenizer.target_spans(ids))


def test_the_first_words(family: str, original: TransformerOriginal, model: OnnxModel) -> None:
    """A model of many languages begins with the one that is asked for, by its start symbol or its first word."""
    library: Any = hugging_face.load(original.facts.weights[0].parent).tokenizer
    numbers = [library.convert_tokens_to_ids(piece) for piece in FIRST_WORDS[family]]
    encoded = model.encode(np.full((1, 2), 5), np.array([2]))
    lane = Lane(model, Layout.of(model.manifest), 1)
    lane.insert(encoded, np.array([2]), [0], model.manifest.tokenizer.start_id)
    found = [int(lane.tokens[0])]
    for _ in numbers[1:]:
        stepped = lane.advance(2, attention=False)
        assert [0.0, -np.inf] == stepped.log_probs[0].tolist()
        found.append(int(stepped.ids[0, 0]))

    assert numbers == found


def test_words_that_are_never_chosen(family: str, original: TransformerOriginal, model: OnnxModel) -> None:
    """Padding, suppressed words and ids without a piece cost so much that nothing ever is worth them."""
    suppressed, pad_id = original.rules.suppressed, model.manifest.tokenizer.pad_id
    lane = Lane(model, Layout.of(model.manifest), 1)
    lane.insert(model.encode(np.full((1, 2), 5), np.array([2])), np.array([2]), [0],
                model.manifest.tokenizer.start_id)  # fmt: skip
    lane.advance(1, attention=False)
    stepped = lane.advance(300, attention=False)
    likely = set(stepped.ids[0][stepped.log_probs[0] > -1e6].tolist())

    assert pad_id in suppressed
    assert NEVER_CHOSEN.get(family, set()) <= set(suppressed)
    assert likely
    assert not likely.intersection(suppressed)


def test_rows_of_any_age_share_a_batch(model: OnnxModel, original: TransformerOriginal) -> None:
    """Sentences that join one by one, when others are on their way or gone, come out as `generate` makes them."""
    sources = [original.source_ids(text) for text, _ in SAMPLE[:6]]
    expected = [output.target_ids for output in original.greedy(sources)]
    special, limits = model.manifest.tokenizer, model.manifest.decoding
    ends = [limits.target_limit(len(source)) for source in sources]
    lane, running = Lane(model, Layout.of(model.manifest), 1), list[int]()
    found: list[list[int]] = [[] for _ in sources]
    for step in itertools.count():
        if step % 4 == 0 and step // 4 < len(sources):
            running.append(step // 4)
            ids, lengths = pad_sources(sources[step // 4 :][:1], special.pad_id)
            lane.insert(model.encode(ids.numpy(), lengths.numpy()), lengths.numpy(), [0], special.start_id)
        elif not running:
            break
        lane.tokens = lane.advance(1, attention=False).ids[:, 0].copy()
        going = []
        for row, number in enumerate(running):
            token = int(lane.tokens[row])
            found[number] += [token] if token != special.end_id else []
            if token != special.end_id and len(found[number]) < ends[number]:
                going.append(row)
        lane.keep(going)
        running = [running[row] for row in going]

    assert expected == found


def test_what_lies_behind_a_row_does_not_count(model: OnnxModel) -> None:
    """Columns that an earlier row left in a cache, and rows beside it, change nothing."""
    ids, lengths = np.full((1, 3), 5), np.array([3])
    encoded, shapes = model.encode(ids, lengths), Layout.of(model.manifest).caches
    outcomes: list[Stepped] = []
    for rows, filling in ((1, 0.0), (3, 7.5)):
        caches = {
            name: np.full((rows, *(8 if axis == "target" else int(axis) for axis in tensor.axes[1:])), filling, "f4")
            for name, tensor in shapes.items()
        }
        memory = {name: values.repeat(rows, axis=0) for name, values in encoded.memory.items()}
        carried = memory | caches
        for age, token in enumerate((model.manifest.tokenizer.start_id, 6, 7)):
            carried["lengths"] = np.array([age, 2, 5][:rows])
            outcomes.append(model.step(np.array([token, 9, 8][:rows]), carried, 4, attention=True))

    for clean, used in zip(outcomes[:3], outcomes[3:], strict=True):
        np.testing.assert_array_equal(clean.ids[0], used.ids[0])
        np.testing.assert_allclose(clean.log_probs[0], used.log_probs[0], atol=1e-5)


@pytest.mark.parametrize("name", ["marian", "t5"])
def test_int8(name: str, tmp_path: Path) -> None:
    """An int8 bundle costs words about the same, and a row's are the same to the last bit whoever is beside it."""
    FAMILIES[name](tmp_path)
    original = originals.load(tmp_path, languages_of(name), SAMPLE)
    made = bundle_writer.assemble(original, order("int8"))
    model = OnnxModel.load(made, "cpu")
    verify.check(
        list(verify.compare_batch(model, original, 4, 9)),
        verify.TOLERANCES["int8"]._replace(memory=1.0, log_prob=3.0, mean_log_prob=0.5, attention=0.5), "4 x 9",
    )  # fmt: skip
    ids, lengths = verify.mixed_sources(5, 9, original.facts.words, model.manifest.tokenizer.pad_id)
    lanes = [Lane(model, Layout.of(model.manifest), 1) for _ in range(2)]
    for lane, rows in zip(lanes, (5, 1), strict=True):
        encoded = model.encode(ids[:rows].numpy().copy(), lengths[:rows].numpy())
        lane.insert(encoded, lengths[:rows].numpy(), range(rows), model.manifest.tokenizer.start_id)
    for _ in range(6):
        together, alone = (lane.advance(3, attention=False) for lane in lanes)
        for lane, stepped in zip(lanes, (together, alone), strict=True):
            lane.tokens = stepped.ids[:, 0].copy()

        np.testing.assert_array_equal(alone.ids, together.ids[:1])
        np.testing.assert_array_equal(alone.log_probs, together.log_probs[:1])
    types = {node.op_type for node in onnx.load_from_string(made.contents["decoder_step.onnx"]).graph.node}
    assert {"QuantizeLinear", "TensorScatter" if name == "t5" else "GroupQueryAttention"} <= types
    assert "MatMulInteger" not in types  # No product measures its row.


def test_vocabularies_of_their_own(tmp_path: Path) -> None:
    """A Marian model may number the words of its languages separately."""
    marian_separate(tmp_path)
    loaded = originals.load(tmp_path, languages_of("marian"), SAMPLE)
    assert isinstance(loaded, TransformerOriginal)
    made = bundle_writer.make(loaded, order())
    tokenizer = Tokenizer.from_bundle(made)

    assert len(SAMPLE) == made.manifest.parity.identical_sentences
    assert ("vocab.json", "target_vocab.json") == (made.manifest.tokenizer.ids_file,
                                                   made.manifest.tokenizer.target_ids_file)  # fmt: skip
    for source, target in SAMPLE:
        assert tuple(loaded.source_ids(source)) == tokenizer.encode(source).ids
        assert tuple(loaded.target_ids(target)) == tokenizer.encode_target(target)
        assert target == tokenizer.decode(tokenizer.encode_target(target))


@pytest.fixture
def marian_folder(tmp_path: Path) -> Path:
    """Write one checkpoint of the family that people have."""
    written = tmp_path / "marian"
    written.mkdir()
    FAMILIES["marian"](written)
    return written


def test_commands(marian_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bundle` knows a folder of Hugging Face's, and `verify` proves its bundle again."""
    sentences = tmp_path / "test.tsv"
    sentences.write_text("".join(f"{source}\t{target}\n" for source, target in SAMPLE), encoding="utf-8")
    count = str(len(SAMPLE))
    assert 0 == main([
        "bundle", str(marian_folder), str(tmp_path / "models"), "--name", "tiny", "--source-language", "ko",
        "--target-language", "en", "--license", "CC0-1.0", "--corpus-file", str(sentences), "--count", count,
        "--test-set", str(sentences),
    ])  # fmt: skip
    assert 0 == main(["verify", str(tmp_path / "models/tiny/1"), "--checkpoint", str(marian_folder),
                      "--sentences", str(sentences), "--count", count])  # fmt: skip

    manifest = bundle.load(tmp_path / "models/tiny/1").manifest
    assert 2 == capsys.readouterr().out.count(f"{count} of {count} sentences translated as in PyTorch")
    assert ("marian", "vocab.json") == (manifest.model.family, manifest.tokenizer.ids_file)
    assert "transformers" in manifest.provenance.tools
