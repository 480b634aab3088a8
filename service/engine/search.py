"""Which tokens the rows continue with, and what became of them."""

from typing import NamedTuple, Protocol

import numpy as np

from service.engine.sequence import Sequence
from service.engine.session import Stepped
from service.request import FinishReason, Float32, Hypothesis, Int64


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


class StepRecord(NamedTuple):
    """What the rows chose at one step: all `[row]`, `attention` `[row, source]` where it was asked for.

    `parents[i]` is the row, as rows were numbered at the step before, that row i continues; None: itself.
    """

    tokens: Int64
    log_probs: Float32
    attention: Float32 | None
    parents: Int64 | None


class History:
    """The latest steps, and a way back through them: a row's past is read once, when it ends, and never copied."""

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._steps: list[StepRecord] = []
        self._moves: Int64 | None = None
        """Where the rows stood at the end of the last step, after those that left and joined since; None: as now."""

    def append(self, tokens: Int64, stepped: Stepped, parents: Int64 | None) -> None:
        """Take note of a step: the tokens `[row]` it chose and the rows `[row]` they continue."""
        if self._moves is not None:
            parents, self._moves = self._moves if parents is None else self._moves[parents], None
        self._steps.append(StepRecord(tokens, stepped.log_probs[:, 0], stepped.attention, parents))
        if len(self._steps) >= 2 * self._max_steps:
            del self._steps[: -self._max_steps]

    def join(self, rows: int) -> None:
        """Take note that so many rows were appended."""
        if self._moves is not None:
            self._moves = np.concatenate((self._moves, np.full(rows, -1)))

    def keep(self, kept: list[int]) -> None:
        """Take note that row j is what row `kept[j]` was."""
        if not kept:
            self._steps, self._moves = [], None
        else:
            self._moves = np.array(kept) if self._moves is None else self._moves[kept]

    def last_token(self, row: int) -> int:
        """Return the token that a row chose at the last step; rows must not have moved since."""
        return int(self._steps[-1].tokens[row])

    def trace(self, row: int, count: int) -> tuple[list[int], list[float], list[Float32]]:
        """Return the tokens, log-probabilities and attention of a row over its `count` steps, oldest first."""
        tokens, log_probs, attention = [], [], []
        for step in reversed(self._steps[-count:]):
            tokens.append(int(step.tokens[row]))
            log_probs.append(float(step.log_probs[row]))
            if step.attention is not None:
                attention.append(step.attention[row])
            if step.parents is not None:
                row = int(step.parents[row])
        return tokens[::-1], log_probs[::-1], attention[::-1]


class GreedySearch:
    """Each row takes its most probable token: one row for a sequence, so rows and running sequences coincide."""

    k = 1

    def __init__(self, end_id: int, max_target_tokens: int) -> None:
        self._end_id = end_id
        self._history = History(max_target_tokens)
        self._step = 0
        self._first_steps: Int64 = np.zeros(0, np.int64)
        self._last_steps: Int64 = np.zeros(0, np.int64)
        self._next_limit = 0
        """The first step at which a row reaches its limit."""

    def join(self, sequences: list[Sequence]) -> None:
        """Take up sequences whose rows were appended to the batch."""
        limits = np.array([sequence.request.params.max_target_tokens for sequence in sequences])
        self._first_steps = np.concatenate((self._first_steps, np.full(len(limits), self._step)))
        self._last_steps = np.concatenate((self._last_steps, self._step + limits))
        self._next_limit = int(self._last_steps.min())
        self._history.join(len(limits))

    def select(self, stepped: Stepped) -> Selection:
        """Choose the best token of each row; a row ends at the end symbol or at its limit."""
        tokens = stepped.ids[:, 0]
        self._history.append(tokens, stepped, None)
        self._step += 1
        # Plain Python: at these sizes it costs a third of the array operations that would say the same.
        chosen = tokens.tolist()
        finished = [row for row, token in enumerate(chosen) if token == self._end_id] if self._end_id in chosen else []
        if self._step == self._next_limit:
            finished = sorted({*finished, *(self._last_steps == self._step).nonzero()[0].tolist()})
        return Selection(tokens, None, finished)

    def hypotheses(self, index: int, sequence: Sequence) -> tuple[Hypothesis, ...]:
        """Return the one hypothesis of the sequence at `index`."""
        length = self._step - int(self._first_steps[index])
        tokens, log_probs, attention = self._history.trace(index, length)
        score = sum(log_probs) / sequence.request.params.length_penalty(length)
        reason = FinishReason.LENGTH
        if tokens[-1] == self._end_id:
            reason, length = FinishReason.END, length - 1
        weights = None
        if sequence.request.params.return_attention and attention:
            columns = sequence.source_length
            weights = np.array([row[:columns] for row in attention[:length]]).reshape(length, columns)
        return (Hypothesis(tuple(tokens[:length]), tuple(log_probs[:length]), score, reason, weights),)

    def last_token(self, index: int) -> int | None:
        """Return the token that the sequence at `index` just gained; None: its end symbol."""
        token = self._history.last_token(index)
        return None if token == self._end_id else token

    def keep(self, kept: list[int]) -> None:
        """Let row j be what row `kept[j]` was, and drop the others."""
        self._history.keep(kept)
        self._first_steps, self._last_steps = self._first_steps[kept], self._last_steps[kept]
        self._next_limit = int(self._last_steps.min()) if kept else 0
