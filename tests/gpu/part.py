"""`python -m tests.gpu.part NAME PLAN`: one part in a process of its own, so that its end is not that of the others."""

import importlib
import logging
import sys

from tests.gpu.notebook import Notebook
from tests.gpu.plan import Plan

FIRST, NOT_HERE = "card", 3
"""The part that tries the provider, and its exit status where that cannot be had."""


def main(name: str, plan: Plan) -> int:
    """Measure a part."""
    logging.basicConfig(level=logging.WARNING)
    from service.errors import StartupError  # noqa: PLC0415 # Needs packages that may be missing.

    measure = importlib.import_module(f"tests.gpu.{name}").measure
    book = Notebook(plan.output / f"{name}.json", name)
    book.write()
    try:
        measure(plan, book)
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_HERE if name == FIRST else 1
    book.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Plan.from_json(sys.argv[2])))
