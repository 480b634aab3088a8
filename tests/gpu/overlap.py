"""What of the host's work is hidden while the device computes: steps with more to do and with less, both ways."""

import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from service import bundle
from service.bundle import Bundle
from service.engine.runtime.memory import CudaDevice, Device, open_device
from service.engine.runtime.ort import Target
from service.request import StepReport
from tests.benchmark.report import Figure
from tests.gpu.models import ALL_SHAPES, open_on
from tests.gpu.notebook import Notebook
from tests.gpu.plan import FAMILIES, Plan
from tests.gpu.steps import Stepper
from tests.late_device import LONGEST_DELAY, LateDevice

WORK = 200e-6
"""Seconds of work that a step gives the host: about what 32 streams' tokens take on their way to the event loop.

Beside the late device, whose steps take several delays, it is one of them.
"""
PRECISION = "fp32"
ROUNDS, BLOCKS = 5, 4
OVERLAPPED, WAITING = "overlapped", "each run waits"


class BusyStepper(Stepper):
    """Rows that go on and on, and a host that has work to do after each step."""

    work = 0.0

    def observe_step(self, report: StepReport) -> None:
        """Work for so many seconds, and let go of the interpreter all the while: the late device's thread needs it."""
        super().observe_step(report)
        end = time.perf_counter() + self.work
        while time.perf_counter() < end:
            time.sleep(0)


class Timed(NamedTuple):
    """Seconds of each step, without the work and with it."""

    idle: list[float]
    busy: list[float]

    def hidden(self, work: float) -> float:
        """Return the share of so many seconds of work that steps did not become longer by."""
        return 1 - (statistics.median(self.busy) - statistics.median(self.idle)) / work


def measure(plan: Plan, book: Notebook) -> None:
    """Measure both families, at the rows of the goals and at the most."""
    book.note(
        f"Each step gives the host {1e6 * work_of(plan):.0f} us of work. Hidden: what steps are not longer by. "
        f"Overlapped: runs are queued, and a step is told of while the next one runs; or {WAITING}."
    )
    for family in FAMILIES:
        for way in (OVERLAPPED, WAITING):
            try:
                loaded = bundle.load(plan.bundle(family, PRECISION))
                with device_for(plan, way) as device:
                    _measure_model(plan, book, f"{family}, {PRECISION}, {way}", loaded, device)
            except Exception as error:  # noqa: BLE001  whatever it is, the others are measured all the same
                book.note(f"{family}, {PRECISION}, {way}: not measured, {error}")


@contextmanager
def device_for(plan: Plan, way: str) -> Iterator[Device]:
    """Give a device that works in one of the ways; the CPU plays one that is late."""
    target = Target(plan.provider)
    if plan.provider != "cpu":
        yield open_device(target) if way == OVERLAPPED else CudaDevice(target)
        return
    with closing(LateDevice(1, shortest_delay=LONGEST_DELAY)) as device:
        device.late = way == OVERLAPPED
        yield device


def _measure_model(plan: Plan, book: Notebook, what: str, loaded: Bundle, device: Device) -> None:
    model = open_on(device, loaded, plan, ALL_SHAPES if plan.provider == "cuda" else 0)
    if what.endswith(OVERLAPPED) and not device.late:
        book.note(f"{what}: {device.order}")
    for rows in sorted({plan.rows, max(plan.sizes.rows)}):
        timed = Timed([], [])
        for _ in range(ROUNDS):
            time_steps(plan, BusyStepper(model, plan, rows), timed)
        name = f"{what}, {rows} row(s)"
        book.add(Figure.of(f"{name}: step", [1e3 * one for one in timed.idle], "ms"))
        book.add(Figure.of(f"{name}: step with the work", [1e3 * one for one in timed.busy], "ms"))
        book.add(Figure(f"{name}: hidden", timed.hidden(work_of(plan))))


def work_of(plan: Plan) -> float:
    """Return the seconds of work that a step gives the host."""
    return LONGEST_DELAY if plan.provider == "cpu" else WORK


def time_steps(plan: Plan, stepper: BusyStepper, timed: Timed) -> None:
    """Time blocks of steps in turn without and with the work, all but the first of each: it has the other's report."""
    try:
        for _ in range(plan.sizes.warm_steps):
            stepper.step()
        for block in range(BLOCKS):
            stepper.work = work_of(plan) * (block % 2)
            seconds = [stepper.step() for _ in range(max(2, plan.sizes.steps // BLOCKS))]
            timed[block % 2].extend(seconds[1:])
        if stepper.failures or stepper.rows != stepper.asked:
            raise RuntimeError(f"{stepper.rows} of {stepper.asked} rows were stepped; {stepper.failures[:1]}")
    finally:
        stepper.work = 0.0
        stepper.close()
