"""`dragoman-export bundle` and `dragoman-export verify`: from a checkpoint to a proved bundle, and the proof alone."""

import argparse
import itertools
from pathlib import Path
from typing import get_args

from export import bundle_writer, originals
from export.bundle_writer import Order
from export.finite import WatchedModel
from export.graphs import DEFAULT_OPSET
from export.half import provable
from export.original import Facts, Languages
from export.quantize import OPSETS
from export.sentences import BEAM
from export.training.corpus import read_tsv
from export.verify import verify
from service import bundle
from service.bundle import Manifest, ModelCard, Parity, Precision

PARITY_SENTENCES = 500


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `bundle`."""
    parser.add_argument("checkpoint", type=Path, help="folder with weights, config.json and tokenizer files, "
                        "of this project or of Hugging Face's library")  # fmt: skip
    parser.add_argument("repository", type=Path, help="model repository; the bundle becomes <name>/<version> in it")
    parser.add_argument("--name", required=True, help="name of the model, such as ko-en")
    parser.add_argument("--version", default="1", help="version of the model (default: %(default)s)")
    parser.add_argument("--source-language", required=True, metavar="CODE", help="BCP-47 code, such as ko")
    parser.add_argument("--target-language", required=True, metavar="CODE", help="BCP-47 code, such as en")
    _add_language_arguments(parser)
    parser.add_argument("--license", required=True, metavar="SPDX", help="licence of the weights")
    parser.add_argument("--data", default="", metavar="LINE", help="what it was trained on, in one line")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--opset", type=int, choices=OPSETS, default=DEFAULT_OPSET, metavar=f"{OPSETS[0]}-{OPSETS[-1]}")
    parser.add_argument("--corpus-file", type=Path, required=True, metavar="TSV",
                        help="source<TAB>reference lines: real sentences to compare with PyTorch")  # fmt: skip
    parser.add_argument("--count", type=int, default=PARITY_SENTENCES, help="how many of them (default: %(default)s)")
    parser.add_argument("--test-set", type=Path, action="append", default=[], metavar="TSV",
                        help="measure chrF and BLEU on it; may be given again")  # fmt: skip
    parser.add_argument("--test-beam", type=int, metavar="SIZE", help="measure them by beam search too")
    parser.add_argument("--force", action="store_true", help="replace a bundle of the same name and version")


def run_bundle(arguments: argparse.Namespace) -> int:
    """Make a bundle, write it and print what was measured."""
    folder = bundle_writer.target_folder(arguments.repository, arguments.name, arguments.version)
    if folder.exists() and not arguments.force:
        raise ValueError(f"{folder} exists; choose another --version, or --force to replace it")
    tests = tuple((path.name, list(read_tsv(path))) for path in arguments.test_set)
    pairs = _read_pairs(arguments.corpus_file, arguments.count)
    languages = _languages(arguments, arguments.source_language, arguments.target_language)
    original = originals.load(arguments.checkpoint, languages, pairs)
    card = ModelCard(
        name=arguments.name, family=original.facts.family, source_language=arguments.source_language,
        target_language=arguments.target_language, license=arguments.license, precision=arguments.precision,
        data=arguments.data,
    )  # fmt: skip
    beam = None if arguments.test_beam is None else BEAM._replace(size=arguments.test_beam)
    made = bundle_writer.make(original, Order(card, arguments.version, arguments.opset, pairs, tests, beam))
    folder = bundle_writer.write(made, arguments.repository, replace=arguments.force)
    _print_parity(made.manifest.parity)
    for quality in made.manifest.quality:
        print(f"{quality.test_set}: chrF {quality.chrf:.2f}, BLEU {quality.bleu:.2f}")
    size = sum(map(len, made.contents.values()))
    print(f"{folder}: {size / 2**20:.1f} MiB, {made.manifest.model.precision}")
    return 0


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument("bundle", type=Path, help="folder <model>/<version> of a bundle")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the checkpoint that it was made from")
    parser.add_argument("--sentences", type=Path, required=True, metavar="TSV", help="source<TAB>reference lines")
    parser.add_argument("--count", type=int, default=PARITY_SENTENCES, help="how many of them (default: %(default)s)")
    _add_language_arguments(parser)


def _add_language_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source-token", metavar="TOKEN", help="what a model of many languages calls the source "
                        "language, such as kor_Hang (default: found by its code)")  # fmt: skip
    parser.add_argument("--target-token", metavar="TOKEN", help="the same of the target language")
    parser.add_argument("--task", default="", metavar="TEXT", help="text in front of every source, such as "
                        "'translate English to German:' for T5")  # fmt: skip


def _languages(arguments: argparse.Namespace, source: str, target: str) -> Languages:
    return Languages(arguments.source_token or source, arguments.target_token or target, arguments.task)


def run_verify(arguments: argparse.Namespace) -> int:
    """Prove a bundle that was written before, and print what was measured."""
    loaded = bundle.load(arguments.bundle)
    pairs = _read_pairs(arguments.sentences, arguments.count)
    card = loaded.manifest.model
    languages = _languages(arguments, card.source_language, card.target_language)
    original = originals.load(arguments.checkpoint, languages, pairs, loaded.manifest.attention_layer)
    check_origin(loaded.manifest, original.facts)
    model = WatchedModel.load(provable(loaded))
    _print_parity(model.counted(verify(model, original, pairs)))
    return 0


def check_origin(manifest: Manifest, facts: Facts) -> None:
    """Raise ValueError where the bundle was made from other weights or other vocabularies."""
    found = {str(facts.weights[0]): bundle_writer.hash_of(facts.weights)}
    found |= {name: bundle_writer.sha256(data) for name, data in facts.tokenizer_files.items()}
    for name, digest in found.items():
        if digest != manifest.files.get(name, manifest.provenance.checkpoint_sha256):
            raise ValueError(f"the bundle was not made from {name}: its sha256 differs; give the right checkpoint")


def _read_pairs(path: Path, count: int) -> list[tuple[str, str]]:
    pairs = list(itertools.islice(read_tsv(path), count))
    if len(pairs) < count:
        raise ValueError(
            f"{path} has {len(pairs)} line(s), fewer than the {count} to compare; set --count or give more"
        )
    return pairs


def _print_parity(parity: Parity) -> None:
    print(f"largest differences over {len(parity.shapes)} shapes: memory and state {parity.max_memory_difference:.2e}, "
          f"log-probabilities {parity.max_log_prob_difference:.2e}, "
          f"attention {parity.max_attention_difference:.2e}")  # fmt: skip
    print(f"{parity.identical_sentences} of {parity.sentences} sentences translated as in PyTorch; "
          f"chrF {parity.chrf_difference or 0.0:+.2f}")  # fmt: skip
    print(f"{parity.finite_values or 0:,} values, none of them NaN or infinite")
    for line in parity.differences:
        print(f"  {line}")
    if parity.beam is None:
        return
    print(f"{parity.beam.identical_sentences} of {parity.beam.sentences} with a beam of {parity.beam.beam_size}; "
          f"chrF {parity.beam.chrf_difference:+.2f}")  # fmt: skip
    for line in parity.beam.differences:
        print(f"  {line}")
