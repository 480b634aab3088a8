"""`dragoman-export self-test`: the translation that a server asks of a bundle before it serves it."""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from export import onnx_decoding, originals
from export.original import Languages, Original
from export.training.corpus import read_tsv
from service import bundle
from service.bundle import SelfTest
from service.engine.session import OnnxModel

LOOKED_AT = 64
SHORTEST = 4
"""Target tokens: fewer say little of a decoder that carries state."""


def choose(model: OnnxModel, original: Original, texts: Sequence[str]) -> SelfTest | None:
    """Translate some texts greedily; return the one that is farthest from any near tie, so that it holds elsewhere.

    On another device or another processor the last digits of log-probabilities differ; a word that leads by far stays.
    None where no translation comes to its end.
    """
    limits = model.manifest.decoding
    encoded = [(text, tuple(original.source_ids(text))) for text in texts[:LOOKED_AT]]
    kept = [(text, ids) for text, ids in encoded if len(ids) <= limits.max_source_tokens]
    outputs = onnx_decoding.greedy_sorted(model, [ids for _, ids in kept])
    rated = [
        (len(output.target_ids) >= SHORTEST, min(output.margins), text, ids, output)
        for (text, ids), output in zip(kept, outputs, strict=True)
        if len(output.target_ids) < limits.target_limit(len(ids))
    ]
    if not rated:
        return None
    *_, text, ids, output = max(rated, key=lambda one: one[:2])
    return SelfTest(text, ids, tuple(output.target_ids), original.target_text(output.target_ids))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=Path, help="folder <model>/<version> of a bundle")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the checkpoint that it was made from")
    parser.add_argument("--sentences", type=Path, required=True, metavar="TSV", help="source<TAB>reference lines")


def run(arguments: argparse.Namespace) -> int:
    """Record the self-test in bundle.json, and touch nothing else."""
    loaded = bundle.load(arguments.bundle)
    pairs = list(itertools.islice(read_tsv(arguments.sentences), LOOKED_AT))
    card = loaded.manifest.model
    original = originals.load(arguments.checkpoint, Languages(card.source_language, card.target_language), pairs)
    chosen = choose(OnnxModel.load(loaded, "cpu"), original, [source for source, _ in pairs])
    if chosen is None:
        raise ValueError("none of the texts is translated to its end; give others to record a self-test with")
    manifest = msgspec.structs.replace(loaded.manifest, self_test=chosen)
    (arguments.bundle / bundle.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    print(f"{chosen.source} -> {chosen.translation}")
    return 0
