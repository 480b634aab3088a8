"""Options become parameters: the model's defaults, and limits by the length of the source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.options import Options, Recipe
from service.request import DecodingParams, LengthPenalty, LengthPenaltyKind, Sampling
from tests.fakes import manifest
from tests.serving import tokenizer

DECODING = manifest(100, 120).decoding
"""Two target tokens for each source token and twenty more, at most 120; no length penalty."""


def params(source_tokens: int = 10, prefix: tuple[int, ...] = (), draw: int = 0, **options: object) -> DecodingParams:
    """Return the parameters of one segment."""
    recipe = Recipe.check(Options(**options), DECODING, tokenizer())  # type: ignore[arg-type]
    return recipe.params(source_tokens, prefix, draw)


def test_defaults_are_the_models() -> None:
    """Greedy, one hypothesis, its length penalty, its limit for a source of that length."""
    assert DecodingParams(40, length_penalty=LengthPenalty(0.0)) == params()
    assert 120 == params(90).max_target_tokens


def test_everything_arrives() -> None:
    """Each option in its place; an alignment needs the attention."""
    subject = tokenizer()
    assert DecodingParams(
        max_target_tokens=7,
        min_target_tokens=2,
        beam_size=4,
        num_hypotheses=3,
        length_penalty=LengthPenalty(0.5, LengthPenaltyKind.GNMT),
        patience=2.0,
        no_repeat_ngram_size=3,
        max_phrase_repeats=4,
        suppressed_ids=tuple(subject.target_id(piece) or 0 for piece in "ab"),
        prefix_ids=(5, 6),
        return_attention=True,
    ) == params(
        prefix=(5, 6), max_target_tokens=7, min_target_tokens=2, beam_size=4, num_hypotheses=3, length_penalty=0.5,
        length_penalty_kind=LengthPenaltyKind.GNMT, patience=2.0, no_repeat_ngram_size=3, max_phrase_repeats=4,
        suppressed_tokens=("a", "b"), return_alignments=True,
    )  # fmt: skip


def test_each_text_has_draws_of_its_own() -> None:
    """With one seed for all."""
    streams = [params(draw=draw, sampling=Sampling(seed=5)).sampling for draw in (0, 1)]
    assert [Sampling(seed=5), Sampling(seed=5, stream=1)] == streams


@given(
    source=st.integers(1, 100),
    longest=st.none() | st.integers(1, 120),
    shortest=st.none() | st.integers(0, 200),
    most=st.none() | st.floats(0.01, 10.0),
    least=st.none() | st.floats(0.01, 10.0),
)
def test_lengths(
    source: int, longest: int | None, shortest: int | None, most: float | None, least: float | None
) -> None:
    """The stricter maximum counts, the larger minimum, and never more than the maximum."""
    found = params(
        source, max_target_tokens=longest, min_target_tokens=shortest, max_target_ratio=most, min_target_ratio=least
    )
    assert 1 <= found.max_target_tokens <= (longest or 120)
    if most is not None:
        assert found.max_target_tokens <= max(1, most * source)
    asked = max(shortest or 0, (least or 0) * source)
    assert min(found.max_target_tokens, asked) <= found.min_target_tokens <= found.max_target_tokens


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_target_tokens": 121}, "max_target_tokens"),
        ({"max_target_ratio": float("inf")}, "max_target_ratio"),
        ({"min_target_ratio": -1.0}, "min_target_ratio"),
        ({"suppressed_tokens": ("",)}, "suppressed_tokens"),
        ({"suppressed_tokens": ("a",) * 17}, "suppressed_tokens"),
        ({"beam_size": 2, "num_hypotheses": 3}, "num_hypotheses"),
    ],
)
def test_what_is_out_of_bounds(options: dict[str, object], field: str) -> None:
    """Is refused before any text is looked at."""
    with pytest.raises(InvalidRequestError) as caught:
        Recipe.check(Options(**options), DECODING, tokenizer())  # type: ignore[arg-type]
    assert f"options.{field}" == caught.value.field
