"""Which tokens the rows continue with, and what became of them.

Most rows are plain: each takes its most probable token, all at once. Where a sequence asks for more, candidates are
struck out or forced (`constraints`), tokens are drawn (`sampling`), or hypotheses compete (`beams`). All of them share
the steps of one batch and one history.
"""

import itertools
from typing import NamedTuple

import numpy as np

from service.engine.beams import Beams
from service.engine.constraints import repeats
from service.engine.history import History, Place, Trail
from service.engine.lane import Move
from service.engine.sequence import Sequence
from service.engine.session import Stepped
from service.engine.track import Track
from service.request import FinishReason, Float32, Hypothesis, Int64


class Selection(NamedTuple):
    """What the search decided after a step.

    `tokens` `[row]` are fed to the next step; rows continue themselves, but for those that `moves` names; `finished`
    are the indices, in the running list, of the sequences that ended, ascending.
    """

    tokens: Int64
    moves: list[Move]
    finished: list[int]


class Search:
    """The search of one batch, over all rows at once; it keeps the tokens of the rows."""

    def __init__(self, end_id: int, max_target_tokens: int) -> None:
        self._end_id = end_id
        self._history = History(max_target_tokens)
        self.step = 0
        """Steps so far."""
        self._tracks: list[Track] = []
        """In the order of the running list."""
        self._last_steps: list[int] = []
        """The step at which each reaches its limit."""
        self._next_limit = 0
        self._special: list[int] = []
        """Indices of those that are not plain; while there are none, rows and running sequences coincide."""
        self._constrained: list[int] = []
        """Of these, those that forbid or force something;"""
        self._single: list[int] = []
        """those whose rows do not compete;"""
        self._beams: list[Beams] = []
        """and all others, by width."""
        self.k = 1
        """Candidates per row that the next step must give."""

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._tracks)

    def join(self, sequences: list[Sequence]) -> None:
        """Take up sequences whose rows were appended to the batch."""
        joining = [Track.of(sequence, self.step, self._end_id) for sequence in sequences]
        self._last_steps += [self.step + track.params.max_target_tokens for track in joining]
        self._history.join(sum(track.rows for track in joining))
        self._special += [index for index, track in enumerate(joining, len(self._tracks)) if not track.plain]
        self._arrange(self._tracks + joining)

    def keep(self, order: list[int], kept: list[int]) -> None:
        """Let the running list be what it was at `order`, and row j be what row `kept[j]` was."""
        self._history.keep(kept)
        self._last_steps = [self._last_steps[index] for index in order]
        self._arrange([self._tracks[index] for index in order])

    def select(self, stepped: Stepped) -> Selection:
        """Choose how every row goes on; a plain one ends at the end symbol or at its limit."""
        self.step += 1
        if self._special:
            return self._select_mixed(stepped)
        tokens = stepped.ids[:, 0]
        # Plain Python: at these sizes it costs a third of the array operations that would say the same.
        chosen = tokens.tolist()
        self._history.append(chosen, stepped.log_probs[:, 0].tolist(), stepped.attention, None)
        finished = [row for row, token in enumerate(chosen) if token == self._end_id] if self._end_id in chosen else []
        if self.step == self._next_limit:
            finished = sorted({*finished, *(row for row, last in enumerate(self._last_steps) if last == self.step)})
        return Selection(tokens, [], finished)

    def hypotheses(self, index: int, sequence: Sequence) -> tuple[Hypothesis, ...]:
        """Return the best hypotheses of the sequence at `index` that has ended, best first."""
        track = self._tracks[index]
        if track.plain:
            return (self._plain_hypothesis(index, sequence),)
        best = sorted(track.ended, key=lambda ended: -ended.score)[: track.params.num_hypotheses]
        return tuple(
            self._hypothesis(self._history.trace(ended.place, ended.tokens), ended.score, ended.reason, sequence)
            for ended in best
        )

    def settled(self, index: int, known: int) -> list[int]:
        """Return the tokens, behind the first `known`, that no later step of the sequence at `index` can change.

        They are what its running hypotheses and the best of those that have ended begin with.
        """
        track = self._tracks[index]
        count = self.step - track.first_step
        if track.plain:
            return self._history.trace(Place(self.step, self._row(index)), count - known).tokens
        paths = [self._history.trace(Place(self.step, track.row + row), count).tokens for row in track.running]
        if track.ended:
            best = max(track.ended, key=lambda ended: ended.score)
            paths.append(self._history.trace(best.place, best.tokens).tokens)
        common = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*paths, strict=False))
        return [tokens[0] for tokens in common][known:]

    def _arrange(self, tracks: list[Track]) -> None:
        """Take these tracks, in the order of the running list; note where their rows are, and who asks for what."""
        self._tracks = tracks
        self._next_limit = min(self._last_steps, default=0)
        if not self._special:
            return
        for track, end in zip(tracks, itertools.accumulate(track.rows for track in tracks), strict=True):
            track.row = end - track.rows
        self._special = [index for index, track in enumerate(tracks) if not track.plain]
        self._constrained = [index for index in self._special if tracks[index].banned]
        widths: dict[int, list[int]] = {}
        for index in self._special:
            widths.setdefault(tracks[index].params.beam_size, []).append(index)
        self._single = widths.pop(1, [])
        self._beams = [Beams.of(width, indices, tracks) for width, indices in widths.items()]
        self._note_k()

    def _row(self, index: int) -> int:
        """Return the first row of the sequence at `index`."""
        return self._tracks[index].row if self._special else index

    def _note_k(self) -> None:
        self.k = max((self._tracks[index].k for index in self._special), default=1)

    def _select_mixed(self, stepped: Stepped) -> Selection:
        """Choose for plain and tracked rows together. Beams cost no work of their own where nothing ends."""
        log_probs, ids = stepped.log_probs, stepped.ids
        for index in self._constrained:
            self._tracks[index].constrain(self.step, log_probs, ids)
        tokens, chosen = ids[:, 0].copy(), log_probs[:, 0].copy()
        finished = self._plain_ends(tokens)
        for index in self._single:
            self._choose(self._tracks[index], log_probs, ids, tokens, chosen)
        moves: list[Move] = []
        for beams in self._beams:
            continued = beams.advance(log_probs, ids, self._end_id)
            tokens[beams.at], chosen[beams.at] = continued.tokens, continued.log_probs
            moves += continued.moves
            for ending in continued.endings:
                self._end(*ending)
        parents = list(range(len(ids)))
        for row, parent in moves:
            parents[row] = parent
        self._history.append(tokens.tolist(), chosen.tolist(), stepped.attention, parents if moves else None)
        for index in self._special if self.step == self._next_limit else self._constrained:
            self._settle(self._tracks[index])
        if self._constrained:
            self._note_k()
        finished += [index for index in self._single if not self._tracks[index].running]
        finished += itertools.chain.from_iterable(beams.complete() for beams in self._beams)
        return Selection(tokens, moves, sorted(finished))

    def _plain_ends(self, tokens: Int64) -> list[int]:
        """Return the plain sequences that end by these tokens `[row]` or by their limit."""
        return [
            index
            for index, track in enumerate(self._tracks)
            if track.plain and (tokens[track.row] == self._end_id or self._last_steps[index] == self.step)
        ]

    def _choose(self, track: Track, log_probs: Float32, ids: Int64, tokens: Int64, chosen: Float32) -> None:
        """Let each row of a sequence without a beam take, or draw, one of its candidates; the others stay idle."""
        rows = slice(track.row, track.row + track.rows)
        tokens[rows], chosen[rows] = self._end_id, 0.0
        for offset in track.running:
            row = track.row + offset
            pick = track.draws[offset].draw(log_probs[row]) if track.draws else 0
            tokens[row], chosen[row] = ids[row, pick], log_probs[row, pick]
            track.sums[offset] += chosen[row]
            if tokens[row] == self._end_id:
                self._end(track, row, float(track.sums[offset]))

    def _end(self, track: Track, row: int, total: float) -> None:
        """Note that the hypothesis that was in a row chose the end symbol."""
        count = self.step - track.first_step - 1
        track.end(row - track.row, FinishReason.END, self._history.before(row), count, total)

    def _settle(self, track: Track) -> None:
        """After a step: end what has reached a limit, work out what is forbidden next."""
        count = self.step - track.first_step
        tokens: list[list[int]] = [[]] * track.rows
        if track.banned and count >= len(track.params.prefix_ids):
            places = [Place(self.step, track.row + row) for row in range(track.rows)]
            tokens = [self._history.trace(place, count).tokens for place in places]
        times = track.params.max_phrase_repeats
        for row in track.running:
            limit = count == track.params.max_target_tokens
            if limit or (times and repeats(tokens[row], times)):
                reason = FinishReason.LENGTH if limit else FinishReason.REPETITION
                track.end(row, reason, Place(self.step, track.row + row), count, float(track.sums[row]))
        if track.banned:
            track.forbid(tokens, self._end_id)

    def _plain_hypothesis(self, index: int, sequence: Sequence) -> Hypothesis:
        """Return the one hypothesis of a plain sequence that has just ended."""
        track = self._tracks[index]
        count = self.step - track.first_step
        trail = self._history.trace(Place(self.step, self._row(index)), count)
        score = sum(trail.log_probs) / track.params.length_penalty(count)
        reason = FinishReason.END if trail.tokens[-1] == self._end_id else FinishReason.LENGTH
        return self._hypothesis(trail, score, reason, sequence)

    def _hypothesis(self, trail: Trail, score: float, reason: FinishReason, sequence: Sequence) -> Hypothesis:
        """Put a hypothesis together; the end symbol is left out of it."""
        tokens, log_probs, attention = trail
        length = len(tokens) - (tokens[-1:] == [self._end_id])
        weights = None
        if sequence.request.params.return_attention and attention:
            columns = sequence.source_length
            weights = np.array([row[:columns] for row in attention[:length]]).reshape(length, columns)
        return Hypothesis(tuple(tokens[:length]), tuple(log_probs[:length]), score, reason, weights)
