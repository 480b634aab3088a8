"""Whole sentences, translated by a bundle and by its PyTorch model: how many are the same, and what differs."""

from collections.abc import Sequence
from typing import NamedTuple

from export import engine_decoding, onnx_decoding
from export.decoding import Beam, GreedyOutput
from export.original import Original
from export.training.evaluate import score
from service.bundle import BeamParity
from service.engine.session import OnnxModel

DIFFERENCES_LISTED = 20
BEAM = Beam(size=4, length_penalty=1.0)
"""What beam search is compared with: the library's usual division by the length."""

Pairs = Sequence[tuple[str, str]]


class Compared(NamedTuple):
    """What both made of the same sentences."""

    how: str
    total: int
    differences: tuple[str, ...]
    chrf: float
    """Of the PyTorch model's translations."""
    chrf_difference: float
    """What the bundle's have more."""

    @property
    def identical(self) -> int:
        """Sentences of which both made the same string."""
        return self.total - len(self.differences)

    @property
    def listed(self) -> tuple[str, ...]:
        """The differences that a report has room for."""
        return self.differences[:DIFFERENCES_LISTED]


def compare_greedy(onnx_model: OnnxModel, model: Original, pairs: Pairs) -> Compared:
    """Translate the sources of `pairs` greedily with both."""
    texts, sources, references = _fitting(onnx_model, model, pairs)
    expected, actual = model.greedy(sources), onnx_decoding.greedy_sorted(onnx_model, sources)
    wanted = [model.target_text(output.target_ids) for output in expected]
    found = [model.target_text(output.target_ids) for output in actual]
    margins = [_margin(*outputs) for outputs in zip(expected, actual, strict=True)]
    return _compared("greedily", texts, (wanted, found, references), margins)


def compare_beams(onnx_model: OnnxModel, model: Original, pairs: Pairs, beam: Beam = BEAM) -> Compared | None:
    """Translate the sources of `pairs` by beam search: with the engine, and with the model's library if it has one."""
    texts, sources, references = _fitting(onnx_model, model, pairs)
    expected = model.beam(sources, beam)
    if expected is None:
        return None
    actual = engine_decoding.search(onnx_model, sources, beam)
    wanted = [model.target_text(output.target_ids) for output in expected]
    found = [model.target_text(output.target_ids) for output in actual]
    margins = [
        f"margin {abs(want.score - got.score):.2e} of the score" for want, got in zip(expected, actual, strict=True)
    ]
    return _compared(f"with a beam of {beam.size}", texts, (wanted, found, references), margins)


def beam_parity(compared: Compared | None, beam: Beam = BEAM) -> BeamParity | None:
    """Return the manifest's part."""
    if compared is None:
        return None
    return BeamParity(beam.size, beam.length_penalty, compared.total, compared.identical, compared.listed,
                      round(compared.chrf_difference, 3))  # fmt: skip


def _fitting(
    onnx_model: OnnxModel, model: Original, pairs: Pairs
) -> tuple[list[str], list[list[int]], list[str]]:  # fmt: skip
    """Return text, ids and reference of each sentence within the limits."""
    longest = onnx_model.manifest.decoding.max_source_tokens
    encoded = [(text, model.source_ids(text), reference) for text, reference in pairs]
    kept = [item for item in encoded if len(item[1]) <= longest]
    if not kept:
        raise ValueError("there is no sentence to compare; give a file with source<TAB>reference lines")
    texts, sources, references = zip(*kept, strict=True)
    return list(texts), list(sources), list(references)


def _compared(
    how: str, texts: list[str], outcomes: tuple[list[str], list[str], list[str]], margins: list[str]
) -> Compared:
    """Compare wanted and found translations, and score both against the references."""
    wanted, found, references = outcomes
    lines = zip(margins, texts, wanted, found, strict=True)
    differences = tuple(f"{margin}: {text}" for margin, text, want, got in lines if want != got)
    chrf = score(wanted, references).chrf
    return Compared(how, len(texts), differences, chrf, score(found, references).chrf - chrf)


def _margin(expected: GreedyOutput, actual: GreedyOutput) -> str:
    """Say by how much the model preferred its word where the two first differ."""
    pairs = zip(expected.target_ids, actual.target_ids, strict=False)
    first = next((at for at, (want, got) in enumerate(pairs) if want != got), None)
    if first is None:
        first = min(len(expected.target_ids), len(actual.target_ids))
    margin = expected.margins[min(first, len(expected.margins) - 1)]
    return f"margin {margin:.2e} at target token {first}"
