"""What a request forbids or forces: candidates are struck out before anybody chooses among them."""

from collections.abc import Iterable

import numpy as np

from service.request import DecodingParams, Float32, Int64

MAX_BANNED = 32
"""Tokens that the n-gram rule may forbid a row at one step: each costs a candidate of every row of the batch."""


def banned_tokens(params: DecodingParams, end_id: int, tokens: list[int]) -> set[int]:
    """Return what may not follow these tokens of one row."""
    banned = set(params.suppressed_ids)
    if len(tokens) < params.min_target_tokens:
        banned.add(end_id)
    size = params.no_repeat_ngram_size
    if size and len(tokens) >= size:
        banned.update(_completions(tokens, size))
    return banned


def repeats(tokens: list[int], times: int) -> bool:
    """Whether the last tokens are one phrase, of whatever length, so many times in a row."""
    for size in range(1, len(tokens) // times + 1):
        if all(tokens[-at] == tokens[-at - size] for at in range(1, size * (times - 1) + 1)):
            return True
    return False


def force(log_probs: Float32, ids: Int64, token: int) -> None:
    """Leave a row's candidates `[k]` one choice, which is nobody's and therefore has log-probability 0."""
    log_probs[:], ids[0] = -np.inf, token
    log_probs[0] = 0.0


def ban(log_probs: Float32, ids: Int64, banned: Iterable[int]) -> None:
    """Move what is banned behind all other candidates `[k]` of a row, with log-probability -inf.

    Where nothing would be left, nothing is banned: a translation that breaks a rule beats none.
    """
    struck = np.isin(ids, list(banned))
    if struck.any() and np.isfinite(log_probs[~struck]).any():
        log_probs[struck] = -np.inf
        order = np.argsort(struck, kind="stable")
        log_probs[:], ids[:] = log_probs[order], ids[order]


def _completions(tokens: list[int], size: int) -> list[int]:
    """Return the tokens that would complete an n-gram of this size a second time, the latest first."""
    start = tokens[len(tokens) - size + 1 :]
    found = [
        tokens[at + size - 1]
        for at in range(len(tokens) - size, -1, -1)
        if tokens[at : at + size - 1] == start
    ]  # fmt: skip
    return list(dict.fromkeys(found))[:MAX_BANNED]
