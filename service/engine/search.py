"""Which tokens the rows continue with, and what became of them."""

from typing import NamedTuple, Protocol

import numpy as np

from service.engine.sequence import Sequence
from service.engine.session import Stepped
from service.request import FinishReason, Hypothesis, Int64


class Selection(NamedTuple):
    """What a search decided after a step.

    `tokens` `[row]` are fed to the next step; row i continues row `parents[i]` (None: itself, all of them);
    `finished` are the indices, in the running list, of the sequences that ended.
    """

    tokens: Int64
    parents: Int64 | None
    finished: list[int]


class Search(Protocol):
    """A way to search, over all rows at once; it keeps the tokens of the rows."""

    @property
    def k(self) -> int:
        """Candidates per row that the next step must give."""

    def join(self, sequences: list[Sequence]) -> None:
        """Take up sequences whose rows were appended to the batch."""

    def select(self, stepped: Stepped) -> Selection:
        """Decide how every row goes on."""

    def hypotheses(self, index: int, sequence: Sequence) -> tuple[Hypothesis, ...]:
        """Return the best hypotheses so far of the sequence at `index` of the running list, best first."""

    def last_token(self, index: int) -> int | None:
        """Return the token that the best hypothesis of the sequence at `index` just gained; None: its end symbol."""

    def keep(self, kept: list[int]) -> None:
        """Let row j be what row `kept[j]` was, and drop the others."""


class GreedySearch:
    """Each row takes its most probable token: one row for a sequence, so rows and running sequences coincide."""

    k = 1

    def __init__(self, end_id: int, max_rows: int, max_target_tokens: int) -> None:
        self._end_id = end_id
        self._tokens = np.zeros((max_rows, max_target_tokens), np.int64)
        self._log_probs = np.zeros((max_rows, max_target_tokens), np.float32)
        self._lengths: Int64 = np.zeros(0, np.int64)
        self._limits: Int64 = np.zeros(0, np.int64)

    def join(self, sequences: list[Sequence]) -> None:
        """Take up sequences whose rows were appended to the batch."""
        limits = [sequence.request.params.max_target_tokens for sequence in sequences]
        self._limits = np.concatenate((self._limits, np.array(limits, np.int64)))
        self._lengths = np.concatenate((self._lengths, np.zeros(len(limits), np.int64)))

    def select(self, stepped: Stepped) -> Selection:
        """Append the best token of each row; a row ends at the end symbol or at its limit."""
        tokens = stepped.ids[:, 0]
        rows = np.arange(len(tokens))
        self._tokens[rows, self._lengths] = tokens
        self._log_probs[rows, self._lengths] = stepped.log_probs[:, 0]
        self._lengths += 1
        finished = np.nonzero((tokens == self._end_id) | (self._lengths >= self._limits))[0]
        return Selection(tokens, None, finished.tolist())

    def hypotheses(self, index: int, sequence: Sequence) -> tuple[Hypothesis, ...]:
        """Return the one hypothesis of the sequence at `index`."""
        length = int(self._lengths[index])
        tokens = self._tokens[index, :length].tolist()
        log_probs = self._log_probs[index, :length].tolist()
        score = sum(log_probs) / length**sequence.request.params.length_penalty
        reason = FinishReason.LENGTH
        if tokens[-1] == self._end_id:
            reason, length = FinishReason.END, length - 1
        attention = np.stack(sequence.attention[:length]) if sequence.attention and length else None
        return (Hypothesis(tuple(tokens[:length]), tuple(log_probs[:length]), score, reason, attention),)

    def last_token(self, index: int) -> int | None:
        """Return the token that the sequence at `index` just gained; None: its end symbol."""
        token = int(self._tokens[index, self._lengths[index] - 1])
        return None if token == self._end_id else token

    def keep(self, kept: list[int]) -> None:
        """Let row j be what row `kept[j]` was, and drop the others."""
        for row, old in enumerate(kept):
            if row != old:
                length = self._lengths[old]
                self._tokens[row, :length] = self._tokens[old, :length]
                self._log_probs[row, :length] = self._log_probs[old, :length]
        self._lengths, self._limits = self._lengths[kept], self._limits[kept]
