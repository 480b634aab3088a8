"""What is asked, what comes back, and what a step did: the immutable values that cross from room to room."""

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError, ServiceError

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

MAX_BEAM_SIZE = 1
"""Greedy decoding; the seams for wider beams stand in the engine."""


class FinishReason(enum.Enum):
    """Why a request ended; the values are metric labels."""

    END = "end"
    """The model chose its end symbol."""
    LENGTH = "length"
    """The limit of target tokens was reached."""
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class DecodingParams:
    """How to decode one request. An invalid one cannot exist."""

    max_target_tokens: int
    beam_size: int = 1
    num_hypotheses: int = 1
    length_penalty: float = 0.0
    """A hypothesis scores (sum of its log-probabilities) / length ** length_penalty; the end symbol counts in both."""
    return_attention: bool = False

    def __post_init__(self) -> None:
        """Raise InvalidRequestError that names the option at fault."""
        if self.max_target_tokens < 1:
            raise InvalidRequestError("options.max_target_tokens", "must be at least 1; leave it out for the model's")
        if not 1 <= self.beam_size <= MAX_BEAM_SIZE:
            message = f"is {self.beam_size}, but this version decodes greedily; leave it out, or set it to 1"
            raise InvalidRequestError("options.beam_size", message)
        if not 1 <= self.num_hypotheses <= self.beam_size:
            raise InvalidRequestError("options.num_hypotheses", f"must be from 1 to beam_size ({self.beam_size})")
        if not 0.0 <= self.length_penalty <= 10.0:
            raise InvalidRequestError("options.length_penalty", "must be from 0 (none) to 10")


class Permit(Protocol):
    """Proof of admission: nothing is decoded without one. Returned exactly once, by whoever was given it."""

    @property
    def returned(self) -> bool:
        """Whether it was given back; a request with a returned permit must not start."""


@dataclass(frozen=True, slots=True)
class Request:
    """The immutable ask: one sentence."""

    request_id: str
    source_ids: tuple[int, ...]
    params: DecodingParams
    deadline: float | None = None
    """On the engine's clock (time.monotonic), in seconds; None: no deadline."""
    incremental: bool = False
    """Deliver an Output per step; otherwise the last one alone."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate translation; the end symbol is left out of all but the score.

    `attention`, where asked for, is `[len(token_ids), source]`.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    finish_reason: FinishReason
    attention: Float32 | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a request's time went, in seconds; what did not happen is zero."""

    queue: float = 0.0
    """From submission to the start of its encoding."""
    encode: float = 0.0
    first_token: float = 0.0
    """From submission to the first token."""
    decode: float = 0.0
    """From the end of its encoding to its last token."""
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """One step's increment of one request. The last one, and only that, carries a finish_reason."""

    request_id: str
    token_ids: tuple[int, ...] = ()
    """New tokens of the best hypothesis; empty unless the request is incremental."""
    finish_reason: FinishReason | None = None
    hypotheses: tuple[Hypothesis, ...] = ()
    """Best first; in the last Output of a request that was decoded to its end."""
    timing: Timing = Timing()
    error: ServiceError | None = None
    """Set where finish_reason is ERROR, DEADLINE or CANCELLED."""


class StepReport(NamedTuple):
    """What one engine step did, for metrics; times in seconds."""

    joined: int
    source_tokens: int
    """Of the requests that joined."""
    rows: int
    """Rows that were advanced: tokens produced, before any was dropped."""
    waiting: int
    running: int
    """Requests in each list after the step."""
    encode: float
    step: float
    """Time inside the model's step."""
    host: float
    """Everything else: joining, selection, bookkeeping, delivery."""


class StepObserver(Protocol):
    """Sees every step, on the engine's thread: it must be quick and must not raise."""

    def observe_step(self, report: StepReport) -> None:
        """Take note of one step."""

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Take note of the outputs of one step, finished requests among them."""
