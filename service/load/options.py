"""The flags of `dragoman load`; light, because every command reads them."""

import argparse
from pathlib import Path
from typing import Any

MODES = ("unary", "stream", "segments")
EPILOG = """
One of --rate, --concurrency, --find-capacity or --compare says what to do. With --rate the loop is open: requests are
sent when they are due, whatever became of those before, and their latency counts from then. With --concurrency the
loop is closed: a slow server slows its load down, which hides how slow it is. The exit status is 3 where an
objective (--slo) was missed.
"""


def declare(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401  argparse keeps the name of its type to itself
    """Add the command to a parser; return its parser."""
    load: argparse.ArgumentParser = commands.add_parser(
        "load", help="load a server and report how it fared", epilog=EPILOG
    )
    _declare_work(load.add_argument_group("what to do"))
    _declare_requests(load.add_argument_group("what to send"))
    _declare_reports(load.add_argument_group("what to make of it"))
    return load


def _declare_work(group: Any) -> None:  # noqa: ANN401
    what = group.add_mutually_exclusive_group(required=True)
    what.add_argument("--rate", metavar="R", help="requests per second: 50, a ramp 10..100, or steps 10,20,40")
    what.add_argument("--concurrency", metavar="N", help="requests in flight: 8, or steps 1,4,16")
    what.add_argument("--find-capacity", action="store_true", help="search for the highest rate that keeps every --slo")
    what.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="compare two JSON reports")
    group.add_argument("--arrivals", choices=("poisson", "even"), default="poisson", help="(default: poisson)")
    group.add_argument("--duration", type=_positive, default=10.0, metavar="SECONDS", help="of each step (default: 10)")
    group.add_argument("--warm-up", type=_positive_or_zero, default=2.0, metavar="SECONDS", help="(default: 2)")
    group.add_argument("--first-rate", type=_positive, default=4.0, metavar="R", help="where --find-capacity begins")
    group.add_argument("--seed", type=int, default=1, metavar="N", help="of the Poisson arrivals (default: 1)")


def _declare_requests(group: Any) -> None:  # noqa: ANN401
    group.add_argument("--mode", choices=MODES, default="unary", help="which method (default: unary)")
    group.add_argument("--model", default="", help="such as ko-en or ko-en@1")
    group.add_argument("--texts", type=Path, metavar="FILE", help="a text per line (default: built-in sentences)")
    group.add_argument("--texts-per-request", type=_count, default=1, metavar="N", help="(default: 1)")
    group.add_argument("--processes", type=_count, default=1, metavar="N", help="client processes (default: 1)")
    group.add_argument("--connections", type=_count, default=1, metavar="N", help="of each process (default: 1)")


def _declare_reports(group: Any) -> None:  # noqa: ANN401
    group.add_argument("--metrics-url", metavar="URL", help="the server's /metrics (default: port 9464 of its host)")
    group.add_argument("--slo", action="append", default=[], metavar="NAME=LIMIT", help="such as p99=200ms; repeatable")
    group.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    group.add_argument("--html", type=Path, metavar="FILE", help="write the report with charts here")
    group.add_argument("--baseline", type=Path, metavar="FILE", help="compare with this JSON report")


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _positive_or_zero(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
