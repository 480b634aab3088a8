"""What a step of the engine takes, what of it is the device's, and what moving its bytes alone would take."""

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx
import torch

from service import bundle
from service.bundle import Bundle, Manifest
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.request import DecodingParams, Output, Request, StepReport
from tests.benchmark.report import Figure, Goal
from tests.gpu.card import BANDWIDTH
from tests.gpu.models import Mode, modes_of, open_model
from tests.gpu.notebook import Notebook, read
from tests.gpu.plan import FAMILIES, GOAL_ROWS, LARGE_ROWS, PRECISIONS, Plan

HOST_GOAL, FLOOR_GOAL = Goal("<=", 50), Goal(">=", 0.5)


class Permit:
    """Lets everything pass."""

    returned = False


class Stepper:
    """An engine whose rows go on and on, stepped by hand."""

    def __init__(self, model: AnyModel, plan: Plan, rows: int) -> None:
        """Submit so many sources of random words."""
        sizes = plan.sizes
        self.failures: list[Output] = []
        limits = Limits(max_rows=rows, max_join_tokens=rows * sizes.source_tokens)
        self._engine = Engine(model, limits, self._take, self, lambda error: None)
        self.rows, self.asked = 0, rows
        params = DecodingParams(sizes.target_tokens)
        chance = np.random.default_rng(rows)
        for number in range(rows):
            source = tuple(chance.integers(4, 300, sizes.source_tokens).tolist())
            self._engine.submit(Request(str(number), source, params), Permit())

    def step(self) -> float:
        """Advance all rows by one token; return the seconds it took."""
        started = time.perf_counter()
        self._engine.step()
        return time.perf_counter() - started

    def close(self) -> None:
        """End all rows, so that the model has its prepared memory back."""
        for number in range(self.asked):
            self._engine.cancel(str(number))
        while self._engine.step():
            pass

    def observe_step(self, report: StepReport) -> None:
        """Note how many rows there are."""
        self.rows = report.rows

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Take no note."""

    def _take(self, outputs: list[Output]) -> None:
        self.failures += [output for output in outputs if output.error is not None]


class Timed(NamedTuple):
    """What was measured of one number of rows, in seconds a step."""

    seconds: list[float]
    device: float | None
    """What the device worked; None where nobody can tell."""


def measure(plan: Plan, book: Notebook) -> None:
    """Measure every family, precision, mode and number of rows."""
    bandwidth = _bandwidth(plan)
    sizes = plan.sizes
    book.note(f"The engine, stepped by hand: sources of {sizes.source_tokens} tokens, steps {sizes.warm_steps} to "
              f"{sizes.warm_steps + sizes.steps} of rows that joined together. Host: a step less what the device "
              "worked in it, as its driver records kernels and copies. Floor: weights, memory and caches that a step "
              "must read, and state that it reads and writes, over the measured copy bandwidth.")  # fmt: skip
    for family in FAMILIES:
        for precision in PRECISIONS:
            for mode in modes_of(plan):
                _measure_model(plan, book, (family, precision, mode), bandwidth)


def name_of(family: str, precision: str, mode: str, rows: int) -> str:
    """Name what is measured."""
    return f"{family}, {precision}, {mode}, {rows} row(s)"


def _bandwidth(plan: Plan) -> float | None:
    path = plan.output / "card.json"
    section = read(path)[0] if path.exists() else None
    return next((one.median for one in section.figures if one.name == BANDWIDTH), None) if section else None


def _measure_model(plan: Plan, book: Notebook, case: tuple[str, str, Mode], bandwidth: float | None) -> None:
    """Measure one bundle in one mode; a model that does not open is a note, not the end of the part."""
    family, precision, mode = case
    try:
        loaded = bundle.load(plan.bundle(family, precision))
        model = open_model(loaded, plan, mode)
    except Exception as error:  # noqa: BLE001  whatever it is, the other models are measured all the same
        book.note(f"{family}, {precision}, {mode.name}: not measured, {error}")
        return
    if isinstance(model, DeviceModel):
        book.note(f"{family}, {precision}, {mode.name}: {model.prepared.line()}")
    for rows in plan.sizes.rows:
        what = name_of(family, precision, mode.name, rows)
        try:
            timed = time_steps(plan, model, rows)
        except Exception as error:  # noqa: BLE001  as above
            book.note(f"{what}: not measured, {error}")
            continue
        moved = step_bytes(loaded, rows, plan.sizes.source_tokens, plan.sizes.warm_steps + plan.sizes.steps // 2)
        _report(plan, book, (what, rows, moved, bandwidth), timed)


def _report(plan: Plan, book: Notebook, case: tuple[str, int, int, float | None], timed: Timed) -> None:
    what, rows, moved, bandwidth = case
    judged = rows if plan.judged else 0
    mean = statistics.fmean(timed.seconds)
    book.add(Figure.of(f"{what}: step", [1e3 * one for one in timed.seconds], "ms"))
    book.add(Figure(f"{what}: rate", rows / mean, "target tokens/s"))
    if timed.device is not None:
        host = 1e6 * (statistics.median(timed.seconds) - timed.device)
        book.add(Figure(f"{what}: device", 1e3 * timed.device, "ms"))
        book.add(Figure(f"{what}: host", host, "us", goal=HOST_GOAL if judged == GOAL_ROWS else None))
    if bandwidth is not None:
        floor = moved / (bandwidth * 1e9)
        goal = FLOOR_GOAL if judged == LARGE_ROWS else None
        book.add(Figure(f"{what}: floor of {moved / 1e6:.1f} MB", 1e3 * floor, "ms"))
        book.add(Figure(f"{what}: floor / step", floor / statistics.median(timed.seconds), "", goal=goal))


def time_steps(plan: Plan, model: AnyModel, rows: int) -> Timed:
    """Time steps of so many rows, and then look at what the device does in some more."""
    sizes = plan.sizes
    stepper = Stepper(model, plan, rows)
    try:
        for _ in range(sizes.warm_steps):
            stepper.step()
        seconds = [stepper.step() for _ in range(sizes.steps)]
        if stepper.failures or stepper.rows != rows:
            failed = stepper.failures[0].error if stepper.failures else None
            raise RuntimeError(f"{stepper.rows} of {rows} rows were stepped; {failed}")
        device = device_seconds(stepper.step, sizes.profiled_steps) if plan.device == "cuda" else None
    finally:
        stepper.close()
    return Timed(seconds, device)


def device_seconds(step: Callable[[], float], steps: int) -> float | None:
    """Return what the device works in a step: kernels and copies of whoever in this process asks for them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    spans = [event.time_range for event in profile.events() or () if str(event.device_type).endswith("CUDA")]
    return union([(span.start, span.end) for span in spans]) / 1e6 / steps if spans else None


def union(spans: list[tuple[float, float]]) -> float:
    """Return how much time spans cover, which may overlap."""
    covered, end = 0.0, -math.inf
    for first, last in sorted(spans):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered


def step_bytes(loaded: Bundle, rows: int, source_tokens: int, target_tokens: int) -> int:
    """Return the bytes that a step cannot do without: weights, what it attends to, state in and out."""
    manifest = loaded.manifest
    sizes = {"row": rows, "group": rows, "source": source_tokens, "target": target_tokens}
    state = {pair.input for pair in manifest.state} - {tensor.name for tensor in manifest.caches}
    total = weight_bytes(onnx.load_from_string(loaded.contents[manifest.decoder_step.file]), rows)
    for tensor in manifest.decoder_step.inputs:
        count = math.prod(axis if isinstance(axis, int) else sizes[axis] for axis in tensor.axes)
        total += count * np.dtype(tensor.dtype).itemsize * (2 if tensor.name in state else 1)
    columns = sum(_column_bytes(manifest, name) for name in (tensor.name for tensor in manifest.caches))
    return total + rows * columns


def weight_bytes(model: onnx.ModelProto, rows: int) -> int:
    """Return the bytes of constants as the device holds them; of a table that is only looked up in, a row for each."""
    read: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    total = 0
    for tensor in model.graph.initializer:
        users, itemsize = read.get(tensor.name, []), _itemsize(tensor.data_type)
        if len(users) == 1 and users[0].op_type == "Cast":  # stored in half, held as a whole
            itemsize = _itemsize(users[0].attribute[0].i)
            users = read.get(users[0].output[0], [])
        looked_up = users and all(node.op_type == "Gather" for node in users) and len(tensor.dims) == 2
        total += itemsize * (rows * tensor.dims[1] if looked_up else math.prod(tensor.dims))
    return total


def _itemsize(kind: int) -> int:
    return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize)


def _column_bytes(manifest: Manifest, name: str) -> int:
    tensor = next(one for one in manifest.decoder_step.inputs if one.name == name)
    return math.prod(axis for axis in tensor.axes if isinstance(axis, int)) * np.dtype(tensor.dtype).itemsize
