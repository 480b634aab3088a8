"""From a checkpoint to a bundle: assembled in memory, proved, measured, and only then written, all or nothing."""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import onnx

from export import checkpoint, graphs, onnx_decoding, vocabulary
from export.decoding import DEFAULTS
from export.models.attention_rnn import AttentionRnn
from export.quantize import quantize
from export.signature import read_graph
from export.storage import halve
from export.training.evaluate import score
from export.verify import verify
from export.vocabulary import Vocabularies
from service import bundle
from service.bundle import Bundle, Manifest, ModelCard, Provenance, Quality, StatePair, Tokenizer
from service.engine.session import OnnxModel

ENCODER, DECODER_STEP = "encoder.onnx", "decoder_step.onnx"
TOOLS = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "sentencepiece", "sacrebleu")
UNMEASURED = bundle.Parity((), 0.0, 0.0, 0.0, 0, 0, ())

Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What to make: the card, the version, the opset, and the texts to prove and to measure it with."""

    card: ModelCard
    version: str
    opset: int
    parity_pairs: Pairs
    test_sets: tuple[tuple[str, Pairs], ...]
    """Name and (source, reference) pairs of each."""


def make(folder: Path, order: Order) -> Bundle:
    """Make a bundle of the checkpoint in `folder`; raise ParityError where it is not equal to its model."""
    model = checkpoint.load(folder)
    vocabularies = checkpoint.load_vocabularies(folder)
    check_vocabularies(model, vocabularies)
    assembled = assemble(model, folder, order)
    onnx_model = OnnxModel.load(assembled, "cpu")
    parity = verify(onnx_model, model, vocabularies, order.parity_pairs)
    quality = tuple(measure(onnx_model, vocabularies, name, pairs) for name, pairs in order.test_sets)
    manifest = msgspec.structs.replace(assembled.manifest, parity=parity, quality=quality)
    return dataclasses.replace(assembled, manifest=manifest)


def check_vocabularies(model: AttentionRnn, vocabularies: Vocabularies) -> None:
    """Raise ValueError where a SentencePiece model knows more words than the network."""
    config = model.config
    for side, size in (("source", config.source_vocabulary_size), ("target", config.target_vocabulary_size)):
        words = getattr(vocabularies, side).get_piece_size()
        if words > size:
            raise ValueError(f"the {side} vocabulary has {words} subwords, the network {size}: they do not belong "
                             "together")  # fmt: skip


def assemble(model: AttentionRnn, folder: Path, order: Order) -> Bundle:
    """Trace, quantize where asked to, and describe; parity and quality are still to be measured."""
    traced = graphs.trace(model, order.opset)
    if order.card.precision == "int8":
        quantize(traced.encoder, products=False)
        quantize(traced.decoder_step, products=True, bounded=traced.signature.bounded)
    else:
        halve(traced.encoder)
        halve(traced.decoder_step)
    contents = {ENCODER: traced.encoder.SerializeToString(), DECODER_STEP: traced.decoder_step.SerializeToString()}
    for name in (checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY):
        contents[name] = (folder / name).read_bytes()
    manifest = describe(traced, order, sha256(checkpoint.weights_file(folder).read_bytes()), contents)
    return Bundle(order.card.name, order.version, manifest, contents)


def describe(traced: graphs.Graphs, order: Order, checkpoint_hash: str, contents: dict[str, bytes]) -> Manifest:
    """Write the manifest; the graphs' signatures are read from the very bytes that are stored."""
    return Manifest(
        format=bundle.FORMAT,
        model=order.card,
        provenance=Provenance(checkpoint_hash, order.opset, tool_versions()),
        tokenizer=Tokenizer(
            "sentencepiece", checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY,
            vocabulary.PAD_ID, vocabulary.UNKNOWN_ID, vocabulary.START_ID, vocabulary.END_ID, (vocabulary.END_ID,),
        ),
        encoder=read_graph(onnx.load_from_string(contents[ENCODER]), ENCODER),
        decoder_step=read_graph(onnx.load_from_string(contents[DECODER_STEP]), DECODER_STEP),
        memory=traced.signature.memory,
        state=tuple(StatePair(name, graphs.STATE_PREFIX + name) for name in traced.signature.state),
        attention=traced.signature.attention,
        decoding=DEFAULTS,
        parity=UNMEASURED,
        quality=(),
        files={name: sha256(data) for name, data in sorted(contents.items())},
    )  # fmt: skip


def measure(model: OnnxModel, vocabularies: Vocabularies, name: str, pairs: Pairs) -> Quality:
    """Translate a test set with the bundle itself and score it."""
    outputs = onnx_decoding.greedy_sorted(model, [vocabularies.source_ids(source) for source, _ in pairs])
    translations = [vocabularies.target_text(output.target_ids) for output in outputs]
    found = score(translations, [reference for _, reference in pairs])
    return Quality(name, round(found.chrf, 2), round(found.bleu, 2), found.chrf_signature, found.bleu_signature)


def target_folder(repository: Path, name: str, version_name: str) -> Path:
    """Return `<repository>/<model>/<version>`; raise ValueError for names that are no plain folder names."""
    for word in (name, version_name):
        if not bundle.FILE_NAME.fullmatch(word):
            raise ValueError(f"{word!r} cannot name a folder; use letters, digits, '.', '_' and '-'")
    return repository / name / version_name


def write(made: Bundle, repository: Path, *, replace: bool) -> Path:
    """Write a bundle into a model repository: whole, or not at all. An older one goes only if `replace` is set."""
    folder = target_folder(repository, made.name, made.version)
    if folder.exists() and not replace:
        raise ValueError(f"{folder} exists; choose another --version, or --force to replace it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Hidden, so that a server that reads the repository meanwhile does not take it for a version.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
            _write_into(Path(partial), made, folder)
    except OSError as error:
        raise ValueError(
            f"{folder} could not be written ({error.strerror}); check space and permissions, then try again"
        ) from error
    return folder


def _write_into(partial: Path, made: Bundle, folder: Path) -> None:
    """Write beside the target, read it back, and only then give it its name."""
    fresh = partial / made.version
    fresh.mkdir()
    for name, data in made.contents.items():
        (fresh / name).write_bytes(data)
    (fresh / bundle.MANIFEST).write_text(made.manifest.to_json(), encoding="utf-8")
    bundle.load(fresh)
    if folder.exists():
        folder.rename(partial / "replaced")
    fresh.rename(folder)


def tool_versions() -> dict[str, str]:
    """Return the versions of the tools that made the bundle; ONNX Runtime goes by one of two names."""
    versions = {}
    for tool in TOOLS:
        with contextlib.suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions


def sha256(data: bytes) -> str:
    """Return the hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()
