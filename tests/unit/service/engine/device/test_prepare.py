"""Buckets: which there are, which one is taken, what is prepared before there is traffic, and what it may take."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from service import bundle
from service.bundle import Bundle
from service.engine.device import prepare
from service.engine.device.model import DeviceModel, Wishes
from service.engine.device.prepare import Prepared
from service.engine.device.shapes import SHRINK_BELOW, Buckets, Shape, bytes_of
from service.engine.layout import Layout
from service.engine.runtime.memory import UNCAPTURED, Binding, Device
from service.engine.runtime.ort import Target
from service.engine.scheduler import Limits
from service.engine.session import open_graph
from service.errors import OutOfMemoryError
from service.request import FinishReason
from tests.fakes import Stage

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")

OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. Name:'m' "
    "Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 99"
)
CUDA_OUT_OF_MEMORY = (
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=cuda_call.cc ; line=187 ; expr=cudaMalloc"
)


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    """Load the toy that has all that a bundle can have."""
    return bundle.load(onnx_toy.write_mixing_bundle(tmp_path))


class Watched(Device):
    """The CPU, that notes which graph each run was for, and fails at a run that it is told of."""

    def __init__(self) -> None:
        super().__init__(Target("cpu"))
        self.graphs: list[int] = []
        self.bound = 0
        self.failing: Exception | None = None

    def bind(self, session, feeds, outputs, graph=UNCAPTURED):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Note the graph."""
        self.bound += 1
        self.graphs.append(graph)
        return super().bind(session, feeds, outputs, graph)

    def run(self, binding: Binding) -> None:
        """Run it, or fail as the runtime does: inside the session."""
        if self.failing is not None:
            binding, self.failing = binding._replace(session=Failing(self.failing)), None
        super().run(binding)


class Failing:
    """A session whose run raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run_with_iobinding(self, *_: object) -> None:
        """Raise it."""
        raise self._error


def watched(read: Bundle, device: Device, rows: int) -> DeviceModel:
    """Return a model whose device is watched."""
    graphs = read.manifest.encoder, read.manifest.decoder_step
    encoder, step = (open_graph(read, graph, device.target) for graph in graphs)
    return DeviceModel(read, device, (encoder, step), rows)


@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
def test_a_bucket_holds_what_is_needed_and_little_more(groups: int, width: int, capacity: int) -> None:
    """Each axis is the next power of two, from 1 row, 16 source tokens and 16 cached ones on."""
    shape = Buckets(64, 128, 128).fit(Shape(groups, 1, width, capacity))
    assert groups <= shape.groups < 2 * groups
    assert width <= shape.width < max(17, 2 * width)
    assert capacity <= shape.capacity < max(17, 2 * capacity)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_a_bucket_is_left_only_for_a_much_smaller_one(needs: list[int]) -> None:
    """Rows that come and go one by one change the bucket seldom, and never leave it much too large."""
    buckets, now = Buckets(64, 16, 0), Shape(1, 1, 16, 0)
    for needed in needs:
        before, now = now, buckets.fit(Shape(needed, 1, 1, 0), now)
        assert needed <= now.groups
        assert now.groups <= 2 * needed or (now == before and needed > SHRINK_BELOW * now.groups)


def test_there_are_few_buckets_and_small_ones_come_first() -> None:
    """Their number grows with the logarithm of each limit; beams are not among them."""
    shapes = list(Buckets(64, 128, 100))
    assert 7 * 4 * 4 == len(shapes) == len(set(shapes))
    assert Shape(1, 1, 16, 16) == shapes[0]
    assert Shape(64, 1, 128, 128) == shapes[-1]
    assert 7 * 4 == len(list(Buckets(64, 128, 0)))


def test_what_is_prepared_is_bounded(toy: Bundle) -> None:
    """By number, and by the memory that the largest takes."""
    buckets, reads = Buckets.of(toy.manifest, 64), Layout.of(toy.manifest)
    assert 5 == len(prepare.choose(buckets, toy.manifest, 5, 1e9))
    small = prepare.choose(buckets, toy.manifest, 1000, 20_000)
    assert 0 < len(small) < len(list(buckets))
    assert all(sum(bytes_of(shape, reads.memory | reads.caches).values()) < 10_000 for shape in small)


def test_traffic_runs_in_what_was_prepared(toy: Bundle) -> None:
    """Each bucket has two runs, each a graph number of its own; plain requests within them prepare no other step."""
    device = Watched()
    model = watched(toy, device, 4)
    shapes = prepare.choose(Buckets(4, 32, 32), toy.manifest, 100, 1e9)
    model.wanted, model.uncaptured = shapes, ""
    model.record()
    recorded = [graph for graph in device.graphs if graph != UNCAPTURED]
    assert list(range(1, 2 * len(shapes) + 1)) == recorded
    taken = device.bytes
    stage = Stage(model, Limits(max_rows=4))
    for number in range(12):
        stage.submit(str(number), tuple(range(4, 6 + number)), limit=25)
    stage.finish()
    assert all(stage.text(str(number)) for number in range(12))
    assert taken == device.bytes
    assert recorded == [graph for graph in device.graphs if graph != UNCAPTURED]
    stepping = set(map(id, model.open(1).arena.steps.values()))
    assert 2 * len(shapes) == len(stepping)


def test_start_up_says_what_is_captured_or_why_not() -> None:
    """In a line, for people."""
    shapes = (Shape(1, 1, 16, 0), Shape(8, 1, 32, 0))
    assert "2 buckets are captured as CUDA graphs, up to 8 rows x 32 source tokens; others run uncaptured" == (
        Prepared(shapes, "").line()
    )
    assert "no bucket is captured as a CUDA graph: cpu has none" == Prepared(shapes, "cpu has none").line()


def test_a_model_says_what_it_has(toy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """A model that is loaded logs its buckets and its memory."""
    with caplog.at_level("INFO"):
        model = DeviceModel.load(toy, Device(Target("cpu")), Wishes(max_rows=2, prepared=3))
        model.record()
    assert 3 == len(model.prepared.shapes)
    said = "no bucket is captured as a CUDA graph: cpu has none; each run waits for its end; 0.0 MB for rows"
    assert f"toy on cpu: {said}" == caplog.messages[-1]


def test_where_recording_fails_steps_run_without(toy: Bundle) -> None:
    """The runtime's words say why; nothing of what was prepared is used, and requests are served."""
    device = Watched()
    model = watched(toy, device, 4)
    model.wanted, model.uncaptured = prepare.choose(Buckets(4, 16, 16), toy.manifest, 100, 1e9), ""
    device.failing = RuntimeException("CUDA failure 900: operation not permitted when stream is capturing\nmore")
    model.record()
    assert ((), 0) == (model.prepared.shapes, device.bytes)
    assert model.prepared.reason == "CUDA failure 900: operation not permitted when stream is capturing"
    stage = Stage(model)
    stage.submit("a", (5, 6, 7), limit=9)
    stage.finish()
    assert stage.text("a")


def test_the_engine_thread_records_before_it_steps(toy: Bundle) -> None:
    """What a thread recorded, only that thread replays: so the engine's own does, when it starts."""
    model = DeviceModel.load(toy, Device(Target("cpu")), Wishes(max_rows=4, prepared=3))
    assert () == model.prepared.shapes
    stage = Stage(model)
    stage.engine.start()
    stage.submit("a", (5, 6, 7), limit=9)
    assert stage.recorder.last("a").hypotheses
    stage.engine.stop()
    assert 3 == len(model.prepared.shapes)


def test_a_profile_spans_the_buckets(toy: Bundle, tmp_path: Path) -> None:
    """TensorRT is told the smallest and the largest sizes of every input, and where to keep its engines."""
    shapes = (Shape(1, 1, 16, 16), Shape(8, 1, 16, 32), Shape(2, 1, 64, 16))
    options = prepare.tensorrt_options(toy.manifest.decoder_step, shapes, tmp_path)
    assert str(tmp_path) == options["trt_engine_cache_path"]
    assert "token_ids:1,k:1,states:1x16x1,position:1x1,lengths:1,tokens:1x1x16x1" == options["trt_profile_min_shapes"]
    assert "token_ids:8,k:1,states:8x64x1,position:8x1,lengths:8,tokens:8x1x32x1" == options["trt_profile_max_shapes"]


@pytest.mark.parametrize("message", [OUT_OF_MEMORY, CUDA_OUT_OF_MEMORY])
def test_out_of_memory_fails_the_requests_of_the_step_alone(toy: Bundle, message: str) -> None:
    """The runtime's own error ends who is in the step with RESOURCE_EXHAUSTED; who comes next is served."""
    device = Watched()
    model = watched(toy, device, 4)
    stage = Stage(model)
    for name in ("a", "b"):
        stage.submit(name, (5, 6, 7), limit=9)
    stage.engine.step()
    device.failing = RuntimeException(message)
    stage.engine.step()
    for name in ("a", "b"):
        output = stage.recorder.last(name, timeout=0)
        assert FinishReason.ERROR == output.finish_reason
        assert isinstance(output.error, OutOfMemoryError)
    stage.submit("c", (5, 6, 7), limit=9)
    stage.finish()
    assert stage.text("c")
    assert [] == stage.recorder.failures


def test_a_device_takes_no_more_than_it_may(toy: Bundle) -> None:
    """Rows that would need more memory than the bound are refused; what is there stays, and others are served."""
    device = Device(Target("cpu"))
    model = watched(toy, device, 64)
    stage = Stage(model, Limits(max_rows=64, max_join_tokens=10_000))
    stage.submit("a", (5, 6), limit=9)
    stage.finish()
    device.limit = device.bytes + 1000
    for number in range(40):
        stage.submit(str(number), tuple(range(4, 90)), limit=9)
    stage.finish()
    assert isinstance(stage.recorder.last("0", timeout=0).error, OutOfMemoryError)
    assert device.bytes <= device.limit
    stage.submit("b", (5, 6), limit=9)
    stage.finish()
    assert stage.text("a") == stage.text("b")
