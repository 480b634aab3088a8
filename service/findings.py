"""What export found out about a bundle, in its manifest: where it came from, parity, quality, a self-test."""

from collections.abc import Mapping

import msgspec


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and strict about what it is read from."""


class Provenance(Part, frozen=True):
    """Where the bundle came from: hash of the checkpoint's weights, versions of the tools by name."""

    checkpoint_sha256: str
    opset: int
    tools: Mapping[str, str]


class BeamParity(Part, frozen=True):
    """Beam search in the engine, against that of the original model's library."""

    beam_size: int
    length_penalty: float
    """Scores are sums of log-probabilities over length ** this."""
    sentences: int
    identical_sentences: int
    differences: tuple[str, ...]
    chrf_difference: float
    """What the bundle's translations have more than the original's."""


class Parity(Part, frozen=True):
    """What export measured against the original model; differences are absolute and the largest over all.

    Those of memory are shares of the tensor's largest value, where that is more than 1.
    """

    shapes: tuple[tuple[int, int], ...]
    """(rows, longest source) of each batch compared, encoder and every step."""
    max_memory_difference: float
    max_log_prob_difference: float
    max_attention_difference: float
    sentences: int
    identical_sentences: int
    differences: tuple[str, ...]
    """One line for each sentence that differs, with the margin at its first different token."""
    chrf_difference: float | None = None
    """What the bundle's greedy translations of these sentences have more than the original's; None: not recorded."""
    beam: BeamParity | None = None
    """None where the original has no beam search to compare with."""
    finite_values: int | None = None
    """Values that the graphs put out while this was measured, none of them NaN or infinite; None: not counted."""


class Quality(Part, frozen=True):
    """sacrebleu scores on one test set, with signatures."""

    test_set: str
    chrf: float
    bleu: float
    chrf_signature: str
    bleu_signature: str


class SelfTest(Part, frozen=True):
    """A text that the bundle translated when it was exported, far from any near tie: it must again, anywhere."""

    source: str
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    """Without the end symbol."""
    translation: str
