"""While a device does a step, the host delivers what the step before gave; nothing else changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from service import bundle
from service.bundle import Bundle
from service.engine.device.model import DeviceModel
from service.engine.engine import Engine
from service.engine.runtime.memory import Binding, Device, View
from service.engine.runtime.ort import Target
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel, open_graph
from service.errors import EngineFailedError, OutOfMemoryError
from service.request import DecodingParams, FinishReason, Output, Request, StepReport
from tests.fakes import FakePermit
from tests.late_device import LateDevice

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")
SOURCE = tuple(range(4, 12))


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    """Load the toy that has all that a bundle can have."""
    return bundle.load(onnx_toy.write_mixing_bundle(tmp_path))


class Told(LateDevice):
    """A late device that writes down what it is asked for, and fails where it is told to."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(5)
        self.log = log
        self.failing: dict[str, Exception] = {}

    def run(self, binding: Binding) -> None:
        """Write it down."""
        self._note("launch")
        super().run(binding)

    def fetch(self, views: Sequence[View]) -> list[NDArray[Any]]:
        """Write it down."""
        self._note("collect")
        return super().fetch(views)

    def _note(self, what: str) -> None:
        self.log.append(what)
        if what in self.failing:
            raise self.failing.pop(what)


class House:
    """An engine on a device that writes down what it does, stepped by hand."""

    def __init__(self, read: Bundle, device: Device, log: list[str]) -> None:
        graphs = read.manifest.encoder, read.manifest.decoder_step
        encoder, step = (open_graph(read, graph, device.target) for graph in graphs)
        model = DeviceModel(read, device, (encoder, step), 16)
        self.device = device
        self.log = log
        self.outputs: list[Output] = []
        self.now = 100.0
        self.engine = Engine(model, Limits(max_rows=8), self._take, self, lambda error: None, clock=lambda: self.now)

    def _take(self, outputs: list[Output]) -> None:
        self.log.append("deliver")
        self.outputs += outputs

    def observe_step(self, report: StepReport) -> None:
        """Write it down."""
        self.log.append("observe")

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Take no note."""

    def submit(self, name: str, beam_size: int = 1, limit: int = 9, deadline: float | None = None) -> None:
        """Ask for every token as it comes; beams have theirs at the end."""
        params = DecodingParams(limit, beam_size=beam_size)
        self.engine.submit(Request(name, SOURCE, params, deadline, incremental=beam_size == 1), FakePermit())

    def step(self) -> list[str]:
        """Step once; return what was done, in order."""
        self.log.clear()
        self.engine.step()
        return list(self.log)

    def finish(self) -> None:
        """Step until nothing is left to do."""
        while self.engine.step():
            pass

    def ended(self) -> dict[str, Output]:
        """Return the last Output of each request, and see that there is one."""
        ended = [output for output in self.outputs if output.finish_reason]
        assert len(ended) == len({output.request_id for output in ended})
        return {output.request_id: output for output in ended}


@pytest.fixture
def house(toy: Bundle) -> Iterator[House]:
    """Give an engine on a late device."""
    log: list[str] = []
    device = Told(log)
    yield House(toy, device, log)
    device.close()


def test_a_step_is_delivered_while_the_device_does_the_next(house: House) -> None:
    """What step n gave goes out, and is counted, between asking for step n + 1 and waiting for it."""
    house.submit("one", limit=4)
    encode, join, first = ["launch"], ["launch"], ["launch", "collect"]

    assert [*encode, *join, *first] == house.step()
    for _ in range(2):
        assert ["launch", "deliver", "observe", "collect"] == house.step()
    assert ["launch", "deliver", "observe", "collect", "deliver", "observe"] == house.step()
    assert FinishReason.LENGTH == house.ended()["one"].finish_reason


def test_all_lanes_are_asked_before_one_is_waited_for(house: House) -> None:
    """Rows of different beams are in different lanes; the device has the work of both before the host waits."""
    house.submit("one")
    house.submit("two", beam_size=2)
    house.step()

    worked = [what for what in house.step() if what in ("launch", "deliver", "collect")]
    assert ["launch", "launch", "deliver", "collect", "collect"] == worked[:5]


def test_a_device_that_is_not_late_delivers_at_the_end(toy: Bundle) -> None:
    """Where work is done at once, nothing is held back: each step's tokens go out with it."""
    here = House(toy, Device(Target("cpu")), [])
    here.submit("one", limit=4)

    for tokens in range(1, 4):
        assert ["deliver", "observe"] == here.step()
        assert tokens == len(here.outputs)


def test_tokens_come_in_order_and_none_is_lost(house: House, toy: Bundle) -> None:
    """A stream's pieces, each a step late, make what the host gives at once."""
    log: list[str] = []
    plain = House(toy, Device(Target("cpu")), log)
    for each in (house, plain):
        for number in range(5):
            each.submit(str(number), limit=5 + number)
            each.step()
        each.finish()

    def pieces(each: House) -> dict[str, list[tuple[int, ...]]]:
        return {str(n): [one.token_ids for one in each.outputs if one.request_id == str(n)] for n in range(5)}

    assert pieces(plain) == pieces(house)
    assert 5 == len(house.ended())


def test_who_is_cancelled_or_too_late_leaves_before_the_next_step(house: House) -> None:
    """Outputs that were held back come first, then the last one, while others go on."""
    house.submit("cancelled")
    house.submit("late", deadline=200.0)
    house.submit("stays")
    house.step()
    house.engine.cancel("cancelled")
    house.now = 300.0
    house.step()

    reasons = {name: output.finish_reason for name, output in house.ended().items()}
    assert {"cancelled": FinishReason.CANCELLED, "late": FinishReason.DEADLINE} == reasons
    by_request = [output.finish_reason for output in house.outputs if output.request_id == "cancelled"]
    assert [None, FinishReason.CANCELLED] == by_request
    house.finish()
    assert house.ended()["stays"].error is None


def test_cancelling_the_last_one_leaves_nothing_behind(house: House) -> None:
    """Where no step follows, what was held back goes out at once."""
    house.submit("one")
    house.step()
    house.engine.cancel("one")

    assert ["deliver", "observe"] == house.step()
    assert [None, FinishReason.CANCELLED] == [output.finish_reason for output in house.outputs]


@pytest.mark.parametrize("what", ["launch", "collect"])
@pytest.mark.parametrize(
    ("error", "told"), [(RuntimeError("broken"), EngineFailedError), (MemoryError("full"), OutOfMemoryError)]
)
def test_a_failure_ends_those_of_that_step_alone(
    house: House, what: str, error: Exception, told: type[Exception]
) -> None:
    """What the step before gave goes out all the same, and who comes next is served."""
    house.submit("before", limit=2)
    house.submit("one")
    house.submit("two", beam_size=2)
    house.step()
    house.step()
    assert isinstance(house.device, Told)
    house.device.failing[what] = error
    house.step()
    house.submit("next")
    house.finish()

    ended = house.ended()
    assert ended["before"].error is None
    assert [told, told] == [type(ended[name].error) for name in ("one", "two")]
    assert 2 == sum(len(output.token_ids) for output in house.outputs if output.request_id == "one")
    assert ended["next"].error is None


def test_stopping_delivers_what_was_held_back(house: House) -> None:
    """An engine that is stopped in the middle gives what it has before it ends the rest."""
    house.submit("one", limit=100)
    house.step()
    house.engine.stop()
    house.engine.start()
    house.engine.stop()

    assert [None, FinishReason.ERROR] == [output.finish_reason for output in house.outputs][-2:]


def test_the_host_s_own_path_delivers_at_the_end(toy: Bundle) -> None:
    """Without a device nothing is late: the Outputs of a step are there when it returns."""
    outputs: list[Output] = []
    house = House(toy, Device(Target("cpu")), [])
    engine = Engine(OnnxModel.load(toy, "cpu"), Limits(max_rows=8), outputs.extend, house, lambda error: None)
    engine.submit(Request("one", SOURCE, DecodingParams(4), incremental=True), FakePermit())
    for tokens in range(1, 4):
        engine.step()
        assert tokens == len(outputs)
