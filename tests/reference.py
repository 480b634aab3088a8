"""Slow, plain searches, one hypothesis at a time, for comparison with the engine's."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from service.engine.session import Arrays, OnnxModel, Stepped
from service.request import DecodingParams, Float32
from tests.fakes import END_ID, BabblingModel

NextLogProbs = Callable[[tuple[int, ...]], dict[int, float]]
"""From the tokens so far to the log-probability of every token that can follow."""

Running = tuple[float, tuple[int, ...]]
"""Sum of log-probabilities, and tokens."""


class Found(NamedTuple):
    """A hypothesis without its end symbol, and its score."""

    score: float
    tokens: tuple[int, ...]


def distribution_of(model: BabblingModel, source: tuple[int, ...]) -> NextLogProbs:
    """Return the model's distributions for one source."""

    def follow(tokens: tuple[int, ...]) -> dict[int, float]:
        state = model.start(list(source))
        for token in tokens:
            state = model.follow(state, token)
        return {token: float(value) for token, value in enumerate(model.log_probs(state)) if value > -math.inf}

    return follow


def exhaustive(follow: NextLogProbs, params: DecodingParams) -> list[Found]:
    """Score every hypothesis there is; return the best `num_hypotheses`."""
    found: list[Found] = []
    open_ends: list[Running] = [(0.0, ())]
    for length in range(1, params.max_target_tokens + 1):
        grown = _grow(follow, open_ends)
        penalty = params.length_penalty(length)
        found += [Found(total / penalty, tokens[:-1]) for total, tokens in grown if tokens[-1] == END_ID]
        open_ends = [one for one in grown if one[1][-1] != END_ID]
    penalty = params.length_penalty(params.max_target_tokens)
    found += [Found(total / penalty, tokens) for total, tokens in open_ends]
    return sorted(found, key=lambda one: -one.score)[: params.num_hypotheses]


def beam_search(follow: NextLogProbs, params: DecodingParams) -> list[Found]:
    """Search with a beam, to the last step that a hypothesis may have: nothing ends early."""
    found: list[Found] = []
    running: list[Running] = [(0.0, ())]
    for length in range(1, params.max_target_tokens + 1):
        grown = sorted(_grow(follow, running), key=lambda one: -one[0])[: 2 * params.beam_size]
        penalty = params.length_penalty(length)
        found += [Found(total / penalty, tokens[:-1]) for total, tokens in grown[: params.beam_size]
                  if tokens[-1] == END_ID]  # fmt: skip
        running = list(itertools.islice((one for one in grown if one[1][-1] != END_ID), params.beam_size))
    penalty = params.length_penalty(params.max_target_tokens)
    found += [Found(total / penalty, tokens) for total, tokens in running]
    return sorted(found, key=lambda one: -one.score)[: params.num_hypotheses]


def _grow(follow: NextLogProbs, running: list[Running]) -> list[Running]:
    """Continue each hypothesis by each token that can follow."""
    return [
        (total + log_prob, (*tokens, token))
        for total, tokens in running
        for token, log_prob in follow(tokens).items()
    ]  # fmt: skip


class Stepper:
    """A bundle's graphs, run for one hypothesis of one source at a time; states are remembered by their tokens."""

    def __init__(self, model: OnnxModel, source_ids: tuple[int, ...], k: int) -> None:
        self._model = model
        self._k = k
        self._start = model.manifest.tokenizer.start_id
        encoded = model.encode(np.array([source_ids]), np.array([len(source_ids)]))
        self._memory = encoded.memory
        self._states: dict[tuple[int, ...], Arrays] = {}
        self._initial = encoded.state

    def step(self, tokens: tuple[int, ...]) -> Stepped:
        """Return what the step behind these tokens leaves, attention `[1, source]` included."""
        state = self._states[tokens[:-1]] if tokens else self._initial
        last = np.array([tokens[-1] if tokens else self._start])
        stepped = self._model.step(last, self._memory | state, self._k, attention=True)
        self._states[tokens] = stepped.state
        return stepped

    def follow(self, tokens: tuple[int, ...]) -> dict[int, float]:
        """Return the best k tokens behind these and their log-probabilities."""
        stepped = self.step(tokens)
        return dict(zip(stepped.ids[0].tolist(), stepped.log_probs[0].tolist(), strict=True))

    def attention(self, tokens: tuple[int, ...]) -> Float32:
        """Force these tokens; return the attention `[target, source]` of each."""
        rows = [self.step(tokens[:at]).attention for at in range(len(tokens))]
        return np.concatenate([row for row in rows if row is not None])
