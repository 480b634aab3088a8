"""`dragoman-export`: train, compact, bundle, verify and report."""

import argparse
import sys
from collections.abc import Sequence

from export import bundle_command, compact_command, report
from export.training import command as train
from service.errors import StartupError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="dragoman-export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training = commands.add_parser("train", help="train an attention RNN on parallel text")
    train.add_arguments(training)
    training.set_defaults(run=train.run)
    bundling = commands.add_parser("bundle", help="make a proved bundle of a checkpoint")
    bundle_command.add_bundle_arguments(bundling)
    bundling.set_defaults(run=bundle_command.run_bundle)
    verifying = commands.add_parser("verify", help="prove that a bundle computes what its checkpoint computes")
    bundle_command.add_verify_arguments(verifying)
    verifying.set_defaults(run=bundle_command.run_verify)
    compacting = commands.add_parser("compact", help="round a checkpoint's weights to sixteen bits")
    compact_command.add_arguments(compacting)
    compacting.set_defaults(run=compact_command.run)
    reporting = commands.add_parser("report", help="compare checkpoints: test sets, source lengths, learning curves")
    report.add_arguments(reporting)
    reporting.set_defaults(run=report.run)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError, StartupError) as error:
        print(f"dragoman-export: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
