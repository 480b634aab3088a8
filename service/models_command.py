"""`dragoman models`: what a server or a repository holds; and, for its operator, what it is to hold."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import terminal
from service.bundle import read_manifest
from service.repository import find_bundles

if TYPE_CHECKING:  # what a command line needs late is imported late
    from service.rpc.operator import Operator


def declare(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401  argparse does not name its type
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser("models", help="list models, or change what a server holds")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--model-repository", type=Path, metavar="DIR", help="list this folder instead of a server")
    socket = "of a server's --admin-socket, given as --server unix:PATH"
    asked.add_argument("--states", action="store_true", help=f"list all versions and their states, {socket}")
    asked.add_argument("--load", metavar="NAME[@VERSION]", help=f"hold this too, {socket}")
    asked.add_argument("--unload", metavar="NAME[@VERSION]", help=f"hold this no more, {socket}")
    asked.add_argument("--reload", action="store_true", help=f"hold what the repository has now, {socket}")
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it and print a table; return the exit status."""
    if given.model_repository is not None:
        rows = [_described(folder).cells() for folder in find_bundles(given.model_repository)]
        print(terminal.table(terminal.MODEL_COLUMNS, rows))
        return 0
    from service.rpc.channel import Connection  # noqa: PLC0415
    from service.rpc.client import ClientError  # noqa: PLC0415
    from service.rpc.operator import Operator  # noqa: PLC0415

    try:
        with Operator(Connection.from_arguments(given), given.timeout) as server:
            states = _operate(given, server)
            if states is not None:
                print(terminal.table(terminal.STATE_COLUMNS, states))
            else:
                print(terminal.table(terminal.MODEL_COLUMNS, [row.cells() for row in server.models()]))
    except ClientError as error:
        print(f"dragoman: {error}", file=sys.stderr)
        return 1
    return 0


def _operate(given: argparse.Namespace, server: "Operator") -> list[list[str]] | None:
    """Do what an operator asks for; None: it is no operator."""
    if given.load is not None:
        return server.load(given.load)
    if given.unload is not None:
        return server.unload(given.unload)
    if given.reload:
        return server.reload()
    return server.states() if given.states else None


def _described(folder: Path) -> terminal.ModelRow:
    manifest = read_manifest(folder)
    card, parity = manifest.model, manifest.parity
    return terminal.ModelRow(
        name=folder.parent.name,
        version=folder.name,
        languages=(card.source_language, card.target_language),
        family=card.family,
        precision=card.precision,
        provider="-",
        identical=(parity.identical_sentences, parity.sentences),
        quality=[(quality.test_set, quality.chrf, quality.bleu) for quality in manifest.quality],
    )
