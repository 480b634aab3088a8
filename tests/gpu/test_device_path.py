"""The embedded model's checkpoint on a device: translations, captured steps, bounds; the CPU rehearses it."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from export.training.corpus import read_tsv
from service.bundle import Bundle, ModelCard, Precision
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.memory import open_device
from service.engine.runtime.ort import Target
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.errors import OutOfMemoryError
from service.request import DecodingParams, Hypothesis, Request
from tests.fakes import Stage
from tests.gpu.plan import CHECKPOINT, SENTENCES

pytestmark = pytest.mark.torch

ROWS = 16
SAME_SHARE = 0.9
"""Products of a device round otherwise, and now and then that decides a near tie."""
SCORE_TOLERANCE = 0.05
KINDS: tuple[dict[str, int | bool], ...] = ({}, {"return_attention": True}, {"beam_size": 4}, {})


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def provider(request: pytest.FixtureRequest) -> str:
    """Run a test on each."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def made(request: pytest.FixtureRequest) -> tuple[Bundle, list[list[int]]]:
    """Make a bundle in each precision, and sources for it."""
    from export import bundle_writer  # noqa: PLC0415 # Needs torch, which may be missing.
    from export.attention_rnn_original import AttentionRnnOriginal  # noqa: PLC0415

    precision: Precision = request.param
    original = AttentionRnnOriginal.load(CHECKPOINT)
    card = ModelCard("ko-en", original.facts.family, "ko", "en", "LicenseRef-ko-en", precision, "")
    sources = [original.source_ids(text) for text, _ in read_tsv(SENTENCES)]
    made = bundle_writer.assemble(original, bundle_writer.Order(card, "1", 20, (), ()))
    return made, [source for source in sources if len(source) <= 30][:16]


def decode(model: AnyModel, sources: Sequence[Sequence[int]], seed: int = 3) -> list[tuple[Hypothesis, ...]]:
    """Decode sources that arrive at random, greedily and with beams; return all hypotheses."""
    chance, stage = random.Random(seed), Stage(model, Limits(max_rows=ROWS))  # noqa: S311  nothing secret
    for number, source in enumerate(sources):
        params = DecodingParams(40, **KINDS[number % len(KINDS)])  # type: ignore[arg-type]
        stage.ask(Request(str(number), tuple(source), params))
        for _ in range(chance.choice((0, 0, 1, 4))):
            stage.engine.step()
    stage.finish()
    ended = {output.request_id: output for output in stage.recorder.outputs if output.finish_reason}
    for output in ended.values():
        assert output.error is None
    return [ended[str(number)].hypotheses for number in range(len(sources))]


def assert_alike(expected: list[tuple[Hypothesis, ...]], actual: list[tuple[Hypothesis, ...]]) -> None:
    """Compare best hypotheses: nearly all have the same tokens, and these the same scores and attention."""
    pairs = [(one[0], other[0]) for one, other in zip(expected, actual, strict=True)]
    same = [pair for pair in pairs if pair[0].token_ids == pair[1].token_ids]
    assert len(same) >= SAME_SHARE * len(pairs)
    for one, other in same:
        assert other.score == pytest.approx(one.score, abs=SCORE_TOLERANCE)
        if one.attention is not None and other.attention is not None:
            np.testing.assert_allclose(other.attention, one.attention, atol=SCORE_TOLERANCE)


def test_a_device_translates_as_the_host_does(provider: str, made: tuple[Bundle, list[list[int]]]) -> None:
    """Greedy rows, beams and attention, joining and leaving at random, come out as on the CPU."""
    bundle, sources = made
    model = DeviceModel.load(bundle, open_device(Target(provider)), Wishes(ROWS, prepared=0))

    assert_alike(decode(OnnxModel.load(bundle, "cpu"), sources), decode(model, sources))


def test_captured_steps_give_the_same(provider: str, made: tuple[Bundle, list[list[int]]]) -> None:
    """Steps in prepared buckets, replayed as CUDA graphs on a GPU, give what others give; it is said why none is."""
    bundle, sources = made
    plain = DeviceModel.load(bundle, open_device(Target(provider)), Wishes(ROWS, prepared=0))
    prepared = DeviceModel.load(bundle, open_device(Target(provider)), Wishes(ROWS, prepared=10))
    prepared.record()

    assert prepared.prepared.reason == ("cpu has none" if provider == "cpu" else "")
    assert 10 == len(prepared.prepared.shapes)
    assert_alike(decode(plain, sources), decode(prepared, sources))
    assert_alike(decode(plain, sources, seed=4), decode(prepared, sources, seed=4))


def test_a_full_device_fails_the_requests_of_that_step(provider: str, made: tuple[Bundle, list[list[int]]]) -> None:
    """Who would need more memory than there is ends as RESOURCE_EXHAUSTED; who comes next is served."""
    bundle, sources = made
    model = DeviceModel.load(bundle, open_device(Target(provider)), Wishes(64, prepared=0))
    stage = Stage(model, Limits(max_rows=64, max_join_tokens=10_000))
    stage.submit("before", tuple(sources[0]), limit=9)
    stage.finish()
    model.device.limit = model.device.bytes + 1_000_000
    for number in range(64):
        stage.submit(str(number), tuple(range(4, 90)), limit=9)
    stage.finish()
    assert isinstance(stage.recorder.last("0", timeout=0).error, OutOfMemoryError)
    assert model.device.bytes <= model.device.limit
    stage.submit("after", tuple(sources[0]), limit=9)
    stage.finish()

    assert stage.text("before") == stage.text("after")
