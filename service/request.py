"""What is asked, what comes back, and what a step did: the immutable values that cross from room to room."""

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from service.errors import InvalidRequestError, ServiceError

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

MAX_BEAM_SIZE = 16
MAX_CANDIDATES = 64
"""Candidates per row that sampling may draw from."""
MAX_SUPPRESSED = 16


class FinishReason(enum.StrEnum):
    """Why a request ended; the values are metric labels."""

    END = "end"
    """The model chose its end symbol."""
    LENGTH = "length"
    """The limit of target tokens was reached."""
    REPETITION = "repetition"
    """It repeated itself as often as it may."""
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


class Priority(enum.IntEnum):
    """Who joins first."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class LengthPenaltyKind(enum.StrEnum):
    """How a length is turned into what a sum of log-probabilities is divided by."""

    PLAIN = "plain"
    """length ** a."""
    GNMT = "gnmt"
    """((5 + length) / 6) ** a (Wu et al. 2016, section 7)."""


@dataclass(frozen=True, slots=True)
class LengthPenalty:
    """What the sum of a hypothesis' log-probabilities is divided by; the end symbol counts in both."""

    exponent: float = 0.0
    kind: LengthPenaltyKind = LengthPenaltyKind.PLAIN

    def __post_init__(self) -> None:
        """Raise InvalidRequestError where the exponent is out of bounds."""
        if not 0.0 <= self.exponent <= 10.0:
            raise InvalidRequestError("options.length_penalty", "must be from 0 (none) to 10")

    def __call__(self, length: int) -> float:
        """Return the divisor for a length in tokens."""
        base = (5 + length) / 6 if self.kind is LengthPenaltyKind.GNMT else float(length)
        return float(base**self.exponent)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens: from the `top_k` best of a step, cut where they reach the probability `top_p`."""

    temperature: float = 1.0
    top_k: int = MAX_CANDIDATES
    top_p: float = 1.0
    seed: int = 0
    stream: int = 0
    """Which text of a call it is: with one seed, each has draws of its own."""

    def __post_init__(self) -> None:
        """Raise InvalidRequestError that names the option at fault."""
        if not 0.0 < self.temperature <= 10.0:
            message = "must be above 0, at most 10; leave sampling out for the most probable tokens"
            raise InvalidRequestError("options.sampling.temperature", message)
        if not 1 <= self.top_k <= MAX_CANDIDATES:
            raise InvalidRequestError("options.sampling.top_k", f"must be from 1 to {MAX_CANDIDATES}")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequestError("options.sampling.top_p", "must be above 0, at most 1 (all)")


@dataclass(frozen=True, slots=True)
class DecodingParams:
    """How to decode one segment. An invalid one cannot exist."""

    max_target_tokens: int
    """Tokens of the prefix and the end symbol count."""
    min_target_tokens: int = 0
    beam_size: int = 1
    num_hypotheses: int = 1
    length_penalty: LengthPenalty = LengthPenalty()
    patience: float = 0.0
    """0: a beam ends when no running hypothesis can beat the best `num_hypotheses` found; else when round(beam_size ·
    patience) have ended (Kasai et al. 2022)."""
    sampling: Sampling | None = None
    """None: take the most probable. Otherwise every hypothesis is a draw of its own."""
    no_repeat_ngram_size: int = 0
    max_phrase_repeats: int = 0
    suppressed_ids: tuple[int, ...] = ()
    prefix_ids: tuple[int, ...] = ()
    """Tokens that every hypothesis begins with; they have log-probability 0 and no part in the length of the score."""
    return_attention: bool = False

    @property
    def rows(self) -> int:
        """Rows of the batch that it takes."""
        return self.beam_size if self.sampling is None else self.num_hypotheses

    @property
    def plain(self) -> bool:
        """Whether nothing but the most probable token of a single row is asked for at every step."""
        return self.beam_size == 1 and self.sampling is None and not self.constrained

    @property
    def constrained(self) -> bool:
        """Whether some tokens are forbidden or forced at some step."""
        return bool(
            self.prefix_ids
            or self.suppressed_ids
            or self.min_target_tokens
            or self.no_repeat_ngram_size
            or self.max_phrase_repeats
        )

    def __post_init__(self) -> None:
        """Raise InvalidRequestError that names the option at fault."""
        most = MAX_BEAM_SIZE if self.sampling else self.beam_size
        rules = [
            (self.max_target_tokens >= 1, "max_target_tokens", "must be at least 1; leave it out for the model's"),
            (0 <= self.min_target_tokens <= self.max_target_tokens, "min_target_tokens",
             f"must be from 0 to the largest target length ({self.max_target_tokens})"),
            (1 <= self.beam_size <= MAX_BEAM_SIZE, "beam_size", f"must be from 1 (greedy) to {MAX_BEAM_SIZE}"),
            (self.sampling is None or self.beam_size == 1, "beam_size", "must be 1, or left out, when sampling"),
            (1 <= self.num_hypotheses <= most, "num_hypotheses",
             f"must be from 1 to {most} (the beam size or, when sampling, {MAX_BEAM_SIZE})"),
            (0.0 <= self.patience <= 100.0, "patience", "must be from 0 (exact) to 100"),
            (self.no_repeat_ngram_size >= 2 or self.no_repeat_ngram_size == 0, "no_repeat_ngram_size",
             "must be at least 2, or 0 for no such rule"),
            (self.max_phrase_repeats == 0 or self.max_phrase_repeats >= 2, "max_phrase_repeats",
             "must be at least 2, or 0 for no such rule"),
            (len(self.suppressed_ids) <= MAX_SUPPRESSED, "suppressed_tokens", f"takes at most {MAX_SUPPRESSED} tokens"),
            (len(self.prefix_ids) < self.max_target_tokens, "target_prefix",
             f"has {len(self.prefix_ids)} tokens, but the translation may have {self.max_target_tokens}"),
        ]  # fmt: skip
        for holds, option, message in rules:
            if not holds:
                raise InvalidRequestError(f"options.{option}", message)


class Permit(Protocol):
    """Proof of admission: nothing is decoded without one. Returned exactly once, by whoever was given it."""

    @property
    def returned(self) -> bool:
        """Whether it was given back; a request with a returned permit must not start."""


class Request(msgspec.Struct, frozen=True):
    """The immutable ask: one sentence."""

    request_id: str
    source_ids: tuple[int, ...]
    params: DecodingParams
    deadline: float | None = None
    """On the engine's clock (time.monotonic), in seconds; None: no deadline."""
    incremental: bool = False
    """Deliver an Output per step; otherwise the last one alone."""
    client: str = ""
    """What shares rows evenly with others of its kind: the call that it came with; empty: itself."""
    priority: Priority = Priority.NORMAL
    arrived: float | None = None
    """When its call was taken up, on the engine's clock, in seconds; None: when it is submitted."""


class Hypothesis(msgspec.Struct, frozen=True):
    """One candidate translation; the end symbol is left out of all but the score, a prefix is in all but the score.

    `attention`, where asked for, is `[len(token_ids), source]`.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    finish_reason: FinishReason
    attention: Float32 | None = None


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Where a request's time went, in seconds; what did not happen is zero."""

    queue: float = 0.0
    """From its arrival to the start of its encoding."""
    encode: float = 0.0
    first_token: float = 0.0
    """From its arrival to the first token."""
    decode: float = 0.0
    """From the end of its encoding to its last token, and once that is handed over, to that moment."""
    steps: int = 0
    shared_rows: float = 0.0
    """Rows of the batch in these steps, its own among them; the mean."""
    ended: float = 0.0
    """When it ended, on the engine's clock."""


class Output(msgspec.Struct, frozen=True):
    """One step's increment of one request. The last one, and only that, carries a finish_reason."""

    request_id: str
    token_ids: tuple[int, ...] = ()
    """New tokens of the best hypothesis that no later step can change; empty unless the request is incremental. All
    such tokens, one after the other, are those of the best hypothesis."""
    finish_reason: FinishReason | None = None
    hypotheses: tuple[Hypothesis, ...] = ()
    """Best first; in the last Output of a request that was decoded to its end."""
    timing: Timing = Timing()
    error: ServiceError | None = None
    """Set where finish_reason is ERROR, DEADLINE or CANCELLED."""

    def handed_over(self, now: float) -> "Output":
        """Return it as whoever waits for it gets it: the way to them is part of decoding."""
        timing = self.timing
        if self.finish_reason is None or not timing.decode:
            return self
        return replace(self, timing=replace(timing, decode=timing.decode + now - timing.ended, ended=now))


class StepReport(NamedTuple):
    """What one engine step did, for metrics; times in seconds."""

    joined: int
    source_tokens: int
    """Of the requests that joined."""
    rows: int
    """Rows that were advanced: tokens produced, before any was dropped."""
    running: int
    """Requests that run after the step."""
    encode: float
    step: float
    """Time inside the model's step."""
    host: float
    """Everything else: joining, selection, bookkeeping, delivery."""
    interval: float
    """Since these rows made their step before; where others have steps of their own, longer than this one."""


class StepObserver(Protocol):
    """Sees every step, on the engine's thread: it must be quick and must not raise."""

    def observe_step(self, report: StepReport) -> None:
        """Take note of one step."""
