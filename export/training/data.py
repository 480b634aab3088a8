"""From the corpus folder to weighed examples of ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from export import checkpoint, vocabulary
from export.training import templates
from export.training.batches import Example
from export.training.corpus import Pair, read_tsv, weigh
from export.training.recipe import Recipe

TRAIN, EVERYDAY, DEV = "train.tsv.xz", "everyday_train.tsv", "dev.tsv"
TEST_SETS = ("test.tsv", "everyday_test.tsv")


class Encoder(Protocol):
    """A vocabulary of either family."""

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode source texts, with their end symbol."""

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode target texts, with their end symbol."""


def training_pairs(corpus: Path, recipe: Recipe) -> list[Pair]:
    """Read the corpus, the everyday sentences and the templates; none may stand in dev or in a test set."""
    held_out = {source for name in (DEV, *TEST_SETS) for source, _ in read_tsv(corpus / name)}
    pairs = list(weigh(read_tsv(corpus / TRAIN), 1.0, recipe.label_weight))
    pairs += weigh(read_tsv(corpus / EVERYDAY), recipe.everyday_weight, recipe.label_weight)
    pairs += [Pair(source, target, recipe.template_weight) for source, target in templates.sentences()]
    return [pair for pair in pairs if pair.source not in held_out]


def without_labels(pairs: Sequence[Pair]) -> list[Pair]:
    """Leave out what counts less: the texts that a vocabulary is made of."""
    return [pair for pair in pairs if pair.weight >= 1.0]


def ensure_vocabularies(pairs: Sequence[Pair], size: int, folder: Path) -> None:
    """Train the two SentencePiece models unless the folder has them; labels count less, as in training."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences = without_labels(pairs)
    sides = ((checkpoint.SOURCE_VOCABULARY, "source"), (checkpoint.TARGET_VOCABULARY, "target"))
    for name, side in sides:
        if not (folder / name).exists():
            vocabulary.train((getattr(pair, side) for pair in sentences), size, folder / name)


def encode(pairs: Sequence[Pair], vocabulary: Encoder, longest: int = 100) -> list[Example]:
    """Encode pairs; those over `longest` tokens on a side are left out."""
    sources = vocabulary.encode_sources([pair.source for pair in pairs])
    targets = vocabulary.encode_targets([pair.target for pair in pairs])
    return [
        Example(np.asarray(from_ids, np.int32), np.asarray(to_ids, np.int32), pair.weight)
        for pair, from_ids, to_ids in zip(pairs, sources, targets, strict=True)
        if max(len(from_ids), len(to_ids)) <= longest
    ]
