"""CTranslate2's model of a checkpoint, written in a process of its own, since the converter needs torch."""

from pathlib import Path

from export.originals import is_hugging_face
from tests.benchmark import peer
from tests.benchmark.plan import Plan
from tests.benchmark.workers import Worker


def hindrance(plan: Plan, *packages: str) -> str | None:
    """Return what is missing for a comparison, if anything is."""
    if not is_hugging_face(plan.checkpoint):
        return "give --bundle and --checkpoint of a MarianMT model"
    return peer.missing(*packages)


class Converter:
    """Converts one checkpoint."""

    def __init__(self) -> None:
        from tests.benchmark.ctranslate2_model import convert  # noqa: PLC0415  optional

        self._convert = convert

    def __call__(self, order: tuple[Path, Path, str]) -> None:
        """Convert it."""
        self._convert(*order)


def converted(checkpoint: Path, parent: Path, precision: str) -> Path:
    """Return the folder, below `parent`, of a checkpoint's model for the precision of a bundle."""
    folder = parent / precision
    with Worker("converter", Converter, None) as convert:
        convert((checkpoint, folder, precision))
    return folder
