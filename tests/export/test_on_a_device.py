"""A Transformer whose caches stay on a device: the same translations as from this process's memory."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from export import bundle_writer, originals
from export.bundle_writer import Order
from service.bundle import ModelCard
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.memory import Device
from service.engine.runtime.ort import Target
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.request import DecodingParams, Hypothesis, Request
from tests.export.families import FAMILIES, languages_of
from tests.export.tiny import PAIRS
from tests.fakes import Stage

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

SOURCES = PAIRS[::45]
ROWS = 8


def decode(model: OnnxModel | DeviceModel) -> list[tuple[Hypothesis, ...]]:
    """Decode sources of many lengths, every third by a beam, that join while others are on their way."""
    chance = Random(3)  # noqa: S311  nothing secret
    stage = Stage(model, Limits(max_rows=ROWS))
    for number in range(16):
        source = tuple(chance.randrange(3, 300) for _ in range(chance.randint(1, 40)))
        params = DecodingParams(chance.randint(5, 40), beam_size=1 if number % 3 else 3, return_attention=number == 4)
        stage.ask(Request(str(number), source, params))
        for _ in range(chance.randint(0, 3)):
            stage.engine.step()
    stage.finish()
    return [stage.recorder.last(str(number), timeout=0).hypotheses for number in range(16)]


def test_caches_on_a_device_are_those_of_the_host(tmp_path: Path) -> None:
    """Keys and values of rows of any age, reordered by beams and moved between buckets, give the same tokens."""
    FAMILIES["marian"](tmp_path)
    order = Order(ModelCard("tiny", "marian", "ko", "en", "CC0-1.0", "fp32", ""), "1", 20, SOURCES, ())
    made = bundle_writer.assemble(originals.load(tmp_path, languages_of("marian"), SOURCES), order)
    plain = decode(OnnxModel.load(made, "cpu"))
    moved = decode(DeviceModel.load(made, Device(Target("cpu")), Wishes(ROWS, prepared=4)))
    assert [[one.token_ids for one in each] for each in plain] == [[one.token_ids for one in each] for each in moved]
    for one, other in zip(plain, moved, strict=True):
        np.testing.assert_allclose([each.score for each in one], [each.score for each in other], atol=1e-4)
    before, after = plain[4][0].attention, moved[4][0].attention
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(before, after, atol=1e-5)
