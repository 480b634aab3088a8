"""What a person sees while a load runs, and the tables at its end."""

from collections.abc import Sequence
from typing import TextIO

from service.load.compare import Row
from service.load.objective import spelled
from service.load.record import Record
from service.load.report import PhaseReport, Quantiles, Verdict
from service.terminal import table

BARS = "▁▂▃▄▅▆▇█"
SPARK_SECONDS = 40
BAR_COLUMNS = 24
COLUMNS = ("PHASE", "SENT", "GOODPUT/S", "ERRORS", "P50", "P90", "P99", "P99.9", "MAX", "TOKENS/S")


class Live:
    """Redraws a few lines on a terminal; elsewhere it writes nothing until a phase ends."""

    def __init__(self, out: TextIO, *, terminal: bool) -> None:
        self._out = out
        self._terminal = terminal
        self._drawn = 0

    def show(self, record: Record, elapsed: float) -> None:
        """Draw where a phase stands, `elapsed` seconds after its start."""
        if not self._terminal:
            return
        lines = picture(record, max(0.0, elapsed))
        self.clear()
        self._out.write("\n".join(lines) + "\n")
        self._out.flush()
        self._drawn = len(lines)

    def clear(self) -> None:
        """Take back what was drawn."""
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def ended(self, report: PhaseReport) -> None:
        """Leave one line about a phase that ended."""
        self.clear()
        latency = report.latency
        times = f"p50 {_ms(latency, 50)}  p99 {_ms(latency, 99)} ms" if latency else "no answer"
        errors = f"  errors {report.error_share:.2%}" if report.sent != report.ok else ""
        self._out.write(f"{report.phase.name:>16}  {report.goodput:8.1f}/s  {times}{errors}\n")
        self._out.flush()


def picture(record: Record, elapsed: float) -> list[str]:
    """Return the lines of a phase that runs."""
    phase = record.phase
    share = min(1.0, elapsed / phase.seconds)
    filled = round(share * BAR_COLUMNS)
    rate = "closed loop" if phase.closed else f"{phase.first_rate + (phase.last_rate - phase.first_rate) * share:.0f}/s"
    rates = record.rates()[-SPARK_SECONDS:]
    errors = ", ".join(f"{code} {count}" for code, count in record.errors.most_common(3)) or "none"
    p50, p99 = record.latency.at(50) * 1e3, record.latency.at(99) * 1e3
    tokens = record.tokens / elapsed if elapsed else 0.0
    return [
        f"{phase.name}  [{'█' * filled}{'·' * (BAR_COLUMNS - filled)}] {elapsed:.0f}/{phase.seconds:g} s  {rate}",
        f"  ended {record.sent}  ok {record.ok}  in flight {sum(record.in_flight)}  errors: {errors}",
        f"  p50 {p50:.1f}  p99 {p99:.1f} ms  lately p99 {record.recent(99) * 1e3:.1f} ms  tokens/s {tokens:.0f}",
        f"  answers/s {spark(rates)} {rates[-2] if len(rates) > 1 else 0}",
    ]


def spark(values: Sequence[float]) -> str:
    """Draw numbers as a row of bars, the highest one full."""
    top = max(values, default=0) or 1
    return "".join(BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] for value in values)


def summary(reports: Sequence[PhaseReport]) -> str:
    """Return the table of all phases; times in milliseconds."""
    rows = []
    for report in reports:
        times = [_ms(report.latency, point) for point in (50, 90, 99, 99.9, 100)]
        rows.append(
            [
                report.phase.name,
                str(report.sent),
                f"{report.goodput:.1f}",
                f"{report.error_share:.2%}",
                *times,
                f"{report.target_tokens_per_second:.0f}",
            ]
        )
    return table(COLUMNS, rows)


def breakdown(reports: Sequence[PhaseReport]) -> str:
    """Return where the mean request's time went, and what the server says of itself; times in milliseconds."""
    header = (
        "PHASE",
        "QUEUE",
        "ENCODE",
        "DECODE",
        "REST",
        "SERVER P50",
        "SERVER P99",
        "EXPLAINED",
        "ROWS",
        "CPU",
        "ENGINE BUSY",
    )
    rows = []
    for report in reports:
        shares = [f"{seconds * 1e3:.1f}" for seconds in report.shares.values()] or ["-"] * 4
        server = report.server
        told = ["-"] * 6
        if server is not None:
            busy = f"{1 - server.engine['idle']:.0%}" if "idle" in server.engine else "-"
            times = [f"{server.handling_p50 * 1e3:.1f}", f"{server.handling_p99 * 1e3:.1f}"]
            told = [*times, explained(report), f"{server.rows_mean:.1f}", f"{server.cpu:.2f}", busy]
        rows.append([report.phase.name, *shares, *told])
    return table(header, rows)


def judged(verdicts: Sequence[Verdict]) -> str:
    """Return the table of objectives."""
    rows = [["kept" if one.kept else "MISSED", one.phase, one.objective, spelled(one)] for one in verdicts]
    return table(("OBJECTIVE", "PHASE", "WANTED", "ACTUAL"), rows)


def compared(rows: Sequence[Row]) -> str:
    """Return the table of a comparison."""
    cells = [
        [row.phase, row.figure, f"{row.old:.1f} {row.unit}", f"{row.new:.1f} {row.unit}", f"{row.change:+.1%}",
         row.verdict] for row in rows
    ]  # fmt: skip
    return table(("PHASE", "FIGURE", "OLD", "NEW", "CHANGE", "VERDICT"), cells)


def explained(report: PhaseReport) -> str:
    """Return the share of the server's handling time that queue, encode and decode add up to."""
    server = report.server
    if server is None or not server.handling_mean or report.ok != report.sent:
        return "-"
    return f"{(sum(report.shares.values()) - report.shares.get('rest', 0.0)) / server.handling_mean:.1%}"


def _ms(times: Quantiles | None, point: float) -> str:
    return "-" if times is None else f"{times.at(point) * 1e3:.1f}"
