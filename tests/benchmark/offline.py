"""What the service is compared with: the tightest loop over static batches, on ONNX Runtime. Needs no torch."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export import vocabulary
from export.vocabulary import Vocabularies
from service import bundle
from service.bundle import Decoding, Manifest
from service.request import Int64
from tests.benchmark.load import Repeated, Run, Translated

Arrays = dict[str, NDArray[Any]]


class BatchDecoder(Protocol):
    """Decodes one batch greedily; returns `[row, step]` ids, of which those behind the end symbol mean nothing."""

    def __call__(self, sources: Sequence[Sequence[int]]) -> Int64:
        """Decode until all rows have ended."""


class Offline:
    """Tokenizes all texts, decodes them in batches of similar length, and detokenizes: all of it is timed."""

    def __init__(self, vocabularies: Vocabularies, limits: Decoding, decode: BatchDecoder, rows: int) -> None:
        self._vocabularies = vocabularies
        self._limits = limits
        self._decode = decode
        self._rows = rows

    def __call__(self, texts: Sequence[str]) -> Run:
        """Translate all texts."""
        started = time.perf_counter()
        sources: list[list[int]] = self._vocabularies.source.encode(list(texts), add_eos=True, num_threads=1)
        order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        targets: list[list[int]] = [[]] * len(sources)
        for start in range(0, len(order), self._rows):
            chosen = order[start : start + self._rows]
            produced = self._decode([sources[index] for index in chosen])
            for index, row in zip(chosen, produced.tolist(), strict=True):
                limited = row[: self._limits.target_limit(len(sources[index]))]
                targets[index] = (
                    limited[: limited.index(vocabulary.END_ID)] if vocabulary.END_ID in limited else limited
                )
        found: list[str] = self._vocabularies.target.decode(targets, num_threads=1)
        seconds = time.perf_counter() - started
        pieces = [self._vocabularies.target.id_to_piece(ids) for ids in targets]
        return Run([Translated(*one) for one in zip(found, pieces, strict=True)], seconds)

    def repeat(self, text: str, times: int) -> Repeated:
        """Translate one text so many times, as OneByOne asks the server to."""
        runs = [self([text]) for _ in range(times)]
        return Repeated([run.seconds for run in runs], runs[0].tokens + 1)


class OnnxBatches:
    """A batch stays as it is until its last row has ended."""

    def __init__(self, loaded: bundle.Bundle) -> None:
        manifest = loaded.manifest
        self._manifest: Manifest = manifest
        self._encoder = open_session(loaded.contents[manifest.encoder.file])
        self._step = open_session(loaded.contents[manifest.decoder_step.file])
        self._state = [pair.input for pair in manifest.state]
        self._encoded_names = [*manifest.memory, *self._state]
        self._step_names = ["ids", *(pair.output for pair in manifest.state)]

    def __call__(self, sources: Sequence[Sequence[int]]) -> Int64:
        """Decode until all rows have ended; a step does nothing row by row."""
        feeds, limits = self._start(sources)
        produced = np.empty((limits.max(), len(sources)), np.int64)
        running = np.ones(len(sources), bool)
        for step in range(len(produced)):
            ids, *state = self._step.run(self._step_names, feeds)
            feeds.update(zip(self._state, state, strict=True))
            feeds["token_ids"] = produced[step] = ids[:, 0]
            running &= (produced[step] != vocabulary.END_ID) & (limits > step + 1)
            if not running.any():
                return produced[: step + 1].T
        return produced.T

    def _start(self, sources: Sequence[Sequence[int]]) -> tuple[Arrays, Int64]:
        """Encode; return what the first step reads, and the limit of target tokens of each row."""
        special, decoding = self._manifest.tokenizer, self._manifest.decoding
        lengths = np.array([len(source) for source in sources])
        ids = np.full((len(sources), lengths.max()), special.pad_id)
        for row, source in zip(ids, sources, strict=True):
            row[: len(source)] = source
        encoded = self._encoder.run(self._encoded_names, {"source_ids": ids, "source_lengths": lengths})
        feeds: Arrays = dict(zip(self._encoded_names, encoded, strict=True))
        feeds |= {"token_ids": np.full(len(sources), special.start_id), "k": np.ones(1, np.int64)}
        return feeds, np.array([decoding.target_limit(length) for length in lengths.tolist()])


class ShrinkingOnnxBatches(OnnxBatches):
    """Drops the rows that have ended whenever they are half of the batch: no longer static, but never refilled."""

    def __call__(self, sources: Sequence[Sequence[int]]) -> Int64:
        """Decode until all rows have ended."""
        feeds, limits = self._start(sources)
        produced = np.full((limits.max(), len(sources)), vocabulary.END_ID)
        rows, running = np.arange(len(sources)), np.ones(len(sources), bool)
        for step in range(len(produced)):
            ids, *state = self._step.run(self._step_names, feeds)
            feeds.update(zip(self._state, state, strict=True))
            feeds["token_ids"] = tokens = ids[:, 0]
            produced[step, rows] = tokens
            running &= (tokens != vocabulary.END_ID) & (limits > step + 1)
            left = np.count_nonzero(running)
            if not left:
                return produced[: step + 1].T
            if 2 * left <= len(rows):
                feeds = {name: values if name == "k" else values[running] for name, values in feeds.items()}
                rows, limits, running = rows[running], limits[running], running[running]
        return produced.T


def open_session(graph: bytes) -> Any:
    """Load a graph for one thread of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def vocabularies_of(folder: Path, loaded: bundle.Bundle) -> Vocabularies:
    """Load the SentencePiece models of a bundle."""
    spec = loaded.manifest.tokenizer
    return vocabulary.load_both(folder / spec.source_file, folder / spec.target_file)


def build_onnx(folder: Path, rows: int, batches: Callable[[bundle.Bundle], BatchDecoder]) -> Offline:
    """Make the loop over a bundle."""
    loaded = bundle.load(folder)
    return Offline(vocabularies_of(folder, loaded), loaded.manifest.decoding, batches(loaded), rows)
