"""`dragoman-export`: train, compact, bundle, verify, self-test and report."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from export import bundle_command, compact_command, report, self_test
from export.training import command as train
from service.errors import StartupError


class Command(NamedTuple):
    """A command: its line of help, and how it declares its arguments and runs."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = {
    "train": Command("train an attention RNN on parallel text", train.add_arguments, train.run),
    "compact": Command(
        "round a checkpoint's weights to sixteen bits", compact_command.add_arguments, compact_command.run
    ),
    "bundle": Command(
        "make a proved bundle of a checkpoint", bundle_command.add_bundle_arguments, bundle_command.run_bundle
    ),
    "verify": Command(
        "prove that a bundle computes what its checkpoint computes",
        bundle_command.add_verify_arguments,
        bundle_command.run_verify,
    ),
    "self-test": Command(
        "record in a bundle what a server is to translate before it serves it", self_test.add_arguments, self_test.run
    ),
    "report": Command(
        "compare checkpoints: test sets, source lengths, learning curves", report.add_arguments, report.run
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="dragoman-export", description=__doc__)
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        declared = parsers.add_parser(name, help=command.help)
        command.add_arguments(declared)
        declared.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError, StartupError) as error:
        print(f"dragoman-export: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
