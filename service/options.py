"""How to decode: what a client put, the model's defaults where it put nothing, and what either allows."""

import dataclasses
import math
import weakref

import msgspec

from service.bundle import Decoding
from service.catalog import Served
from service.errors import InvalidRequestError
from service.request import DecodingParams, LengthPenalty, LengthPenaltyKind, Sampling
from service.tokenizer import Tokenizer

MAX_RATIO = 1000.0
MAX_RECIPES = 64
"""Recipes that are kept: seeds, for one, make endlessly many."""


class Options(msgspec.Struct, frozen=True):
    """How to decode, as the client put it; None: the model's default."""

    beam_size: int | None = None
    num_hypotheses: int | None = None
    length_penalty: float | None = None
    length_penalty_kind: LengthPenaltyKind = LengthPenaltyKind.PLAIN
    patience: float | None = None
    sampling: Sampling | None = None
    no_repeat_ngram_size: int | None = None
    max_phrase_repeats: int | None = None
    max_target_tokens: int | None = None
    min_target_tokens: int | None = None
    max_target_ratio: float | None = None
    min_target_ratio: float | None = None
    suppressed_tokens: tuple[str, ...] = ()
    return_attention: bool = False
    return_alignments: bool = False
    split: bool = True
    """Whether texts become sentences; otherwise each is decoded as it is."""


class Recipe:
    """The options of one job, checked: makes the parameters of each of its segments."""

    def __init__(self, options: Options, decoding: Decoding, widest: DecodingParams) -> None:
        self._options = options
        self._decoding = decoding
        self._made: dict[int, DecodingParams] = {}
        """By the number of source tokens, where nothing else is special to a segment."""
        self.widest = widest
        """The parameters of the longest segment that the model takes."""

    @classmethod
    def check(cls, options: Options, decoding: Decoding, tokenizer: Tokenizer) -> "Recipe":
        """Check everything that does not depend on a text; raises InvalidRequestError."""
        limit = options.max_target_tokens
        if limit is not None and limit > decoding.max_target_tokens:
            message = f"{limit} is more than the model's {decoding.max_target_tokens}"
            raise InvalidRequestError("options.max_target_tokens", message)
        if (options.min_target_tokens or 0) < 0:
            raise InvalidRequestError("options.min_target_tokens", "must be at least 0")
        for name, ratio in (("max", options.max_target_ratio), ("min", options.min_target_ratio)):
            if ratio is not None and not 0.0 < ratio <= MAX_RATIO:
                message = f"must be above 0, at most {MAX_RATIO:g}; leave it out for no such rule"
                raise InvalidRequestError(f"options.{name}_target_ratio", message)
        penalty = options.length_penalty
        widest = DecodingParams(
            max_target_tokens=decoding.max_target_tokens if limit is None else limit,
            beam_size=1 if options.beam_size is None else options.beam_size,
            num_hypotheses=1 if options.num_hypotheses is None else options.num_hypotheses,
            length_penalty=LengthPenalty(
                decoding.length_penalty if penalty is None else penalty, options.length_penalty_kind
            ),
            patience=0.0 if options.patience is None else options.patience,
            sampling=options.sampling,
            no_repeat_ngram_size=0 if options.no_repeat_ngram_size is None else options.no_repeat_ngram_size,
            max_phrase_repeats=0 if options.max_phrase_repeats is None else options.max_phrase_repeats,
            suppressed_ids=tuple(_suppressed(piece, tokenizer) for piece in options.suppressed_tokens),
            return_attention=options.return_attention or options.return_alignments,
        )
        return cls(options, decoding, widest)

    def params(self, source_tokens: int, prefix_ids: tuple[int, ...], draw: int) -> DecodingParams:
        """Return the parameters of a segment, the `draw`-th of its job; raises InvalidRequestError."""
        if prefix_ids or self.widest.sampling is not None:
            return self._make(source_tokens, prefix_ids, draw)
        made = self._made.get(source_tokens)
        if made is None:
            made = self._made[source_tokens] = self._make(source_tokens, (), 0)
        return made

    def _make(self, source_tokens: int, prefix_ids: tuple[int, ...], draw: int) -> DecodingParams:
        longest = self._longest(source_tokens)
        sampling = self.widest.sampling
        return dataclasses.replace(
            self.widest,
            max_target_tokens=longest,
            min_target_tokens=min(longest, self._shortest(source_tokens)),
            prefix_ids=prefix_ids,
            sampling=dataclasses.replace(sampling, stream=draw) if sampling and draw else sampling,
        )

    def _longest(self, source_tokens: int) -> int:
        """Return the stricter of the limit and the ratio; the model's own where there is neither."""
        limit, ratio = self._options.max_target_tokens, self._options.max_target_ratio
        if ratio is None:
            return self._decoding.target_limit(source_tokens) if limit is None else limit
        return max(1, min(self.widest.max_target_tokens, int(ratio * source_tokens)))

    def _shortest(self, source_tokens: int) -> int:
        """Return the larger of the limit and the ratio."""
        ratio = self._options.min_target_ratio
        return max(self._options.min_target_tokens or 0, 0 if ratio is None else math.ceil(ratio * source_tokens))


class Recipes:
    """The recipes of late: most jobs ask for what an earlier one asked for."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Served, dict[Options, Recipe]] = weakref.WeakKeyDictionary()
        """By model, which they do not keep: it may be let go."""

    def recipe(self, served: Served, options: Options) -> Recipe:
        """Return the recipe of these options for a model; raises InvalidRequestError."""
        if (known := self._known.get(served)) is None:
            known = self._known[served] = {}
        if (found := known.get(options)) is None:
            found = Recipe.check(options, served.manifest.decoding, served.tokenizer)
            if len(known) >= MAX_RECIPES:
                known.clear()
            known[options] = found
        return found


def _suppressed(piece: str, tokenizer: Tokenizer) -> int:
    token = tokenizer.target_id(piece)
    if token is None:
        message = f"{piece[:40]!r} is no piece of the target vocabulary; take pieces as Hypothesis.tokens shows them"
        raise InvalidRequestError("options.suppressed_tokens", message)
    return token
