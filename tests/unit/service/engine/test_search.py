"""The engine's searches, over a model whose every prefix has a distribution of its own."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.constraints import repeats
from service.engine.scheduler import Limits
from service.request import (
    DecodingParams,
    FinishReason,
    Hypothesis,
    LengthPenalty,
    LengthPenaltyKind,
    Request,
    Sampling,
)
from tests.fakes import END_ID, BabblingModel, CachingModel, Stage
from tests.reference import Found, beam_search, distribution_of, exhaustive

penalties = st.builds(LengthPenalty, st.sampled_from((0.0, 0.6, 1.0, 2.0)), st.sampled_from(LengthPenaltyKind))
sources = st.lists(st.integers(4, 99), min_size=1, max_size=9).map(tuple)


def stage(model: BabblingModel, rows: int = 32) -> Stage:
    """Return an engine over a babbling model."""
    return Stage(model, Limits(max_rows=rows))


def assert_same(expected: list[Found], hypotheses: tuple[Hypothesis, ...]) -> None:
    """Check that they are the same hypotheses in the same order, with the same scores."""
    assert [found.tokens for found in expected] == [hypothesis.token_ids for hypothesis in hypotheses]
    np.testing.assert_allclose(
        [hypothesis.score for hypothesis in hypotheses], [one.score for one in expected], atol=1e-4
    )


@settings(max_examples=150)
@given(
    source=sources, penalty=penalties, vocabulary=st.integers(5, 7), length=st.integers(1, 3), best=st.integers(1, 5)
)
def test_a_beam_that_is_wide_enough_finds_what_an_exhaustive_search_finds(
    source: tuple[int, ...], penalty: LengthPenalty, vocabulary: int, length: int, best: int
) -> None:
    """The n best of all hypotheses there are, in order, whatever the length penalty."""
    model = BabblingModel(vocabulary)
    params = DecodingParams(length, beam_size=16, num_hypotheses=best, length_penalty=penalty)
    expected = exhaustive(distribution_of(model, source), params)
    assert_same(expected, stage(model).decode(source, params))


@settings(max_examples=80)
@given(
    source=sources, penalty=penalties, bias=st.sampled_from((-2.0, 0.0, 1.0)), beam=st.integers(2, 6), data=st.data()
)
def test_ending_early_changes_nothing(
    source: tuple[int, ...], penalty: LengthPenalty, bias: float, beam: int, data: st.DataObject
) -> None:
    """A beam that stops when nothing can beat what it has finds what one that goes on to the last step finds."""
    model = BabblingModel(30, bias)
    best = data.draw(st.integers(1, beam))
    params = DecodingParams(12, beam_size=beam, num_hypotheses=best, length_penalty=penalty)
    assert_same(beam_search(distribution_of(model, source), params), stage(model).decode(source, params))


def test_patience_ends_a_beam_by_count() -> None:
    """With patience 1 a beam ends when as many hypotheses have ended as it is wide; with more, it searches longer."""
    steps = {}
    for patience in (0.5, 1.0, 4.0):
        scene = stage(BabblingModel(12))
        scene.ask(Request("a", (5, 6), DecodingParams(60, beam_size=4, patience=patience)))
        scene.finish()
        steps[patience] = scene.recorder.last("a").timing.steps
    assert steps[0.5] <= steps[1.0] < steps[4.0]


samplings = st.builds(
    Sampling, st.sampled_from((0.7, 1.0)), st.integers(1, 20), st.sampled_from((0.5, 1.0)), st.integers(0, 9)
)


@st.composite
def params(draw: st.DrawFn) -> DecodingParams:
    """Any mixture of options."""
    sampling = draw(st.none() | samplings)
    beam = 1 if sampling else draw(st.integers(1, 4))
    return DecodingParams(
        max_target_tokens=draw(st.integers(6, 12)),
        min_target_tokens=draw(st.sampled_from((0, 4))),
        beam_size=beam,
        num_hypotheses=draw(st.integers(1, 3 if sampling else beam)),
        length_penalty=draw(penalties),
        patience=draw(st.sampled_from((0.0, 1.0))),
        sampling=sampling,
        no_repeat_ngram_size=draw(st.sampled_from((0, 2))),
        max_phrase_repeats=draw(st.sampled_from((0, 2))),
        suppressed_ids=draw(st.sampled_from(((), (5, 9)))),
        prefix_ids=draw(st.sampled_from(((), (6,), (7, 8, 4)))),
        return_attention=draw(st.booleans()),
    )


models = st.sampled_from((BabblingModel, CachingModel))


@settings(max_examples=60)
@given(
    kind=models,
    asked=st.lists(st.tuples(sources, params(), st.integers(0, 4)), min_size=1, max_size=8),
    rows=st.integers(4, 20),
)
def test_nobody_notices_the_others_whatever_they_ask_for(
    kind: type[BabblingModel], asked: list[tuple[tuple[int, ...], DecodingParams, int]], rows: int
) -> None:
    """Over random arrivals with mixed options, each gets what it gets alone: tokens, scores, attention."""
    model = kind(20)
    scene = stage(model, rows)
    for name, (source, wanted, gap) in enumerate(asked):
        scene.ask(Request(str(name), source, wanted, incremental=name % 2 == 0))
        for _ in range(gap):
            scene.engine.step()
    scene.finish()
    for name, (source, wanted, _) in enumerate(asked):
        found = scene.recorder.last(str(name)).hypotheses
        alone = stage(model).decode(source, wanted)
        assert [one.token_ids for one in alone] == [one.token_ids for one in found]
        assert [one.score for one in alone] == [one.score for one in found]
        assert [one.log_probs for one in alone] == [one.log_probs for one in found]
        for one, other in zip(alone, found, strict=True):
            np.testing.assert_array_equal(np.asarray(one.attention), np.asarray(other.attention))
        grown = [token for output in scene.recorder.of(str(name)) for token in output.token_ids]
        assert grown == (list(found[0].token_ids) if name % 2 == 0 else [])


@given(kind=models, source=sources, beam=st.integers(2, 5))
def test_attention_follows_its_hypothesis_through_the_beam(
    kind: type[BabblingModel], source: tuple[int, ...], beam: int
) -> None:
    """The attention of each hypothesis is what forcing its tokens, one after the other, gives."""
    scene = stage(kind(20, -1.0))
    wanted = DecodingParams(10, beam_size=beam, num_hypotheses=beam, return_attention=True)
    for hypothesis in scene.decode(source, wanted):
        if hypothesis.token_ids:
            forced = DecodingParams(11, prefix_ids=hypothesis.token_ids, return_attention=True)
            (again,) = scene.decode(source, forced)
            length = len(hypothesis.token_ids)
            assert hypothesis.token_ids == again.token_ids[:length]
            assert again.attention is not None
            np.testing.assert_array_equal(again.attention[:length], np.asarray(hypothesis.attention))


def test_a_model_with_caches_says_what_one_with_a_state_says() -> None:
    """Caches hold each row's own past through joins, leaves, reordering and growth."""
    wanted = [DecodingParams(60, 45, beam, beam, LengthPenalty(1.0)) for beam in (1, 3, 4)]
    found = []
    for model in (BabblingModel(20, -1.0), CachingModel(20, -1.0)):
        scene = stage(model, 9)
        for name in range(12):
            scene.ask(Request(str(name), (5 + name, 6), wanted[name % 3]))
            scene.engine.step()
        scene.finish()
        found.append([scene.recorder.last(str(name)).hypotheses for name in range(12)])
    assert found[0] == found[1]


def test_the_same_seed_draws_the_same_text_and_another_another() -> None:
    """Draws depend on the seed, on the text of the call, and on nothing else."""
    scene = stage(BabblingModel(40, -3.0))
    found = {
        (seed, stream): scene.decode((5, 6), DecodingParams(20, sampling=Sampling(seed=seed, stream=stream)))
        for seed, stream in itertools.product(range(3), range(2))
    }
    again = scene.decode((5, 6), DecodingParams(20, sampling=Sampling(seed=1, stream=1)))
    assert found[1, 1][0].token_ids == again[0].token_ids
    assert 6 == len({one.token_ids for (one,) in found.values()})


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    """Over many seeds the first token follows the distribution, cut by top_k and top_p and shaped by temperature."""
    model = BabblingModel(12, -50.0)
    best = sorted(distribution_of(model, (5,))(()).items(), key=lambda pair: -pair[1])
    shaped = np.exp(np.array([value for _, value in best[:4]]) / 0.8)
    shaped /= shaped.sum()
    kept = int(np.searchsorted(shaped.cumsum(), 0.9)) + 1
    expected = shaped[:kept] / shaped[:kept].sum()
    draws = Counter[int]()
    for seed in range(300):
        wanted = DecodingParams(1, num_hypotheses=8, sampling=Sampling(0.8, 4, 0.9, seed))
        draws.update(one.token_ids[0] for one in stage(model).decode((5,), wanted))
    assert {token for token, _ in best[:kept]} == draws.keys()
    shares = np.array([draws[token] / draws.total() for token, _ in best[:kept]])
    np.testing.assert_allclose(shares, expected, atol=4 * math.sqrt(0.25 / draws.total()))


def test_a_draw_from_one_candidate_is_greedy() -> None:
    """top_k 1 takes the most probable token."""
    scene = stage(BabblingModel(20))
    greedy = scene.decode((5, 6, 7), DecodingParams(15))
    drawn = scene.decode((5, 6, 7), DecodingParams(15, sampling=Sampling(top_k=1)))
    assert greedy[0].token_ids == drawn[0].token_ids
    assert greedy[0].score == pytest.approx(drawn[0].score)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_prefix_begins_every_hypothesis_and_costs_nothing(beam: int) -> None:
    """Forced tokens come first, with log-probability 0, and the score is that of what the model added."""
    model = BabblingModel(20)
    wanted = DecodingParams(
        12, beam_size=beam, num_hypotheses=beam, prefix_ids=(9, 4, 15), length_penalty=LengthPenalty(1.0)
    )
    follow = distribution_of(model, (5, 6))
    for hypothesis in stage(model).decode((5, 6), wanted):
        assert (9, 4, 15) == hypothesis.token_ids[:3]
        assert (0.0, 0.0, 0.0) == hypothesis.log_probs[:3]
        tokens = list(hypothesis.token_ids) + [END_ID] * (hypothesis.finish_reason is FinishReason.END)
        added = [follow(tuple(tokens[:at]))[tokens[at]] for at in range(3, len(tokens))]
        assert hypothesis.score == pytest.approx(sum(added) / len(added), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_what_is_forbidden_does_not_happen(beam: int) -> None:
    """No suppressed token, no n-gram twice, no end before the shortest length."""
    forbidden = {
        "suppressed": DecodingParams(30, beam_size=beam, num_hypotheses=beam, suppressed_ids=(4, 6)),
        "twice": DecodingParams(
            30, beam_size=beam, num_hypotheses=beam, no_repeat_ngram_size=2, suppressed_ids=(END_ID,)
        ),
        "short": DecodingParams(30, beam_size=beam, num_hypotheses=beam, min_target_tokens=9),
    }
    scene = stage(BabblingModel(40, 2.0))
    for source in ((5,), (6, 7), (8, 9, 10)):
        found = {name: scene.decode(source, wanted) for name, wanted in forbidden.items()}
        assert not {4, 6} & {token for one in found["suppressed"] for token in one.token_ids}
        for one in found["twice"]:
            pairs = list(itertools.pairwise(one.token_ids))
            assert len(pairs) == len(set(pairs))
        assert all(len(one.token_ids) >= 9 for one in found["short"])


def test_repetition_ends_a_hypothesis_with_its_own_reason() -> None:
    """A phrase in a row as often as it may be ends the text there."""
    wanted = DecodingParams(200, max_phrase_repeats=2, suppressed_ids=(END_ID,))
    (found,) = stage(BabblingModel(8)).decode((5, 6), wanted)
    assert FinishReason.REPETITION is found.finish_reason
    assert repeats(list(found.token_ids), 2)
    assert not repeats(list(found.token_ids[:-1]), 2)


@pytest.mark.parametrize(
    ("tokens", "times", "expected"),
    [([1, 2, 1, 2], 2, True), ([1, 2, 1, 2], 3, False), ([3, 3, 3], 3, True), ([1, 2, 3], 2, False), ([], 2, False)],
)
def test_a_phrase_of_any_length_counts_as_repeated(tokens: list[int], times: int, *, expected: bool) -> None:
    """Only what stands at the end, and in a row, counts."""
    assert expected is repeats(tokens, times)


def test_a_beam_and_a_greedy_request_share_their_steps() -> None:
    """Requests with different beams run in one batch, and the steps are counted once for all."""
    scene = stage(BabblingModel(20, -2.0), rows=8)
    for name, beam in (("a", 1), ("b", 4), ("c", 2)):
        scene.ask(Request(name, (5, 6), DecodingParams(8, beam_size=beam)))
    scene.engine.step()
    assert 7 == scene.recorder.reports[0].rows
    scene.finish()
    assert 7.0 >= scene.recorder.last("b").timing.shared_rows > 4.0


def test_a_hypothesis_that_runs_into_the_limit_says_so() -> None:
    """The running hypotheses of a beam are hypotheses when the limit is reached."""
    wanted = DecodingParams(3, beam_size=4, num_hypotheses=4, suppressed_ids=(END_ID,))
    found = stage(BabblingModel(20)).decode((5,), wanted)
    assert [FinishReason.LENGTH] * 4 == [one.finish_reason for one in found]
    assert sorted((one.score for one in found), reverse=True) == [one.score for one in found]
