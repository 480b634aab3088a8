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

from export import engine_decoding, onnx_decoding, self_test
from export.decoding import Beam
from export.finite import WatchedModel
from export.graphs import STATE_PREFIX, Graphs
from export.half import provable
from export.original import Facts, Original
from export.signature import read_graph
from export.training.evaluate import score
from export.verify import verify
from service import bundle
from service.bundle import Bundle, Manifest, ModelCard, Provenance, Quality, StatePair
from service.engine.session import OnnxModel

ENCODER, DECODER_STEP = "encoder.onnx", "decoder_step.onnx"
TOOLS = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "sentencepiece", "sacrebleu", "transformers")
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
    beam: Beam | None = None
    """What they are also measured with, besides greedy decoding."""


def make(original: Original, order: Order) -> Bundle:
    """Make a bundle of a model; raise ParityError where it is not equal to it."""
    assembled = assemble(original, order)
    onnx_model = WatchedModel.load(provable(assembled))
    parity = verify(onnx_model, original, order.parity_pairs)
    quality = tuple(measure(onnx_model, original, test_set) for test_set in order.test_sets)
    if order.beam is not None:
        quality += tuple(measure(onnx_model, original, test_set, order.beam) for test_set in order.test_sets)
    parity = onnx_model.counted(parity)
    recorded = self_test.choose(onnx_model, original, [source for source, _ in order.parity_pairs])
    manifest = msgspec.structs.replace(assembled.manifest, parity=parity, quality=quality, self_test=recorded)
    return dataclasses.replace(assembled, manifest=manifest)


def assemble(original: Original, order: Order) -> Bundle:
    """Trace, store in the precision asked for, and describe; parity and quality are still to be measured."""
    traced = original.graphs(order.card.precision, order.opset)
    contents = {ENCODER: traced.encoder.SerializeToString(), DECODER_STEP: traced.decoder_step.SerializeToString(),
                **original.facts.tokenizer_files}  # fmt: skip
    return Bundle(order.card.name, order.version, describe(original.facts, traced, order, contents), contents)


def describe(facts: Facts, traced: Graphs, order: Order, contents: dict[str, bytes]) -> Manifest:
    """Write the manifest; the graphs' signatures are read from the very bytes that are stored."""
    opset = traced.decoder_step.opset_import[0].version
    return Manifest(
        format=bundle.FORMAT,
        model=order.card,
        provenance=Provenance(hash_of(facts.weights), opset, tool_versions()),
        tokenizer=facts.tokenizer,
        encoder=read_graph(onnx.load_from_string(contents[ENCODER]), ENCODER),
        decoder_step=read_graph(onnx.load_from_string(contents[DECODER_STEP]), DECODER_STEP),
        memory=traced.signature.memory,
        state=tuple(StatePair(name, STATE_PREFIX + name) for name in traced.signature.state),
        attention=traced.signature.attention,
        decoding=facts.limits,
        parity=UNMEASURED,
        quality=(),
        files={name: sha256(data) for name, data in sorted(contents.items())},
        attention_layer=facts.attention_layer,
    )


def measure(model: OnnxModel, original: Original, test_set: tuple[str, Pairs], beam: Beam | None = None) -> Quality:
    """Translate a test set with the bundle itself, greedily or by beam search, and score it."""
    name, pairs = test_set
    sources = [original.source_ids(source) for source, _ in pairs]
    if beam is None:
        targets = [output.target_ids for output in onnx_decoding.greedy_sorted(model, sources)]
    else:
        targets = [output.target_ids for output in engine_decoding.search(model, sources, beam)]
        name = f"{name}, beam {beam.size}"
    found = score([original.target_text(ids) for ids in targets], [reference for _, reference in pairs])
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


def hash_of(weights: Sequence[Path]) -> str:
    """Return the sha256 of the weights: of the file, or of all files' in their order."""
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """Return the hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()
