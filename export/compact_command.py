"""`dragoman-export compact`: a checkpoint of half the size, whose weights are exact in sixteen bits."""

import argparse
import shutil
from pathlib import Path

import torch

from export import checkpoint
from export.training.trainer import HISTORY


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="where to write the rounded checkpoint")


def run(arguments: argparse.Namespace) -> int:
    """Round the weights to float16, keep everything else, and print the size."""
    checkpoint.save(checkpoint.load(arguments.checkpoint), arguments.folder, torch.float16)
    for name in (checkpoint.SOURCE_VOCABULARY, checkpoint.TARGET_VOCABULARY, HISTORY):
        if (arguments.checkpoint / name).exists():
            shutil.copyfile(arguments.checkpoint / name, arguments.folder / name)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir())
    print(f"{arguments.folder}: {size / 2**20:.1f} MiB")
    return 0
