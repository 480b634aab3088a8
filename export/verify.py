"""The proof that a bundle computes what its PyTorch model does: every tensor of every step, then sentences."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.original import Original
from export.sentences import Compared, beam_parity, compare_beams, compare_greedy
from service.bundle import Parity, Precision
from service.engine.lane import Lane
from service.engine.layout import Layout
from service.engine.session import OnnxModel

Array = NDArray[Any]

SETTLED = 500
"""Sentences of which chrF is compared as strictly as the tolerance says."""
ROWS, LONGEST_SOURCES, STEPS, CANDIDATES = (1, 3, 17), (1, 9, 40), 12, 8


class ParityError(ValueError):
    """The bundle does not do what its model does; the message names the tensor, the step and the difference."""


class Tolerance(NamedTuple):
    """The largest differences that pass, and what must hold of whole sentences; memory's are of its largest value."""

    memory: float
    log_prob: float
    mean_log_prob: float
    attention: float
    identical_share: float
    identical_beams: float
    chrf: float
    """Difference of corpus chrF against the references, in points; fewer sentences than SETTLED scatter more."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-4, 1e-4, 1e-4, 1e-4, identical_share=0.995, identical_beams=0.99, chrf=0.1),
    # float16 rounds to one part in two thousand, logits as large as 16 to 0.01.
    "fp16": Tolerance(0.02, 0.1, 0.02, 0.02, identical_share=0.0, identical_beams=0.0, chrf=0.2),
    # int8 changes what a word costs, and now and then a near tie; what counts is that quality stays.
    "int8": Tolerance(0.05, 1.0, 0.1, 0.25, identical_share=0.0, identical_beams=0.0, chrf=0.3),
}


class Difference(NamedTuple):
    """One tensor of one step, in both; `step` is None for the encoder's."""

    tensor: str
    step: int | None
    largest: float
    mean: float


def verify(onnx_model: OnnxModel, model: Original, pairs: Sequence[tuple[str, str]]) -> Parity:
    """Compare tensors, then the translations of `pairs` of source and reference; raise ParityError."""
    tolerance = TOLERANCES[onnx_model.manifest.model.precision]
    found: list[Difference] = []
    shapes = tuple(itertools.product(ROWS, LONGEST_SOURCES))
    for rows, longest in shapes:
        differences = list(compare_batch(onnx_model, model, rows, longest))
        check(differences, tolerance, f"{rows} row(s) of up to {longest} source token(s)")
        found += differences
    greedy = compare_greedy(onnx_model, model, pairs)
    check_sentences(greedy, tolerance.identical_share, tolerance.chrf)
    beams = compare_beams(onnx_model, model, pairs)
    if beams is not None:
        check_sentences(beams, tolerance.identical_beams, tolerance.chrf)
    return Parity(
        shapes=shapes,
        max_memory_difference=_largest(found, lambda name: name not in ("log_probs", "attention")),
        max_log_prob_difference=_largest(found, "log_probs".__eq__),
        max_attention_difference=_largest(found, "attention".__eq__),
        sentences=greedy.total,
        identical_sentences=greedy.identical,
        differences=greedy.listed,
        chrf_difference=round(greedy.chrf_difference, 3),
        beam=beam_parity(beams),
    )


def mixed_sources(rows: int, longest: int, words: Sequence[int], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return random words `[row, source]` and lengths `[row]` from `longest` down to 1, both int64."""
    lengths = torch.linspace(longest, 1, rows).long()
    random = torch.Generator().manual_seed(1000 * rows + longest)
    ids = torch.tensor(words)[torch.randint(len(words), (rows, longest), generator=random)]
    return ids.where(torch.arange(longest) < lengths.unsqueeze(1), pad_id), lengths


@torch.inference_mode()
def compare_batch(onnx_model: OnnxModel, model: Original, rows: int, longest: int) -> Iterator[Difference]:
    """Compare the encoder, then step after step; both are fed the PyTorch model's choices, each its own state."""
    special, layout = onnx_model.manifest.tokenizer, Layout.of(onnx_model.manifest)
    ids, lengths = mixed_sources(rows, longest, model.facts.words, special.pad_id)
    run, encoded = model.begin(ids, lengths), onnx_model.encode(ids.numpy(), lengths.numpy())
    for name, tensor in (encoded.memory | encoded.state).items():
        yield _difference(name, None, tensor, run.encoded[name])
    lane = Lane(onnx_model, layout, 1)
    lane.insert(encoded, lengths.numpy(), range(rows), special.start_id)
    for step in range(STEPS):
        expected = run.step(torch.from_numpy(lane.tokens))
        stepped = lane.advance(CANDIDATES, attention=True)
        # The candidates must cost what they cost in the model, and must be the best ones.
        found = expected.log_probs.gather(1, torch.from_numpy(stepped.ids))
        yield _difference("log_probs", step, stepped.log_probs, found)
        yield _difference("log_probs", step, stepped.log_probs, expected.log_probs.topk(CANDIDATES).values)
        if stepped.attention is not None and expected.attention is not None:
            yield _difference("attention", step, stepped.attention[:, :longest], expected.attention)
        lane.tokens = expected.log_probs.argmax(dim=-1).numpy()


def check(differences: Sequence[Difference], tolerance: Tolerance, where: str) -> None:
    """Raise ParityError for the first tensor that differs by more than the tolerance."""
    for difference in differences:
        limit = {"log_probs": tolerance.log_prob, "attention": tolerance.attention}
        allowed = limit.get(difference.tensor, tolerance.memory)
        # Not "larger than": a NaN must fail too.
        if not difference.largest <= allowed:
            step = "the encoder" if difference.step is None else f"decoder step {difference.step}"
            raise ParityError(f"{difference.tensor} of {step}, {where}, differs from PyTorch by "
                              f"{difference.largest:.3g}; at most {allowed:g} passes")  # fmt: skip
    means = [difference.mean for difference in differences if difference.tensor == "log_probs"]
    if not np.mean(means) <= tolerance.mean_log_prob:
        raise ParityError(f"log_probs of all steps, {where}, differ from PyTorch by {np.mean(means):.3g} in the mean; "
                          f"at most {tolerance.mean_log_prob:g} passes")  # fmt: skip


def check_sentences(compared: Compared, identical_share: float, chrf: float) -> None:
    """Raise ParityError where fewer sentences than this share are the same, or chrF differs by more."""
    identical = compared.identical / compared.total
    if identical < identical_share:
        listed = "\n  ".join(compared.listed)
        raise ParityError(f"only {identical:.2%} of {compared.total} sentences are translated {compared.how} as in "
                          f"PyTorch; {identical_share:.2%} must be:\n  {listed}")  # fmt: skip
    chrf *= max(1.0, (SETTLED / compared.total) ** 0.5)
    if abs(compared.chrf_difference) > chrf:
        raise ParityError(f"chrF of {compared.total} sentences, translated {compared.how}, differs from PyTorch's "
                          f"{compared.chrf:.2f} by {compared.chrf_difference:+.2f}; at most {chrf:g} passes"
                          )  # fmt: skip


def _difference(name: str, step: int | None, actual: Array, expected: Tensor) -> Difference:
    want = expected.numpy()
    if actual.shape != want.shape:
        where = "the encoder" if step is None else f"decoder step {step}"
        raise ParityError(f"{name} of {where} has shape {list(actual.shape)}; PyTorch has {list(want.shape)}")
    # Equal ones first: a word that must not be chosen costs infinitely much in both.
    differing = actual != want
    gaps = np.zeros(want.shape)
    gaps[differing] = np.abs(actual[differing].astype(np.float64) - want[differing].astype(np.float64))
    # Memory is compared by its size: an RNN's lies in [-1, 1], a Transformer's keys and values do not.
    size = max(1.0, float(np.abs(want).max())) if step is None else 1.0
    return Difference(name, step, float(gaps.max()) / size, float(gaps.mean()) / size)


def _largest(differences: Sequence[Difference], chosen: Callable[[str], bool]) -> float:
    return max((difference.largest for difference in differences if chosen(difference.tensor)), default=0.0)
