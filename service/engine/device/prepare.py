"""What is done for a device before anybody waits: steps are run in every bucket, and recorded as CUDA graphs.

A CUDA graph repeats kernels without launching each from the host. ONNX Runtime records one for each `gpu_graph_id`, in
the shapes and at the addresses of that run, and refuses where anything runs on the CPU or is copied from it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.bundle import Graph, Manifest
from service.engine.device.arena import Arena
from service.engine.device.shapes import Buckets, Shape, bytes_of
from service.engine.layout import Layout
from service.engine.session import Encoded

MAX_SHAPES = 128
"""Buckets that are prepared, small ones first: there a launch costs most beside what it launches."""
CAPTURE = {"enable_cuda_graph": "1"}


class Prepared(NamedTuple):
    """What is ready for traffic, and why no more of it is recorded."""

    shapes: tuple[Shape, ...]
    reason: str
    """Why none is recorded; empty where all are, two graphs for each, as state goes back and forth."""

    def line(self) -> str:
        """Say it in a line."""
        if self.reason:
            return f"no bucket is captured as a CUDA graph: {self.reason}"
        last = max(self.shapes)
        cache = f" x {last.capacity} cached" if last.capacity else ""
        reach = f"up to {last.rows} rows x {last.width} source tokens{cache}"
        return f"{len(self.shapes)} buckets are captured as CUDA graphs, {reach}; others run uncaptured"


def choose(buckets: Buckets, manifest: Manifest, count: int, most_bytes: float) -> tuple[Shape, ...]:
    """Return the buckets to prepare: so many at most, and none whose tensors take more than so many bytes."""
    layout = Layout.of(manifest)
    reads = {tensor.name: tensor for tensor in manifest.decoder_step.inputs}
    tensors = layout.memory | layout.caches | {name: reads[name] for name in layout.state}
    fitting = (shape for shape in buckets if 2 * sum(bytes_of(shape, tensors).values()) <= most_bytes)
    return tuple(shape for shape, _ in zip(fitting, range(count), strict=False))


def run_all(
    arena: Arena, shapes: tuple[Shape, ...], encode: Callable[[int], Encoded], start_id: int, graphs: Iterator[int]
) -> None:
    """Run a step in each of these buckets, both ways; each run is given the number of a graph that may record it.

    `encode` encodes one source of a width. Every slot holds a source meanwhile, so that what is computed is finite.
    Memory is taken for the largest first: what is recorded at an address must find it there ever after.
    """
    for shape in shapes:
        arena.clear(shape)
    encoded = {width: encode(width) for width in {shape.width for shape in shapes}}
    for shape in shapes:
        arena.clear(shape)
        groups = np.arange(shape.groups)
        arena.join(encoded[shape.width], groups, np.zeros_like(groups))
        for graph in itertools.islice(graphs, 2):
            arena.feed(np.full(shape.rows, start_id))
            if shape.capacity:
                arena.age(np.zeros(shape.rows, np.int64))
            arena.record(graph)


def tensorrt_options(graph: Graph, shapes: tuple[Shape, ...], folder: Path) -> Mapping[str, str]:
    """Return TensorRT's options: engines kept in a folder, one profile that spans the buckets.

    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html: an engine is built when the first
    run comes, for all shapes between the smallest and the largest of the profile; so that run is made before traffic.
    """
    small, large = (Shape(*(pick(sizes) for sizes in zip(*shapes, strict=True))) for pick in (min, max))
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    ends = {"min": small, "opt": shapes[len(shapes) // 2], "max": large}
    for end, shape in ends.items():
        sizes = ((tensor.name, shape.of(tensor)) for tensor in graph.inputs)
        options[f"trt_profile_{end}_shapes"] = ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in sizes)
    return options
