"""The contract with export: a bundle's manifest, and the checks before anything in the bundle is believed."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from service import graph_file
from service.errors import BundleError
from service.findings import BeamParity, Parity, Part, Provenance, Quality, SelfTest

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "MANIFEST",
    "MAX_FILE_BYTES",
    "MAX_MANIFEST_BYTES",
    "Axis",
    "BeamParity",
    "Bundle",
    "Decoding",
    "Graph",
    "Manifest",
    "ModelCard",
    "Parity",
    "Part",
    "Precision",
    "Provenance",
    "Quality",
    "SelfTest",
    "StatePair",
    "Tensor",
    "Tokenizer",
    "load",
    "read_manifest",
]  # With what is in findings, it is one contract.

FORMAT = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = (1 << 31) - 1
"""No protobuf message, so no graph, can be larger."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Axis = Literal["row", "group", "source", "target", "candidate"] | int
Precision = Literal["fp32", "fp16", "int8"]


class Tensor(Part, frozen=True):
    """An input or output of a graph: ONNX element type as numpy names it, and named or fixed axes."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]


class Graph(Part, frozen=True):
    """One ONNX file and its signature."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class StatePair(Part, frozen=True):
    """A state tensor: what a step reads under `input` it writes under `output`.

    The encoder writes `input` first, unless it is a cache, which begins empty.
    """

    input: str
    output: str


class Tokenizer(Part, frozen=True):
    """How a text becomes ids, and the special ids; every source gets `source_prefix` and `source_suffix`.

    Of kind `sentencepiece` both files are SentencePiece models, and pieces have the numbers that the model gives them,
    or those of `ids_file`, a JSON object of piece to id, if there is one; those of the target have the numbers of
    `target_ids_file` if there is another. Of kind `tokenizers` they are the
    `tokenizer.json` of Hugging Face's library. `special_ids` stand for no text: decoding leaves them out.
    """

    kind: Literal["sentencepiece", "tokenizers"]
    source_file: str
    target_file: str
    pad_id: int
    unknown_id: int
    start_id: int
    end_id: int
    source_suffix: tuple[int, ...]
    source_prefix: tuple[int, ...] = ()
    ids_file: str | None = None
    special_ids: tuple[int, ...] = ()
    target_ids_file: str | None = None

    @property
    def files(self) -> set[str]:
        """Names of the files that it is made of."""
        return {self.source_file, self.target_file, *filter(None, (self.ids_file, self.target_ids_file))}


class ModelCard(Part, frozen=True):
    """What the model is. `license` is an SPDX expression; `data` says in one line what it was trained on."""

    name: str
    family: str
    source_language: str
    target_language: str
    license: str
    precision: Precision
    data: str


class Decoding(Part, frozen=True):
    """Defaults and limits, in tokens. A text of n source tokens gets min(max_target_tokens, ratio · n + offset)."""

    max_source_tokens: int
    max_target_tokens: int
    target_ratio: float
    target_offset: int
    length_penalty: float

    def target_limit(self, source_tokens: int) -> int:
        """Return how many tokens a translation of so many source tokens may have by default."""
        return min(self.max_target_tokens, int(self.target_ratio * source_tokens) + self.target_offset)


class Manifest(Part, frozen=True):
    """Everything that the engine knows about a model.

    `memory` names the encoder outputs that every step reads (`[row, …]` with an axis `source`, zero at padding, which
    must mean masked); `state` the tensors that every step reads and writes (`[row, …]`); `attention` the step's output
    `[row, source]`, None for a model without attention. The other names are fixed: the encoder reads `source_ids`
    `[row, source]` and `source_lengths` `[row]`; a step reads `token_ids` `[row]` and `k` `[1]`, and writes
    `log_probs` and `ids` `[row, candidate]`, best first; all ids and lengths are int64.

    State with an axis `target` is a cache: that axis is its capacity, which the engine chooses, the same for all. With
    caches a step also reads `lengths` `[row]` int64, how many tokens of the row they hold: the step writes its column
    there, attends to columns up to it, and leaves all others as they are, so that output and input may be one buffer.
    Columns behind a row's length may hold anything finite.

    A step reads memory as `[group, …]`: rows that attend to one source share it. Every group has as many rows
    as the next, and they lie together: row r attends to memory `r // (rows // groups)`.
    """

    format: int
    model: ModelCard
    provenance: Provenance
    tokenizer: Tokenizer
    encoder: Graph
    decoder_step: Graph
    memory: tuple[str, ...]
    state: tuple[StatePair, ...]
    attention: str | None
    decoding: Decoding
    parity: Parity
    quality: tuple[Quality, ...]
    files: Mapping[str, str]
    """sha256 of every other file of the bundle, by name."""
    attention_layer: int | None = None
    """Where the decoder has several attentions, its layer, from 0, whose heads' mean `attention` is."""
    self_test: SelfTest | None = None
    """None in bundles of earlier exports."""

    @property
    def caches(self) -> tuple[Tensor, ...]:
        """The step's inputs that grow along `target`."""
        state = {pair.input for pair in self.state}
        return tuple(t for t in self.decoder_step.inputs if t.name in state and "target" in t.axes)

    def to_json(self) -> str:
        """Return the text of bundle.json."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: its files had the manifest's hashes when they were read into `contents`."""

    name: str
    version: str
    manifest: Manifest
    contents: Mapping[str, bytes]


def read_manifest(folder: Path) -> Manifest:
    """Read and validate bundle.json alone; raise BundleError."""
    text = _read(folder, MANIFEST, MAX_MANIFEST_BYTES)
    advice = f"this version reads format {FORMAT}: export the bundle again"
    try:
        found = msgspec.json.decode(text, type=_AnyFormat).format
        if found != FORMAT:
            raise BundleError(f"{folder / MANIFEST} has format {found}; {advice}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / MANIFEST} is not a manifest ({error}); {advice}") from error
    if broken := _broken_rule(manifest):
        raise BundleError(f"{folder / MANIFEST}: {broken}; {advice}")
    return manifest


def load(folder: Path) -> Bundle:
    """Read a bundle `<model>/<version>` whole and verify every file against its hash; raise BundleError.

    Nothing outside the folder is read: not by a name, not by a link, not by what a graph refers to.
    """
    manifest = read_manifest(folder)
    contents = {}
    for name, expected in manifest.files.items():
        contents[name] = data = _read(folder, name)
        if hashlib.sha256(data).hexdigest() != expected:
            raise BundleError(f"{folder / name} was altered: its sha256 is not the manifest's; restore the bundle")
    for name in (manifest.encoder.file, manifest.decoder_step.file):
        if reason := graph_file.fault(contents[name]):
            raise BundleError(f"{folder / name} {reason}; export the bundle again, or ask who made it")
    return Bundle(folder.parent.name, folder.name, manifest, contents)


def _read(folder: Path, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a plain file of at most `limit` bytes; never a link, nor a pipe or device, which might never end."""
    path = folder / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BundleError(f"{path} is no plain file; a bundle holds plain files only")
            if found.st_size > limit:
                raise BundleError(f"{path} is larger than {limit} bytes; this belongs to no bundle")
            return file.read(found.st_size)  # room for `limit` bytes would be taken at once
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; give the folder of a whole bundle") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BundleError(f"{path} is a symbolic link; a bundle holds plain files only") from error
        raise BundleError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


class _AnyFormat(msgspec.Struct):
    """The one field that every format has."""

    format: int


def _broken_rule(manifest: Manifest) -> str | None:
    """Check what the types cannot say: names that refer to each other, plain file names, sane limits."""
    needed = {manifest.encoder.file, manifest.decoder_step.file, *manifest.tokenizer.files}
    encoded = {tensor.name for tensor in manifest.encoder.outputs}
    step_reads = {tensor.name for tensor in manifest.decoder_step.inputs}
    step_writes = {tensor.name for tensor in manifest.decoder_step.outputs}
    caches = {tensor.name for tensor in manifest.caches}
    begun = {*manifest.memory, *(pair.input for pair in manifest.state)} - caches
    read = begun | caches | {"token_ids", "k"} | ({"lengths"} if caches else set())
    written = {pair.output for pair in manifest.state} | {"log_probs", "ids"}
    written |= {manifest.attention} if manifest.attention else set()
    rules = [
        (all(FILE_NAME.fullmatch(name) for name in manifest.files), "files: every name must be a plain file name"),
        (needed <= manifest.files.keys(), f"files: {sorted(needed - manifest.files.keys())} have no sha256"),
        (begun <= encoded, f"encoder.outputs: {sorted(begun - encoded)} are not there"),
        (step_reads == read, "decoder_step.inputs: must be memory, state, token_ids and k, and lengths beside caches"),
        (written <= step_writes, f"decoder_step.outputs: {sorted(written - step_writes)} are not there"),
        ({t.name for t in manifest.encoder.inputs} == {"source_ids", "source_lengths"},
         "encoder.inputs: must be source_ids and source_lengths"),
        (manifest.decoding.max_source_tokens >= 1 and manifest.decoding.max_target_tokens >= 1,
         "decoding: limits must be at least 1"),
    ]  # fmt: skip
    return next((message for holds, message in rules if not holds), None)
