"""`dragoman-export`: train, bundle and verify."""

import argparse
import sys

from export.training import command as train


def main() -> int:
    """Run one command; return its exit status."""
    parser = argparse.ArgumentParser(prog="dragoman-export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training = commands.add_parser("train", help="train an attention RNN on parallel text")
    train.add_arguments(training)
    training.set_defaults(run=train.run)
    arguments = parser.parse_args()
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"dragoman-export: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
