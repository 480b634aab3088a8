"""Whether the engine's CPU path has become slower: two revisions in turn, in processor time, on any crowded machine.

`python -m tests.benchmark.paired BEFORE [AFTER]` compares a revision, or the working tree, with an earlier one. Both
decode the same sources, in processes of their own that take turns; what is compared is the median of the ratios.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND = 1.03
"""Larger medians end with status 1."""
SCRIPT = """
import random, sys, time
from pathlib import Path
from service import bundle
from service.engine.session import OnnxModel
from tests.benchmark.stepping import decode, replacing
rows, count = int(sys.argv[2]), int(sys.argv[3])
read = bundle.load(Path(sys.argv[1]))
model = OnnxModel.load(read, "cpu")
chance = random.Random(3)
end = read.manifest.tokenizer.end_id
sources = [tuple(chance.randrange(10, 3000) for _ in range(chance.randint(3, 40))) + (end,) for _ in range(count)]
decode(model, sources[: 2 * rows], replacing(rows), rows)
started = time.process_time()
outputs = decode(model, sources, replacing(rows), rows)
print(time.process_time() - started, hash(tuple(output.hypotheses[0].token_ids for output in outputs)))
"""


def seconds(tree: Path, bundle: Path, rows: int, count: int) -> tuple[float, str]:
    """Decode in a process of its own; return the processor seconds, and what stands for the tokens."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", SCRIPT, str(bundle), str(rows), str(count)]
    out = subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True).stdout  # noqa: S603
    taken, tokens = out.split()
    return float(taken), tokens


def _unpacked(revision: str, folder: Path) -> Path:
    command = ["git", "archive", revision]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S603
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def main() -> int:
    """Compare, print a line for each number of rows, and say by the status whether it is slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--sources", type=int, default=60)
    wanted = parser.parse_args()
    slower = False
    with tempfile.TemporaryDirectory() as folder:
        before = _unpacked(wanted.before, Path(folder, "before"))
        after = _unpacked(wanted.after, Path(folder, "after")) if wanted.after else ROOT
        bundle = before / "service/bundles/ko-en/1"
        for rows in wanted.rows:
            ratios = []
            for _ in range(wanted.rounds):
                old, old_tokens = seconds(before, bundle, rows, wanted.sources)
                new, new_tokens = seconds(after, bundle, rows, wanted.sources)
                if old_tokens != new_tokens:
                    print(f"{rows} row(s): the tokens are others than those of {wanted.before}")
                ratios.append(new / old)
            middle = statistics.median(ratios)
            slower |= middle > BOUND
            print(f"{rows} row(s): {middle:.3f} of the time of {wanted.before} "
                  f"({min(ratios):.3f} to {max(ratios):.3f}, {wanted.rounds} rounds)", flush=True)  # fmt: skip
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
