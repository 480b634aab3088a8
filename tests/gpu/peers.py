"""The same step in PyTorch, with the same weights on the same card: eager, and compiled."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._dynamo import mark_static_address

from export import graphs
from export.transformer import blocks
from export.transformer import graphs as transformer_graphs
from export.transformer.blocks import Stack
from service.bundle import Manifest, Tensor, read_manifest
from tests.benchmark.report import Figure
from tests.gpu.card import synchronize
from tests.gpu.notebook import Notebook
from tests.gpu.originals import FORCED, rnn, transformer_parts
from tests.gpu.plan import FAMILIES, PRECISIONS, Plan

CANDIDATES = 1
WARM_RUNS = 3
DTYPES = {"float32": torch.float32, "bool": torch.bool, "int64": torch.int64}


def measure(plan: Plan, book: Notebook) -> None:
    """Time both families, eager ones first: compiling takes longest."""
    torch.set_float32_matmul_precision("high")  # TF32, which ONNX Runtime uses too
    book.note("PyTorch runs the very module that the step's graph was traced from, its tensors on the device, no ids "
              "fetched, no row joining or leaving, inputs always the same; fp16 by autocast, fp32 with TF32. Compiled: "
              'torch.compile, mode "reduce-overhead", which captures CUDA graphs.')  # fmt: skip
    modules = {family: _module(plan, family).to(plan.device) for family in FAMILIES}
    with _written_in_place():
        _add_all(plan, book, modules)
    if plan.compile:  # what is compiled sees to its copies itself
        _add_all(plan, book, modules, _compiled)


def name_of(family: str, precision: str, way: str, rows: int) -> str:
    """Name what is measured."""
    return f"{family}, {precision}, PyTorch {way}, {rows} row(s)"


@contextlib.contextmanager
def _written_in_place() -> Iterator[None]:
    """Meanwhile, the blocks write into their caches; what is exported later in this process must not."""
    functional = blocks.write_column
    blocks.write_column = _write_in_place
    try:
        yield
    finally:
        blocks.write_column = functional


def _write_in_place(cache: torch.Tensor, column: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Write a column of a cache where it is, as whoever cares for speed does in PyTorch."""
    return cache.scatter_(2, lengths.reshape(-1, 1, 1, 1).expand_as(column), column)


def _module(plan: Plan, family: str) -> torch.nn.Module:
    if family == FAMILIES[0]:
        return graphs.StepGraph(rnn(plan).model).eval()
    parts = transformer_parts(plan)
    return transformer_graphs.StepGraph(parts, Stack(parts.decoder, blocks.CachedSelfAttention), FORCED).eval()


def _add_all(
    plan: Plan, book: Notebook, modules: dict[str, Any], ready: Callable[[Any], Any] = lambda one: one
) -> None:
    for precision in PRECISIONS:
        for family, module in modules.items():
            _add(plan, book, (family, precision), ready(module))


def _compiled(module: torch.nn.Module) -> Any:
    torch.compiler.reset()
    return torch.compile(module, mode="reduce-overhead", dynamic=False)


def _add(plan: Plan, book: Notebook, case: tuple[str, str], module: Any) -> None:
    """Time one module at the rows of the goals; one that does not run is a note."""
    family, precision = case
    way = "eager" if isinstance(module, (graphs.StepGraph, transformer_graphs.StepGraph)) else "compiled"
    what = name_of(family, precision, way, plan.rows)
    manifest = read_manifest(plan.bundle(family, "fp32"))
    try:
        with torch.inference_mode(), torch.device(plan.device), _autocast(plan, precision):
            given = inputs(plan, manifest, precision)
            if way == "compiled":
                for tensor in given:
                    if isinstance(tensor, torch.Tensor):
                        mark_static_address(tensor)  # else a CUDA graph would copy every input
            seconds = _time(plan, module, given)
    except Exception as error:  # noqa: BLE001  whatever it is, the others are measured all the same
        book.note(f"{what}: not measured, {str(error).strip().splitlines()[:1]}")
        return
    book.add(Figure.of(f"{what}: step", [1e3 * one for one in seconds], "ms"))


@contextlib.contextmanager
def _autocast(plan: Plan, precision: str) -> Iterator[None]:
    with torch.autocast(plan.device, dtype=torch.float16, enabled=precision == "fp16"):
        yield


def inputs(plan: Plan, manifest: Manifest, precision: str) -> list[Any]:
    """Return what the module takes: as the graph does, but that the number of candidates is a plain one."""
    made: list[Any] = []
    caches = {tensor.name for tensor in manifest.caches}
    for tensor in manifest.decoder_step.inputs:
        if tensor.name == "k":
            made.append(CANDIDATES)
        else:
            made.append(_input(plan, tensor, half=precision == "fp16" and tensor.name in caches))
    return made


def _input(plan: Plan, tensor: Tensor, *, half: bool) -> torch.Tensor:
    middle = plan.sizes.warm_steps + plan.sizes.steps // 2
    sizes = {"row": plan.rows, "group": plan.rows, "source": plan.sizes.source_tokens, "target": middle + 1}
    shape = [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.axes]
    if tensor.dtype == "int64":
        return torch.full(shape, middle if tensor.name == transformer_graphs.LENGTHS else 5, device=plan.device)
    if tensor.dtype == "bool":
        return torch.ones(shape, dtype=torch.bool, device=plan.device)
    return torch.rand(shape, dtype=torch.float16 if half else torch.float32, device=plan.device)


def _time(plan: Plan, module: Any, given: list[Any]) -> list[float]:
    """Return the seconds of a step, of five rounds; waits for the device at the end of each."""
    for _ in range(WARM_RUNS):
        module(*given)
    rounds = []
    for _ in range(5):
        synchronize(plan)
        started = time.perf_counter()
        for _ in range(plan.sizes.peer_steps):
            module(*given)
        synchronize(plan)
        rounds.append((time.perf_counter() - started) / plan.sizes.peer_steps)
    return [*rounds, statistics.median(rounds)]
