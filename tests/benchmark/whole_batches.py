"""What a server of static batches does with the texts of one batch, which runs until its longest text has ended."""

from collections.abc import Callable, Sequence
from pathlib import Path

from service import bundle
from service.tokenizer import Tokenizer
from tests.benchmark.offline import OnnxBatches, build_onnx

ROWS = 32
WAIT_SECONDS = 0.002
"""That a batch waits for company."""

TranslateBatch = Callable[[Sequence[str]], list[str]]


def build(program: str, *arguments: str) -> TranslateBatch:
    """Load `onnxruntime BUNDLE` or `ctranslate2 BUNDLE MODEL`."""
    programs: dict[str, Callable[..., TranslateBatch]] = {"onnxruntime": _onnx, "ctranslate2": _ctranslate2}
    return programs[program](*map(Path, arguments))


def _onnx(folder: Path) -> TranslateBatch:
    offline = build_onnx(folder, ROWS, OnnxBatches)
    return lambda texts: [one.text for one in offline(texts).translated]


def _ctranslate2(folder: Path, model: Path) -> TranslateBatch:
    from tests.benchmark.ctranslate2_model import open_translator  # noqa: PLC0415  optional

    loaded = bundle.load(folder)
    tokenizer, limits = Tokenizer.from_bundle(loaded), loaded.manifest.decoding
    translator = open_translator(model, loaded.manifest.model.precision)

    def translate(texts: Sequence[str]) -> list[str]:
        sources = [tokenizer.encode(text).pieces for text in texts]
        found = translator.translate_batch(
            sources, beam_size=1, max_batch_size=ROWS, max_decoding_length=limits.target_limit(max(map(len, sources)))
        )
        return [tokenizer.decode([tokenizer.target_id(piece) or 0 for piece in one.hypotheses[0]]) for one in found]

    return translate
