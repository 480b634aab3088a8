"""`python -m tests.benchmark`: measure what the project promises, print one table, write JSON and Markdown."""

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from service.errors import StartupError
from tests.benchmark import (
    against_ctranslate2,
    arrivals,
    before_after,
    cancel_storm,
    ctranslate2_served,
    decoding,
    fairness,
    host_work,
    invariance,
    latency,
    length_cost,
    metrics,
    operators,
    quality,
    report,
    search,
    sharing,
    startup,
    throughput,
)
from tests.benchmark.plan import CHECKPOINT, COMMITTED, CORPUS, EMBEDDED, QUICK, Plan, Progress, Sizes, machine
from tests.benchmark.report import Section
from tests.benchmark.serving import ServerError
from tests.benchmark.virtual import awake
from tests.benchmark.workers import WorkerError, leave

PARTS: dict[str, Callable[[Plan], Section]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "metrics": metrics.measure,
    "startup": startup.measure,
    "host-work": host_work.measure,
    "quality": quality.measure,
    "invariance": invariance.measure,
    "search": search.measure,
    "decoding": decoding.measure,
    "arrivals": arrivals.measure,
    "fairness": fairness.measure,
    "cancel-storm": cancel_storm.measure,
    "workers": sharing.measure,
}
ON_REQUEST: dict[str, Callable[[Plan], Section]] = {
    "ctranslate2": against_ctranslate2.measure,
    "ctranslate2-served": ctranslate2_served.measure,
    "operators": operators.measure,
    "length-cost": length_cost.measure,
    "before-after": before_after.measure,
}
"""Parts for a bundle of the Transformer family, or for both; run where they are named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen parts; return 1 where one failed, or with --strict where a goal was missed."""
    given = _parser().parse_args(argv)
    say = Progress()
    plan = Plan(
        bundles=tuple(folder.resolve() for folder in (given.bundle, *given.also_bundle)),
        checkpoint=given.checkpoint,
        corpus=given.corpus,
        sizes=QUICK if given.quick else Sizes(),
        say=say,
        against=given.against,
        picture=given.picture,
    )
    try:
        plan.check()
    except (ValueError, OSError, StartupError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    about = machine()
    with awake():
        sections, failed = _run(given.parts or list(PARTS), plan)
    print(*(f"{name}: {value}" for name, value in about.items()), "", report.as_text(sections), sep="\n")
    if given.json is not None:
        text = json.dumps(report.as_data(sections, about), indent=2, ensure_ascii=False) + "\n"
        given.json.write_text(text, encoding="utf-8")
    if given.markdown is not None:
        given.markdown.write_text(report.as_markdown(sections, about), encoding="utf-8")
    missed = report.missed(sections)
    print(*(f"MISSED: {name}" for name in missed), *(f"FAILED: {name}" for name in failed), sep="\n")
    return 1 if failed or (given.strict and missed) else 0


def _run(parts: Sequence[str], plan: Plan) -> tuple[list[Section], list[str]]:
    """Run the parts in order; one that fails does not take the others with it."""
    sections, failed = [], []
    for name in parts:
        try:
            sections.append((PARTS | ON_REQUEST)[name](plan))
        except (ServerError, WorkerError, OSError):
            traceback.print_exc()
            failed.append(name)
    return sections, failed


def _part(name: str) -> str:
    if name not in PARTS | ON_REQUEST:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PARTS | ON_REQUEST)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART",
                        help=f"of {', '.join(PARTS)}; all of these, but not {', '.join(ON_REQUEST)}")  # fmt: skip

    parser.add_argument("--bundle", type=Path, default=EMBEDDED, help="folder <model>/<version> (default: embedded)")
    parser.add_argument(
        "--also-bundle", type=Path, action="append", default=[], help="another one of the same checkpoint"
    )
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="what the bundles were made from")
    parser.add_argument("--corpus", type=Path, default=CORPUS if CORPUS.is_dir() else COMMITTED,
                        help="folder with test.tsv and everyday_test.tsv (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the figures as a page")
    parser.add_argument("--against", metavar="REVISION", help="for before-after: what to compare the code with")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="for length-cost: draw it")
    parser.add_argument("--quick", action="store_true", help="try everything on a few sentences; figures mean nothing")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a goal is missed")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    sys.exit(main())
