"""`python -m tests.benchmark.parity`: each Transformer family's bundle against `generate`, greedy and with beams.

Without weights to download, the architectures are those of small random checkpoints; a trained folder can be added.
"""

import argparse
import itertools
import tempfile
import warnings
from pathlib import Path

import torch
from transformers.utils import logging

from export import bundle_writer, originals
from export.bundle_writer import Order
from export.original import Languages, Original
from export.sentences import Compared, compare_beams, compare_greedy
from export.training.corpus import read_tsv
from service.bundle import ModelCard
from service.engine.session import OnnxModel
from tests.export.families import FAMILIES, languages_of
from tests.export.tiny import PAIRS

Pairs = list[tuple[str, str]]

COLUMNS = ("precision", "sentences", "greedy equal", "chrF", "beam 4 equal", "chrF")
WIDTHS = (10, 10, 14, 8, 14, 8)


def main() -> None:
    """Print a line for each checkpoint, and below it every sentence that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="sentences for each (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="a trained Hugging Face folder, ko to en, to compare too")
    parser.add_argument("--sentences", type=Path, help="source<TAB>reference lines for it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Recommended. pip install sacremoses")
    print(f"{'checkpoint':24}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True)))
    templates = PAIRS[:: max(1, len(PAIRS) // given.count)][: given.count]
    for family, write in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            report(f"{family}, random", originals.load(Path(folder), languages_of(family), templates[:50]), templates)
    if given.checkpoint is not None and given.sentences is not None:
        pairs = list(itertools.islice(read_tsv(given.sentences), given.count))
        report(given.checkpoint.name, originals.load(given.checkpoint, Languages("ko", "en"), pairs), pairs)


def report(name: str, original: Original, pairs: Pairs) -> None:
    """Compare a float32 and an int8 bundle with their model."""
    for precision in ("fp32", "int8"):
        card = ModelCard("report", original.facts.family, "ko", "en", "", precision, "")
        made = bundle_writer.assemble(original, Order(card, "1", 20, pairs, ()))
        model = OnnxModel.load(made, "cpu")
        greedy, beams = compare_greedy(model, original, pairs), compare_beams(model, original, pairs)
        if beams is None:
            raise ValueError(f"{name} has no beam search to compare with")
        print(f"{name:24}{precision:>10}{greedy.total:>10}" + "".join(map(_figures, (greedy, beams))), flush=True)
        if precision == "fp32":
            for compared in (greedy, beams):
                print(*(f"  {compared.how}: {line}\n" for line in compared.differences), sep="", end="")


def _figures(compared: Compared) -> str:
    return f"{f'{compared.identical} = {compared.identical / compared.total:.1%}':>14}{compared.chrf_difference:>+8.2f}"


if __name__ == "__main__":
    main()
