"""Sequences that step together: their rows in one order, and everything that belongs to a row."""

import itertools
import math
from collections.abc import Callable, Iterable

from service.engine.device.batch import AnyModel, open_batch
from service.engine.roster import Roster
from service.engine.search import Search
from service.engine.sequence import Sequence
from service.engine.session import EncodedSource
from service.request import Output


class Deck:
    """Row *i* of the batch belongs to `roster.running[i]`, or to the group of rows that it takes."""

    def __init__(self, model: AnyModel, roster: Roster) -> None:
        tokenizer, decoding = model.manifest.tokenizer, model.manifest.decoding
        self.roster = roster
        self._batch = open_batch(model)
        self._search = Search(tokenizer.end_id, decoding.max_target_tokens)
        self._row_steps = 0
        self._joined: list[Sequence] = []
        self._incremental: list[tuple[int, Sequence]] = []
        self._attention_wanted = False
        self._launched = 0.0
        """When its last step began."""
        self.stepped = 0.0
        """When its last step ended, on the engine's clock; 0: never."""
        self.model_seconds = 0.0
        """Time inside the model at its last step."""

    @property
    def joining(self) -> list[Sequence]:
        """The sequences that run but have no rows yet."""
        return self.roster.running[len(self._search) :]

    def line_up(self) -> list[list[Sequence]]:
        """Put those who join in order, and return them by run of the encoder; last, those that are not encoded."""
        order = sorted(self.joining, key=_place)
        self.roster.running[len(self._search) :] = order
        return [list(group) for _, group in itertools.groupby(order, key=lambda sequence: _place(sequence)[0])]

    def take_up(self, group: list[Sequence], source: EncodedSource, now: float) -> None:
        """Append the rows of the first of those who join, all of the run of the encoder that gave this source.

        Raises MemoryError, and then no row can be trusted.
        """
        rows = {_place(sequence)[1]: sequence.rows for sequence in group}
        self._batch.insert(source.encoded, source.lengths, [rows.get(row, 0) for row in range(len(source.lengths))])
        self._search.join(group)
        self._joined += group
        for sequence in group:
            sequence.encoded, sequence.source = now, None
            sequence.first_step, sequence.first_row_steps = self._search.step, self._row_steps
        self._note_wishes(group)

    def launch(self, clock: Callable[[], float]) -> bool:
        """Begin a step over all rows; return whether a device works at it while this thread has time for other things.

        Raises whatever the model raises, and then no row can be trusted.
        """
        self._launched, self.model_seconds = clock(), 0.0
        return self._batch.launch(self._search.k, self._attention_wanted)

    def advance(self, clock: Callable[[], float]) -> tuple[list[Output], list[Sequence]]:
        """End the step that was launched; return what it gave, and who has left with it. Raises as `launch` does."""
        stepped = self._batch.advance(self._search.k, self._attention_wanted)
        now = clock()
        self.model_seconds = now - self._launched
        self._row_steps += self.roster.rows
        selection = self._search.select(stepped)
        if selection.moves:
            self._batch.reorder(selection.moves)
        self._batch.feed(selection.tokens)
        for sequence in self._joined:
            sequence.first_token = now
        self._joined = []
        outputs = []
        for index, sequence in self._incremental:
            if index not in selection.finished and (grown := self._search.settled(index, sequence.delivered)):
                sequence.delivered += len(grown)
                outputs.append(Output(sequence.request.request_id, token_ids=tuple(grown)))
        if not selection.finished:
            return outputs, []
        ending = [(sequence := self.roster.running[index], self._search.hypotheses(index, sequence))
                  for index in selection.finished]  # fmt: skip
        leaving = self.leave(selection.finished)
        return outputs + [sequence.finish(hypotheses, now) for sequence, hypotheses in ending], leaving

    def find(self, request_id: str) -> int | None:
        """Return the index of a running sequence."""
        running = enumerate(self.roster.running)
        return next((index for index, sequence in running if sequence.request.request_id == request_id), None)

    def leave(self, indices: Iterable[int]) -> list[Sequence]:
        """Let these running sequences go, with their rows; return them, their steps counted."""
        leaving, order, kept = self.roster.leave(indices)
        for sequence in leaving:
            if sequence.encoded:
                sequence.steps = self._search.step - sequence.first_step
                sequence.row_steps = self._row_steps - sequence.first_row_steps
        self._search.keep(order, kept)
        if kept:
            self._batch.keep(kept)
        else:
            self._batch.clear()
        self._note_wishes(leaving)
        return leaving

    def _note_wishes(self, changed: list[Sequence]) -> None:
        """Note which running sequences want to hear of every step, so that a step asks nobody else."""
        if not (self._incremental or any(sequence.wishes for sequence in changed)):
            return
        running = self.roster.running[: len(self._search)]
        self._incremental = [(i, sequence) for i, sequence in enumerate(running) if sequence.request.incremental]
        self._attention_wanted = any(sequence.request.params.return_attention for sequence in running)


def _place(sequence: Sequence) -> tuple[float, int]:
    """Return the run of the encoder that a sequence was in, and its row there."""
    return sequence.source[:2] if sequence.source is not None else (math.inf, 0)
