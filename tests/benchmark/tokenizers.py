"""`python -m tests.benchmark.tokenizers`: sentences whose ids in the service are those of the library, by family.

Tokenizers that were trained elsewhere cannot be downloaded everywhere, so each family's is made of the corpus, of the
kind and in the files that its library saves; a trained folder can be added.
"""

import argparse
import itertools
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

from transformers.utils import logging

from export import bundle_writer, originals
from export.bundle_writer import Order
from export.original import Languages
from export.training.corpus import read_tsv
from export.transformer.original import TransformerOriginal
from service.bundle import ModelCard
from service.tokenizer import Tokenizer
from tests.export.families import FAMILIES, Words, languages_of

PIECES = 8000
LEARNT_FROM = 20_000
"""Texts of each language that a tokenizer is made of; others are compared."""

Pairs = list[tuple[str, str]]


def main() -> None:
    """Print a line for each family, and the first sentences that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder with train.tsv.xz")
    parser.add_argument("--count", type=int, default=10_000, help="sentences to compare (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="a trained Hugging Face folder, ko to en, to compare too")
    given = parser.parse_args()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Recommended. pip install sacremoses")
    taken = list(itertools.islice(read_tsv(given.corpus / "train.tsv.xz"), LEARNT_FROM + given.count))
    compared, learnt = taken[: given.count], taken[given.count :]
    words = Words([text for pair in learnt for text in pair], PIECES)
    print(f"{'tokenizer':24}{'source ids':>18}{'target ids':>18}{'decoded':>18}")
    for family, write in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), words)
            _report(f"{family}, of the corpus", Path(folder), languages_of(family), compared)
    if given.checkpoint is not None:
        _report(given.checkpoint.name, given.checkpoint, Languages("ko", "en"), compared)


def _report(name: str, folder: Path, languages: Languages, pairs: Pairs) -> None:
    original = originals.load(folder, languages, [], attention_layer=0)
    if not isinstance(original, TransformerOriginal):
        raise TypeError(f"{folder} is no Hugging Face folder")
    card = ModelCard("report", original.facts.family, "ko", "en", "", "fp32", "")
    tokenizer = Tokenizer.from_bundle(bundle_writer.assemble(original, Order(card, "1", 20, [], ())))
    sources = [text for text, _ in pairs if tuple(original.source_ids(text)) != tokenizer.encode(text).ids]
    targets = [text for _, text in pairs if tuple(original.target_ids(text)) != tokenizer.encode_target(text)]
    ids = [tokenizer.encode_target(text) for _, text in pairs]
    decoded = [str(one) for one in ids if original.target_text(one) != tokenizer.decode(one)]
    print(f"{name:24}" + "".join(f"{_share(found, len(pairs)):>18}" for found in (sources, targets, decoded)))
    for text in itertools.islice(itertools.chain(sources, targets, decoded), 5):
        print(f"  differs: {text}")
    sys.stdout.flush()


def _share(differing: Iterable[str], total: int) -> str:
    return f"{total - len(list(differing)):,} of {total:,}"


if __name__ == "__main__":
    main()
