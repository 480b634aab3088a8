"""`python -m tests.gpu`: all GPU tests and the benchmark on a machine with a GPU; prints a table and writes JSON.

    python -m tests.gpu [--provider cuda] [--minutes 8.5] [--output build/gpu] [--quick] [PART…]

Each part is a process of its own, with a share of the time, and writes what it has found as it goes: what is cut short
or fails is said, and the rest stands. With --provider cpu the same command rehearses on any machine.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmark import report
from tests.benchmark.report import Figure, Goal, Section
from tests.gpu import notebook
from tests.gpu.libraries import environment
from tests.gpu.plan import CHECKPOINT, FAMILIES, OUTPUT, PACKAGES, PRECISIONS, ROOT, Plan

PARTS = {"card": 0.12, "originals": 0.2, "tests": 0.3, "steps": 0.6, "overlap": 0.2, "served": 0.5, "peers": 1.0}
"""In their order; each may take this share of the time that is left."""
ORDER_OF_THE_TABLE = ("steps", "overlap", "peers", "served", "tests", "originals", "card")
EAGER_GOAL, COMPILED_GOAL = Goal(">=", 3.0), Goal(">=", 1.5)
NOT_HERE = 3
MARK = "pytest.mark.gpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; 0: all ran and no test failed, 1: something failed, 2: the machine lacks something."""
    given = _parser().parse_args(argv)
    plan = Plan(given.provider, given.output.resolve(), given.checkpoint.resolve(), not given.no_compile, given.quick)
    if missing := [name for name in PACKAGES if not _there(name)]:
        return _lacking(f"missing packages: {', '.join(missing)}; docs/gpu.md says how to bring them along")
    plan.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * given.minutes
    failed: list[str] = []
    for name in given.parts or list(PARTS):
        (plan.output / f"{name}.json").unlink(missing_ok=True)
        limit = max(1.0, (end - time.monotonic()) * PARTS[name])
        print(f"{name}: at most {limit:.0f} s", flush=True)
        outcome = _run_tests(plan, limit) if name == "tests" else _run_part(name, plan, limit)
        if outcome == str(NOT_HERE):
            return _lacking((plan.output / f"{name}.log").read_text(encoding="utf-8").strip().splitlines()[-1])
        if outcome:
            failed.append(f"{name}: {outcome}")
    summarize(plan)
    print(*(f"FAILED: {line}" for line in failed), sep="\n")
    return 1 if failed else 0


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _lacking(what: str) -> int:
    print(f"gpu: {what}", file=sys.stderr)
    return 2


def _run_part(name: str, plan: Plan, limit: float) -> str:
    """Run one part; return how it failed, empty where it did not."""
    return _run([sys.executable, "-m", "tests.gpu.part", name, plan.to_json()], plan.output / f"{name}.log", limit)


def _run_tests(plan: Plan, limit: float) -> str:
    """Run the tests that need a GPU, and write down what became of them; without one, name them."""
    book = notebook.Notebook(plan.output / "tests.json", "tests")
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]
    if not files:
        book.note("no test is marked for GPUs")
        return ""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        "-rfE",
        "-W",
        "default",
        *files,
    ]
    log = plan.output / "tests.log"
    outcome = _run(command + (["--collect-only"] if plan.provider == "cpu" else []), log, limit)
    book.note((log.read_text(encoding="utf-8").strip().splitlines() or ["nothing was said"])[-1])
    return outcome


def _run(command: Sequence[str], log: Path, limit: float) -> str:
    """Run a command, its output into a file; return how it failed, empty where it did not."""
    with log.open("w", encoding="utf-8") as said:
        # A session of its own, so that what it has started ends with it.
        process = subprocess.Popen(  # noqa: S603
            command, stdout=said, stderr=said, cwd=ROOT, env=environment(), start_new_session=True
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"cut short after {limit:.0f} s; {log} has what it said"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status == NOT_HERE:
        return str(NOT_HERE)
    return f"status {status}; {log} says why" if status else ""


def summarize(plan: Plan) -> None:
    """Print one table of all that there is, and write it."""
    sections, about = [], {"provider": plan.provider}
    for name in ORDER_OF_THE_TABLE:
        if (path := plan.output / f"{name}.json").exists():
            section, told = notebook.read(path)
            sections.append(section)
            about |= told
    sections.append(against_pytorch(plan, sections))
    print(*(f"{name}: {value}" for name, value in about.items()), "", report.as_text(sections), sep="\n")
    data = json.dumps(report.as_data(sections, about), indent=2, ensure_ascii=False) + "\n"
    (plan.output / "figures.json").write_text(data, encoding="utf-8")
    (plan.output / "figures.md").write_text(report.as_markdown(sections, about), encoding="utf-8")
    print(*(f"MISSED: {name}" for name in report.missed(sections)), sep="\n")


def against_pytorch(plan: Plan, sections: Sequence[Section]) -> Section:
    """Divide PyTorch's steps by the engine's, the fastest way of either."""
    figures = {figure.name: figure.median for section in sections for figure in section.figures}
    ratios = Section("against PyTorch", [], [f"At {plan.rows} rows: PyTorch's time of a step / the engine's."])
    for family in FAMILIES:
        for precision in PRECISIONS:
            steps = [value for name, value in figures.items() if name.startswith(f"{family}, {precision}, ")
                     and name.endswith(f", {plan.rows} row(s): step") and "PyTorch" not in name]  # fmt: skip
            for way, goal in (("eager", EAGER_GOAL), ("compiled", COMPILED_GOAL)):
                peer = figures.get(f"{family}, {precision}, PyTorch {way}, {plan.rows} row(s): step")
                if steps and peer is not None:
                    name = f"{family}, {precision}: PyTorch {way} / engine"
                    ratios.figures.append(Figure(name, peer / min(steps), "x", goal=goal if plan.judged else None))
    return ratios


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PARTS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--provider", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.5, help="for all of it (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="for JSON, logs and bundles (default: build/gpu)")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="the attention RNN (default: embedded)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--quick", action="store_true", help="try everything in seconds; figures mean nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
