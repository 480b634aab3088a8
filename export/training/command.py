"""`dragoman-export train`: from a corpus folder to a checkpoint."""

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path

import torch

from export import checkpoint
from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig
from export.training import data, evaluate, marian
from export.training.batches import Example
from export.training.corpus import Pair, read_tsv
from export.training.learner import AttentionRnnLearner, Learner
from export.training.recipe import Recipe
from export.training.trainer import Trainer
from export.transformer import marian_vocabulary

DEV_SENTENCES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; every field of the recipe is one."""
    parser.add_argument("folder", type=Path, help="the checkpoint to write, or to resume")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with train.tsv.xz, dev.tsv and the others")
    parser.add_argument("--family", choices=("attention-rnn", "marian"), default="attention-rnn",
                        help="marian: a Hugging Face MarianMT model, of the sizes that apply to it")  # fmt: skip
    parser.add_argument("--vocabulary-size", type=int, default=8000, help="subwords on each side, or shared by both")
    parser.add_argument("--attention", choices=("dot", "general", "concat", "none"), default="dot")
    parser.add_argument("--cell", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--embedding-size", type=int, default=256)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--encoder-layers", type=int, default=1)
    parser.add_argument("--decoder-layers", type=int, default=1)
    parser.add_argument("--input-feeding", action="store_true")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=None, help="processor threads (default: all)")
    for field in dataclasses.fields(Recipe):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the best chrF on dev."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)})
    torch.manual_seed(recipe.seed)
    pairs = data.training_pairs(arguments.corpus, recipe)
    learner, examples = (_marian if arguments.family == "marian" else _attention_rnn)(arguments, pairs)
    tokens = sum(len(example.target) * example.weight for example in examples)
    parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    print(f"{len(examples):,} pairs, {tokens / 1e6:.2f} M target tokens a pass, {parameters / 1e6:.2f} M parameters",
          file=sys.stderr, flush=True)  # fmt: skip
    dev = list(itertools.islice(read_tsv(arguments.corpus / data.DEV), DEV_SENTENCES))
    sources, references = [source for source, _ in dev], [target for _, target in dev]

    def chrf() -> float:
        return evaluate.score(learner.translate(sources), references).chrf

    best = Trainer(learner, examples, recipe, arguments.folder, chrf).run()
    print(f"best dev chrF {best:.2f}; the checkpoint is in {arguments.folder}")
    return 0


def _attention_rnn(arguments: argparse.Namespace, pairs: list[Pair]) -> tuple[Learner, list[Example]]:
    config = AttentionRnnConfig(
        source_vocabulary_size=arguments.vocabulary_size, target_vocabulary_size=arguments.vocabulary_size,
        cell=arguments.cell, attention=arguments.attention, embedding_size=arguments.embedding_size,
        hidden_size=arguments.hidden_size, encoder_layers=arguments.encoder_layers,
        decoder_layers=arguments.decoder_layers, input_feeding=arguments.input_feeding, dropout=arguments.dropout,
    )  # fmt: skip
    data.ensure_vocabularies(pairs, arguments.vocabulary_size, arguments.folder)
    examples = data.encode(pairs, checkpoint.load_vocabularies(arguments.folder))
    return AttentionRnnLearner(AttentionRnn(config), arguments.folder), examples


def _marian(arguments: argparse.Namespace, pairs: list[Pair]) -> tuple[Learner, list[Example]]:
    if not (arguments.folder / marian_vocabulary.IDS).exists():
        texts = (text for pair in data.without_labels(pairs) for text in (pair.source, pair.target))
        marian_vocabulary.train(texts, arguments.vocabulary_size, arguments.folder)
    vocabulary = marian_vocabulary.load(arguments.folder)
    sizes = marian.sizes(
        arguments.embedding_size, arguments.encoder_layers, arguments.decoder_layers, arguments.dropout
    )  # fmt: skip
    model = marian.new_model(vocabulary, sizes)
    return marian.MarianLearner(model, vocabulary, arguments.folder), data.encode(pairs, vocabulary)
