"""A request's mutable decoding state, from the inbox to its last Output."""

import msgspec
import numpy as np

from service.engine.session import EncodedSource
from service.errors import ServiceError
from service.request import FinishReason, Hypothesis, Int64, Output, Permit, Request, Timing


class Sequence(msgspec.Struct, eq=False):
    """Owned by the engine thread. Times are of the engine's clock, in seconds; zero means: not yet."""

    request: Request
    permit: Permit
    arrived: float
    joined: float = 0.0
    """When it ceased to wait: its encoding began, unless it was encoded with others before."""
    encoded: float = 0.0
    source: EncodedSource | None = None
    """What the encoder made of it, from then on until it has rows."""
    first_token: float = 0.0
    first_step: int = 0
    """Number of the engine's step before its first one."""
    first_row_steps: int = 0
    """Rows that the engine had advanced before its first step, each at each step."""
    steps: int = 0
    row_steps: int = 0
    """Rows that were advanced in its steps, its own among them, each at each step."""
    delivered: int = 0
    """Tokens that went out with its Outputs so far, where it is incremental."""
    rows: int = 0
    """Rows of the batch that it takes."""
    source_length: int = 0
    """Source tokens."""
    wishes: bool = False
    """Whether it wants more of a step than its tokens: to hear of it at once, or attention."""

    def __post_init__(self) -> None:
        """Note what is asked for again and again."""
        request = self.request
        self.rows, self.source_length = request.params.rows, len(request.source_ids)
        self.wishes = request.incremental or request.params.return_attention

    def finish(self, hypotheses: tuple[Hypothesis, ...], now: float) -> Output:
        """Return the last Output of a sequence that was decoded to its end, with its last increment."""
        best = hypotheses[0].token_ids
        return Output(
            request_id=self.request.request_id,
            token_ids=best[self.delivered :] if self.request.incremental else (),
            finish_reason=hypotheses[0].finish_reason,
            hypotheses=hypotheses,
            timing=self._timing(now),
        )

    def abort(self, reason: FinishReason, error: ServiceError, now: float) -> Output:
        """Return the last Output of a sequence that ends before its end."""
        return Output(request_id=self.request.request_id, finish_reason=reason, timing=self._timing(now), error=error)

    def _timing(self, now: float) -> Timing:
        if not self.joined:
            return Timing(queue=now - self.arrived, ended=now)
        return Timing(
            queue=self.joined - self.arrived,
            encode=self.encoded - self.joined if self.encoded else 0.0,
            first_token=self.first_token - self.arrived if self.first_token else 0.0,
            decode=now - self.encoded if self.encoded else 0.0,
            steps=self.steps,
            shared_rows=self.row_steps / self.steps if self.steps else 0.0,
            ended=now,
        )


def padded(sequences: list[Sequence], pad_id: int) -> tuple[Int64, Int64]:
    """Return what an encoder reads: source ids `[row, source]`, padded, and their lengths `[row]`."""
    lengths = np.array([sequence.source_length for sequence in sequences])
    ids = np.full((len(sequences), lengths.max()), pad_id)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: sequence.source_length] = sequence.request.source_ids
    return ids, lengths
