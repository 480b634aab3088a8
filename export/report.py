"""`dragoman-export report`: quality by source length, learning curves and test-set scores, as text and pictures."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from export import checkpoint
from export.training import data
from export.training.corpus import read_tsv
from export.training.evaluate import Quality, score, translate
from export.training.trainer import HISTORY

LENGTHS = (1, 4, 6, 9, 13, 18)
"""Lower bounds, in source words, of the groups whose chrF is drawn."""


class Line(NamedTuple):
    """One system: its name and what it made of each test set, by file name."""

    name: str
    folder: Path
    outputs: dict[str, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "systems", nargs="+", metavar="NAME=CHECKPOINT", help="systems to compare, such as dot=runs/dot"
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with test.tsv and everyday_test.tsv")
    parser.add_argument("--output", type=Path, required=True, help="folder for report.json and the pictures")


def run(arguments: argparse.Namespace) -> int:
    """Translate the test sets with every system, print the tables and write the pictures."""
    tests = {name: list(read_tsv(arguments.corpus / name)) for name in data.TEST_SETS}
    lines = [_translated(system, tests) for system in arguments.systems]
    arguments.output.mkdir(parents=True, exist_ok=True)
    scores = {line.name: {name: _score(line.outputs[name], pairs) for name, pairs in tests.items()} for line in lines}
    for system, by_test in scores.items():
        for name, quality in by_test.items():
            print(f"{system:6} {name:18} chrF {quality.chrf:.2f}  BLEU {quality.bleu:.2f}")
    groups = {line.name: by_length(line.outputs["test.tsv"], tests["test.tsv"]) for line in lines}
    counts = [len(group) for group in _grouped(tests["test.tsv"])]
    print("source words   " + "".join(f"{label:>9}" for label in labels()))
    print("sentences      " + "".join(f"{count:>9}" for count in counts))
    for system, values in groups.items():
        print(f"chrF {system:10}" + "".join(f"{value:>9.1f}" for value in values))
    unrelated = by_length(lines[0].outputs["test.tsv"], tests["test.tsv"], shift=1)
    print("chrF unrelated " + "".join(f"{value:>9.1f}" for value in unrelated))
    _draw_lengths(groups, unrelated, arguments.output / "chrf-by-length.png")
    curves = {line.name: read_history(line.folder) for line in lines}
    _draw_curves(curves, arguments.output / "learning-curve.png")
    report = {
        "test_sets": {system: {n: q._asdict() for n, q in by_test.items()} for system, by_test in scores.items()},
        "chrf_by_source_words": {"groups": labels(), "sentences": counts, **groups, "unrelated": unrelated},
        "learning_curves": curves,
    }
    (arguments.output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"report.json, chrf-by-length.png and learning-curve.png are in {arguments.output}")
    return 0


def labels() -> list[str]:
    """Name the groups of source lengths."""
    ends = [f"-{end - 1}" for end in LENGTHS[1:]]
    return [f"{start}{end}" for start, end in zip(LENGTHS, [*ends, "+"], strict=True)]


def by_length(hypotheses: Sequence[str], pairs: Sequence[tuple[str, str]], shift: int = 0) -> list[float]:
    """Return the corpus chrF of each group of source lengths; 0 for an empty one.

    With a `shift`, each translation is scored against the reference of another sentence of its group: what a system
    gets that writes good English and reads nothing.
    """
    chosen = (
        [(hypotheses[index], pairs[group[at - shift]][1]) for at, index in enumerate(group)]
        for group in _grouped(pairs)
    )
    return [score([h for h, _ in group], [r for _, r in group]).chrf if group else 0.0 for group in chosen]


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the evaluations of a training run, oldest first; none where the checkpoint has no history."""
    path = folder / HISTORY
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _grouped(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
    groups: list[list[int]] = [[] for _ in LENGTHS]
    for index, (source, _) in enumerate(pairs):
        words = len(source.split())
        groups[sum(words >= bound for bound in LENGTHS) - 1].append(index)
    return groups


def _translated(system: str, tests: dict[str, list[tuple[str, str]]]) -> Line:
    name, _, folder = system.partition("=")
    if not folder:
        raise ValueError(f"{system!r} is not NAME=CHECKPOINT, such as dot=runs/dot")
    model = checkpoint.load(Path(folder))
    outputs = {test: translate(model, [source for source, _ in pairs], Path(folder)) for test, pairs in tests.items()}
    return Line(name, Path(folder), outputs)


def _score(hypotheses: list[str], pairs: list[tuple[str, str]]) -> Quality:
    return score(hypotheses, [reference for _, reference in pairs])


def _draw_lengths(groups: dict[str, list[float]], unrelated: list[float], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in groups.items():
        axes.plot(labels(), values, marker="o", label="no attention" if name == "none" else f"{name} attention")
    axes.plot(labels(), unrelated, linestyle="--", color="gray", label="references of other sentences")
    axes.set(xlabel="Korean words in the sentence", ylabel="chrF", title="Quality by source length, test.tsv")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)


def _draw_curves(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot([point["target_tokens"] / 1e6 for point in curve], [point["dev_chrf"] for point in curve],
                  marker="o", label="no attention" if name == "none" else f"{name} attention")  # fmt: skip
    axes.set(xlabel="target tokens seen, millions", ylabel="dev chrF", title="Learning curves")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
