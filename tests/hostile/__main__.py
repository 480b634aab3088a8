"""Makes hostile requests against a real server, and says how each kind ends and what is left of it.

    python -m tests.hostile [--requests 100000] [--round 5000] [--seed N]

Exit status 1 where something was not as it must be.
"""

import argparse
import random
import sys

from tests.hostile.storm import judge, lines, rounds


def main() -> int:
    """Make the requests and report; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--round", type=int, default=5_000, help="requests between two rests")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}")
    found = rounds(asked.requests, asked.round, asked.seed, lambda line: print(line, flush=True))
    rows = judge(found)
    print("\n".join(lines(found)))
    for row in rows:
        print(f"{row.name:<44} {row.found:<24} {row.limit:<10} {'kept' if row.kept else 'NOT KEPT'}")
    for complaint in (*found.improper[:20], *found.faults[:20]):
        print(complaint)
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
