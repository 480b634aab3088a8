"""Where the time of both graphs goes: ONNX Runtime's own profile, by operator."""

import collections
import functools
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from service import bundle
from service.engine.lane import Lane
from service.engine.layout import Layout
from service.engine.session import OnnxModel
from service.tokenizer import Tokenizer
from tests.benchmark.plan import Plan
from tests.benchmark.report import Figure, Section
from tests.benchmark.workers import Worker, processors

ROWS = (1, 8, 32, 64)
STEPS = 16
RUNS = 3
"""Of the encoder, and of so many steps; a first one warms up."""
LISTED = 6


class Spent(NamedTuple):
    """Milliseconds of one run of a graph, and the microseconds of each operator in it."""

    milliseconds: float
    operators: dict[str, int]


class Profiler:
    """Encodes some sentences and decodes some tokens of each, in profiled sessions."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._loaded = bundle.load(folder)
        tokenizer = Tokenizer.from_bundle(self._loaded)
        self._sources = [tokenizer.encode(text).ids for text in texts]

    def __call__(self, rows: int) -> tuple[Spent, Spent]:
        """Profile so many rows; return what the encoder and what the step spent."""
        manifest = self._loaded.manifest
        sources = self._sources[:rows]
        lengths = np.array([len(source) for source in sources])
        ids = np.full((rows, lengths.max()), manifest.tokenizer.pad_id)
        for row, source in zip(ids, sources, strict=True):
            row[: len(source)] = source
        with tempfile.TemporaryDirectory() as folder:
            contents = (self._loaded.contents[graph.file] for graph in (manifest.encoder, manifest.decoder_step))
            sessions = [_profiled(graph, f"{folder}/{name}") for graph, name in zip(contents, "es", strict=True)]
            model = OnnxModel(self._loaded, "cpu", *sessions)
            for _ in range(RUNS):
                encoded = model.encode(ids, lengths)
                lane = Lane(model, Layout.of(manifest), 1)
                lane.insert(encoded, lengths, range(rows), manifest.tokenizer.start_id)
                for _ in range(STEPS):
                    lane.tokens = lane.advance(1, attention=False).ids[:, 0]
            encoder, step = (_spent(Path(session.end_profiling())) for session in sessions)
        return encoder, step


def measure(plan: Plan) -> Section:
    """Profile each number of rows."""
    texts = plan.texts(max(ROWS))
    note = (
        f"Shares of the time inside operators, on one thread; sentences of test.tsv, the encoder {RUNS} times and "
        f"{STEPS} steps each time, medians. Profiling itself takes time: compare the shares, not the milliseconds. "
        "Float products are Gemm and MatMul, integer ones QGemm and MatMulInteger."
    )
    section = Section("operators", [], [note])
    for folder in plan.bundles:
        manifest = bundle.read_manifest(folder)
        name = f"{manifest.model.family} {manifest.model.precision}"
        with Worker(name, functools.partial(Profiler, folder, texts), processors()[0]) as profile:
            for rows in (count for count in ROWS if count <= len(texts)):
                plan.say(f"operators: {name}, {rows} row(s)")
                for graph, spent in zip(("encoder", "step"), profile(rows), strict=True):
                    section.figures += _figures(f"{name}, {graph}, {rows} row(s)", spent)
    return section


def _profiled(graph: bytes, prefix: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling, options.profile_file_prefix = True, prefix
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _spent(trace: Path) -> Spent:
    """Sum up, by operator, the median of each node's times: a disturbance falls into one of them."""
    nodes: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for event in json.loads(trace.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"])
    operators: collections.Counter[str] = collections.Counter()
    for (operator, _), microseconds in nodes.items():
        operators[operator] += round(statistics.median(microseconds))
    return Spent(operators.total() / 1e3, dict(operators.most_common()))


def _figures(what: str, spent: Spent) -> Iterator[Figure]:
    yield Figure(f"{what}, inside operators", spent.milliseconds, "ms")
    total = sum(spent.operators.values())
    for operator, microseconds in list(spent.operators.items())[:LISTED]:
        yield Figure(f"{what}, {operator}", 100 * microseconds / total, "%")
