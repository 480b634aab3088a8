"""A batch on a device gives what a batch in this process gives, whatever comes and goes, and however late it works."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from service import bundle
from service.bundle import Bundle
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel
from service.engine.runtime.memory import Device
from service.engine.runtime.ort import Target
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel, open_graph
from service.request import DecodingParams, FinishReason, Hypothesis, Request
from tests.fakes import Stage
from tests.late_device import LateDevice

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")
EMBEDDED = Path(bundle.__file__).parent / "bundles" / "ko-en" / "1"
ROWS = 16


def on(device: Device, read: Bundle) -> DeviceModel:
    """Return a bundle's model on a device."""
    encoder, step = (
        open_graph(read, graph, device.target) for graph in (read.manifest.encoder, read.manifest.decoder_step)
    )
    return DeviceModel(read, device, (encoder, step), ROWS)


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    """Load the toy that has all that a bundle can have."""
    return bundle.load(onnx_toy.write_mixing_bundle(tmp_path))


@pytest.fixture
def late() -> Iterator[LateDevice]:
    """Give a device that is late."""
    device = LateDevice(7)
    yield device
    device.close()


def any_request(random: Random, number: int, vocabulary: int) -> Request:
    """Return a request of any kind: plain, with a beam, drawn, with attention."""
    source = tuple(random.randrange(4, vocabulary) for _ in range(random.choice((1, 3, 9, 17, 40))))
    kinds: list[dict[str, int | float | bool]] = [
        {},
        {},
        {"return_attention": True},
        {"beam_size": 2, "num_hypotheses": 2},
        {"beam_size": 4},
    ]
    params = DecodingParams(random.choice((2, 9, 30)), **random.choice(kinds))  # type: ignore[arg-type]
    return Request(str(number), source, params)


def decode(model: AnyModel, seed: int, count: int, vocabulary: int) -> dict[str, tuple[Hypothesis, ...]]:
    """Decode random requests that arrive at random, some of which are cancelled; return what the others came to."""
    random = Random(seed)  # noqa: S311  nothing secret
    stage = Stage(model, Limits(max_rows=ROWS))
    requests = [any_request(random, number, vocabulary) for number in range(count)]
    while requests:
        for _ in range(random.choice((0, 0, 1, 3))):
            if requests:
                stage.ask(requests.pop())
        stage.engine.step()
        if random.random() < 0.1:
            stage.engine.cancel(str(random.randrange(count)))
    stage.finish()
    ended = [output for output in stage.recorder.outputs if output.finish_reason]
    assert count == len(ended)
    assert FinishReason.ERROR not in {output.finish_reason for output in ended}
    return {output.request_id: output.hypotheses for output in ended}


def assert_same(expected: dict[str, tuple[Hypothesis, ...]], actual: dict[str, tuple[Hypothesis, ...]]) -> None:
    """Compare tokens, log-probabilities, scores and attention, to the last bit."""
    assert expected.keys() == actual.keys()
    for name, hypotheses in expected.items():
        for one, other in zip(hypotheses, actual[name], strict=True):
            assert (one.token_ids, one.log_probs, one.score) == (other.token_ids, other.log_probs, other.score)
            assert (one.attention is None) == (other.attention is None)
            if one.attention is not None and other.attention is not None:
                np.testing.assert_array_equal(one.attention, other.attention)


@pytest.mark.parametrize("seed", range(4))
def test_a_device_gives_what_the_host_gives(toy: Bundle, seed: int) -> None:
    """Requests of all kinds, joining and leaving at random, come out the same to the last bit."""
    assert_same(decode(OnnxModel.load(toy, "cpu"), seed, 40, 99), decode(on(Device(Target("cpu")), toy), seed, 40, 99))


def test_a_late_device_gives_the_same(toy: Bundle, late: LateDevice) -> None:
    """Runs and copies are done in order, long after they were asked for: nothing is freed or overwritten before."""
    assert_same(decode(OnnxModel.load(toy, "cpu"), 11, 25, 99), decode(on(late, toy), 11, 25, 99))
    assert late.most_pending > 2


def test_the_embedded_model_is_the_same_on_a_device() -> None:
    """On real graphs tokens are the same, and log-probabilities but for how sums are rounded."""
    read = bundle.load(EMBEDDED)
    plain = decode(OnnxModel.load(read, "cpu"), 5, 16, 3000)
    moved = decode(on(Device(Target("cpu")), read), 5, 16, 3000)
    assert plain.keys() == moved.keys()
    for name, hypotheses in plain.items():
        assert [one.token_ids for one in hypotheses] == [one.token_ids for one in moved[name]]
        scores = [one.score for one in hypotheses], [one.score for one in moved[name]]
        np.testing.assert_allclose(*scores, atol=1e-5)


def test_who_leaves_moves_nobody_and_buffers_are_used_again(toy: Bundle) -> None:
    """Wave after wave of the same sizes takes no more memory than the first, and prepares no more steps."""
    counted = CountingDevice()
    model = on(counted, toy)
    sizes = []
    for _ in range(3):
        stage = Stage(model, Limits(max_rows=ROWS))
        for number in range(ROWS):
            stage.submit(str(number), tuple(range(4, 9 + number)), limit=20)
        stage.finish()
        sizes.append((counted.bytes, counted.bound))
    bound = [after - before for (_, before), (_, after) in itertools.pairwise(sizes)]
    assert sizes[0][0] == sizes[1][0] == sizes[2][0]
    assert bound[0] == bound[1] < sizes[0][1]


class CountingDevice(Device):
    """Counts the runs that were prepared."""

    def __init__(self) -> None:
        super().__init__(Target("cpu"))
        self.bound = 0

    def bind(self, *given: object) -> object:  # type: ignore[override]  # Whatever is bound.
        """Count one more."""
        self.bound += 1
        return super().bind(*given)  # type: ignore[arg-type]


def test_a_dead_slot_holds_a_source(toy: Bundle) -> None:
    """Slots that nobody has compute with what somebody was: nothing that is no number can come of them."""
    device = Device(Target("cpu"))
    model = on(device, toy)
    lane = model.open(1)
    encoded = model.encode(np.array([[5, 6, 7]] * 3), np.array([3, 3, 3]))
    lane.insert(encoded, np.array([3, 3, 3]), range(3), 2)
    lane.arena.launch(1, attention=True)
    left = lane.arena.collect()
    assert 4 == len(left.ids)
    assert left.attention is not None
    assert np.isfinite(left.attention).all()
    assert left.attention[0].tolist() == left.attention[3].tolist()
