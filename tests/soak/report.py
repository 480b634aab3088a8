"""What a soak found: limits kept or not, a table, JSON, and a picture of memory and latency over time."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.soak.vitals import Vitals, slope_per_hour

WARM_UP = 0.2
"""Share of the time after which memory counts: allocators and caches fill at first."""
SLOPE_MB_PER_HOUR = 15.0
GROWN_THREADS, GROWN_DESCRIPTORS = 8, 8
LAG_SECONDS = 0.1
"""What the event loop may be later than a thread that only sleeps, on a machine that others use too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """One moment: vitals, and since the moment before: latencies of calls with one text, lag of the event loop."""

    vitals: Vitals
    p50: float
    p99: float
    """In seconds; not a number where no call ended."""
    lag_p99: float
    calls: int


@dataclasses.dataclass(slots=True)
class Soak:
    """Everything that was seen."""

    minutes: float
    looks: list[Look]
    before: Vitals
    after: Vitals
    endings: dict[str, dict[str, int]]
    """Calls by kind, and by how they ended."""
    unexpected: dict[str, int]
    skipped: int
    reloads: int
    reloaded: bool
    """Whether the newest version was the one that served in the end."""
    permits: int
    capacity: int
    lag_p99: float
    late_p99: float
    """How late a thread wakes that only sleeps: what the machine itself is late, in seconds."""
    status: int | None
    bugs: int
    """Lines of the server's log from ERROR on."""

    @property
    def warm(self) -> list[Vitals]:
        """The looks after the warm-up."""
        start, end = self.looks[0].vitals.seconds, self.looks[-1].vitals.seconds
        return [look.vitals for look in self.looks if look.vitals.seconds >= start + WARM_UP * (end - start)]

    def slope(self, name: str) -> float:
        """Return by how many MB a memory grew in an hour."""
        warm = self.warm
        return slope_per_hour([one.seconds for one in warm], [getattr(one, name) for one in warm])


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was found, what may be, whether that was kept."""

    name: str
    found: str
    limit: str
    kept: bool


def table(soak: Soak, *, timed: bool = True) -> list[Row]:
    """Judge a soak; a short one says nothing of slopes and times."""
    before, after = soak.before, soak.after
    rows = [
        _exact("calls that ended as they must not", str(soak.unexpected or 0), "0"),
        _exact("errors in the server's log", str(soak.bugs), "0"),
        _exact("texts waiting + running at rest", f"{after.waiting} + {after.running}", "0 + 0"),
        _exact("permits back", f"{soak.permits} of {soak.capacity}", f"{soak.capacity} of {soak.capacity}"),
        _bounded("threads", before.threads, after.threads, GROWN_THREADS),
        _bounded("descriptors", before.descriptors, after.descriptors, GROWN_DESCRIPTORS),
        Row("reloads, the newest version serves", f"{soak.reloads}, {_said(soak.reloaded)}", "yes", soak.reloaded),
        _exact("exit status after SIGTERM", str(soak.status), "0"),
    ]
    if timed:
        rows += [
            _slope("resident memory after warm-up", soak.slope("resident")),
            _slope("native memory (ONNX Runtime's among it)", soak.slope("native")),
            Row(f"event loop lag, p99; a sleeper's {1e3 * soak.late_p99:.0f} ms", f"{1e3 * soak.lag_p99:.0f} ms",
                f"<= that + {1e3 * LAG_SECONDS:.0f} ms", soak.lag_p99 <= soak.late_p99 + LAG_SECONDS),
        ]  # fmt: skip
    return rows


def lines(soak: Soak, rows: Sequence[Row]) -> list[str]:
    """Write the table, and how the calls of each kind ended."""
    shown = [f"{row.name:<44} {row.found:<28} {row.limit:<18} {'kept' if row.kept else 'NOT KEPT'}" for row in rows]
    calls = [
        f"{kind:<12}" + ", ".join(f"{code} {count:,}" for code, count in sorted(codes.items()))
        for kind, codes in sorted(soak.endings.items())
    ]
    total = sum(count for codes in soak.endings.values() for count in codes.values())
    resident = [one.resident for one in soak.warm]
    return [
        f"{total:,} calls in {soak.minutes:g} minutes, {soak.skipped:,} not made because too many were in flight",
        *calls,
        f"resident after warm-up: {min(resident):.0f} to {max(resident):.0f} MB",
        *shown,
    ]


def write(soak: Soak, rows: Sequence[Row], folder: Path) -> None:
    """Write soak.json and soak.png."""
    folder.mkdir(parents=True, exist_ok=True)
    found = dataclasses.asdict(soak) | {"table": [dataclasses.asdict(row) for row in rows]}
    (folder / "soak.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
    _draw(soak, folder / "soak.png")


def _draw(soak: Soak, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import, and only this needs it

    start = soak.looks[0].vitals.seconds
    minutes = [(look.vitals.seconds - start) / 60 for look in soak.looks]
    figure = Figure(figsize=(9, 6), layout="constrained")
    memory, latency = figure.subplots(2, 1, sharex=True)
    memory.plot(minutes, [look.vitals.resident for look in soak.looks], label="resident")
    memory.plot(minutes, [look.vitals.native for look in soak.looks], label="native (ONNX Runtime's among it)")
    memory.set(ylabel="MB", ylim=(0, None), title=f"{soak.minutes:g} minutes of mixed traffic, {soak.reloads} reloads")
    latency.plot(minutes, [1e3 * look.p99 for look in soak.looks], label="one text, p99", linewidth=0.8)
    latency.plot(minutes, [1e3 * look.p50 for look in soak.looks], label="one text, p50")
    latency.plot(minutes, [1e3 * look.lag_p99 for look in soak.looks], label="event loop lag, p99", linewidth=0.8)
    latency.set(xlabel="minutes", ylabel="ms", ylim=(0, None))
    for axes in (memory, latency):
        axes.legend(loc="lower right" if axes is memory else "upper right")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile; not numbers where there is nothing."""
    if not seconds:
        return float("nan"), float("nan")
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return float(p50), float(p99)


def _exact(name: str, found: str, wanted: str) -> Row:
    return Row(name, found, wanted, found == wanted)


def _bounded(name: str, before: int, after: int, grown: int) -> Row:
    return Row(f"{name}, before and after", f"{before}, {after}", f"<= {before + grown}", after <= before + grown)


def _slope(name: str, slope: float) -> Row:
    return Row(name, f"{slope:+.1f} MB/h", f"<= {SLOPE_MB_PER_HOUR:.0f} MB/h", slope <= SLOPE_MB_PER_HOUR)


def _said(holds: bool) -> str:
    return "yes" if holds else "no"
