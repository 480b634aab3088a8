"""Beam search on the embedded model: what the engine finds in full batches is what a plain search finds alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from service import bundle
from service.config import EMBEDDED
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.request import DecodingParams, LengthPenalty, Request
from service.tokenizer import Tokenizer
from tests.fakes import Stage
from tests.reference import Stepper, beam_search

BEAM = 4
SENTENCES = Path(__file__).parents[1] / "data" / "test.tsv"


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    """Load the embedded model."""
    return OnnxModel.load(bundle.load(EMBEDDED / "ko-en" / "1"), "cpu")


def test_real_sentences_get_what_a_plain_search_finds(model: OnnxModel) -> None:
    """The n best with their scores, and the attention of each, which forcing its tokens gives as well."""
    tokenizer = Tokenizer.from_bundle(bundle.load(EMBEDDED / "ko-en" / "1"))
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()[:24]
    sources = [tokenizer.encode(line.split("\t")[0]).ids for line in lines]
    wanted = DecodingParams(50, 0, BEAM, BEAM, LengthPenalty(0.6), return_attention=True)
    limit = model.manifest.decoding.target_limit
    asked = [dataclasses.replace(wanted, max_target_tokens=limit(len(source))) for source in sources]
    stage = Stage(model, Limits(max_rows=32))
    for name, (source, params) in enumerate(zip(sources, asked, strict=True)):
        stage.ask(Request(str(name), source, params))
        stage.engine.step()
    stage.finish()
    for name, (source, params) in enumerate(zip(sources, asked, strict=True)):
        stepper = Stepper(model, source, 2 * BEAM)
        expected = beam_search(stepper.follow, params)
        found = stage.recorder.last(str(name)).hypotheses
        assert [one.tokens for one in expected] == [one.token_ids for one in found]
        # A beam reads its source's memory in one product, which adds in another order than a row by itself: in int8,
        # a value that lay on the edge of a step then lands on the other side, about one row in a hundred.
        np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], atol=1e-3)
        for hypothesis in found:
            if hypothesis.token_ids:
                assert hypothesis.attention is not None
                assert np.abs(hypothesis.attention - stepper.attention(hypothesis.token_ids)).max() <= 1e-3
