"""CTranslate2's model of a checkpoint, written in a process of its own, since the converter needs torch."""

from pathlib import Path

from tests.benchmark.workers import Worker


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
