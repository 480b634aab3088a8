"""Beam search: what the engine finds among random arrivals is what a plain search finds, one hypothesis at a time."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from service import bundle
from service.engine.session import OnnxModel
from service.request import DecodingParams, Hypothesis, LengthPenalty
from tests.benchmark.offline import vocabularies_of
from tests.benchmark.plan import Plan, label
from tests.benchmark.report import Figure, Goal, Section
from tests.benchmark.stepping import GREEDY, at_random, decode
from tests.reference import Stepper, beam_search

BEAM = 4
WANTED = DecodingParams(50, 0, BEAM, BEAM, LengthPenalty(0.6), return_attention=True)
ARRIVALS_PER_STEP, SEED = 0.5, 5


class Compared(NamedTuple):
    """How far the engine is from the plain search on one sentence; differences are absolute, the largest of all."""

    same: bool
    score_difference: float
    attention_difference: float


def measure(plan: Plan) -> Section:
    """Search for the same sentences in both ways."""
    pairs = plan.pairs()[: plan.sizes.invariance_sentences]
    note = (
        f"{len(pairs)} sentences of test.tsv that arrive at random, beam {BEAM}, all {BEAM} hypotheses compared; the "
        "plain search goes on to the last step there can be, so that ending early is compared as well. Attention: "
        "against that of the same tokens, forced one by one. Goals are those of fp32: in int8, a product for the four "
        "rows of a group rounds otherwise than one for a single row. Scores: where hypotheses are the same. chrF: of "
        "the best hypothesis, of these sentences alone."
    )
    section = Section("search", [], [note])
    for folder in plan.bundles:
        _measure_bundle(plan, folder, pairs, section)
    return section


def _measure_bundle(plan: Plan, folder: Path, pairs: Sequence[tuple[str, str]], section: Section) -> None:
    loaded = bundle.load(folder)
    model, vocabularies = OnnxModel.load(loaded, "cpu"), vocabularies_of(folder, loaded)
    name = label(loaded.manifest)
    sources = [tuple(vocabularies.source_ids(source)) for source, _ in pairs]
    plan.say(f"search: engine, {name}")
    greedy, found = (
        [output.hypotheses for output in decode(model, sources, at_random(ARRIVALS_PER_STEP, SEED), wanted=wanted)]
        for wanted in (GREEDY, WANTED)
    )
    plan.say(f"search: plain search, {name}")
    compared = [_compare(model, *each) for each in zip(sources, found, strict=True)]
    exact = name == "fp32"
    section.figures += [
        Figure(f"same hypotheses in the same order, {name}", 100 * float(np.mean([one.same for one in compared])), "%",
               goal=Goal(">=", 100) if exact else None),
        Figure(f"largest difference of a score, {name}",
               max(one.score_difference for one in compared if one.same), "", goal=Goal("<=", 1e-4) if exact else None),
        Figure(f"largest difference of an attention weight, {name}",
               max(one.attention_difference for one in compared), "", goal=Goal("<=", 1e-5) if exact else None),
    ]  # fmt: skip
    for how, outputs in (("greedy", greedy), (f"beam {BEAM}", found)):
        texts = [vocabularies.target_text(list(hypotheses[0].token_ids)) for hypotheses in outputs]
        score = CHRF().corpus_score(texts, [[target for _, target in pairs]]).score
        section.figures.append(Figure(f"chrF, {how}, {name}", score))


def _compare(model: OnnxModel, source: tuple[int, ...], found: tuple[Hypothesis, ...]) -> Compared:
    stepper = Stepper(model, source, 2 * BEAM)
    params = dataclasses.replace(WANTED, max_target_tokens=model.manifest.decoding.target_limit(len(source)))
    expected = beam_search(stepper.follow, params)
    same = [one.tokens for one in expected] == [one.token_ids for one in found]
    scores = [abs(one.score - other.score) for one, other in zip(expected, found, strict=True)] if same else [np.inf]
    weights = [
        float(np.abs(one.attention - stepper.attention(one.token_ids)).max())
        for one in found
        if one.token_ids and one.attention is not None
    ]
    return Compared(same, max(scores), max(weights, default=np.inf))
