"""Models changed while the server runs, by ModelService, reload and polling: what serves, what is refused and why."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import models_pb2 as pb
from dragoman.v1 import models_pb2_grpc, translation_pb2
from service import cli
from service.rpc.status import read_details
from tests.integration.test_lifecycle import ask, failure
from tests.serving import Fixed, Gate, LiveServer, loaded, reversing, wait_until

READY, FAILED, DRAINING = pb.MODEL_STATE_READY, pb.MODEL_STATE_FAILED, pb.MODEL_STATE_DRAINING


class Operator:
    """A server whose models may change, and its operator."""

    def __init__(self, live: LiveServer, source: Fixed, socket: Path) -> None:
        self.live = live
        self.source = source
        self.channel = grpc.insecure_channel(f"unix:{socket}")
        self._stub = models_pb2_grpc.ModelServiceStub(self.channel)

    def load(self, model: str) -> list[str]:
        """Load; return what is ready by it."""
        answer = self._stub.LoadModel(pb.LoadModelRequest(model=model), timeout=20.0)
        return [f"{one.name}@{one.version}" for one in answer.models]

    def unload(self, model: str) -> list[str]:
        """Unload; return what drains by it."""
        answer = self._stub.UnloadModel(pb.UnloadModelRequest(model=model), timeout=20.0)
        return [f"{one.name}@{one.version}" for one in answer.models]

    def reload(self) -> None:
        """Reload."""
        self._stub.ReloadModels(pb.ReloadModelsRequest(), timeout=20.0)

    def list(self) -> list[pb.ModelStatus]:
        """Return all versions."""
        return [*self._stub.ListModels(pb.ModelServiceListModelsRequest(), timeout=20.0).models]

    def states(self) -> dict[str, int]:
        """Return the state of each version."""
        return {f"{one.name}@{one.version}": one.state for one in self.list()}

    def version(self, model: str = "") -> str:
        """Return the version that answers a request."""
        request = translation_pb2.TranslateRequest(texts=["abc"], model=model)
        answer = self.live.stub.Translate(request, timeout=20.0)
        assert "cba" == answer.translations[0].hypotheses[0].text
        return answer.model_version


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Serve models that may change."""
    started: list[Operator] = []

    def start(*versions: str, model: Any = None, **settings: Any) -> Operator:
        source = Fixed([loaded(model or reversing(), version=version) for version in versions])
        socket = tmp_path / "operator"
        live = LiveServer(source, admin_socket=socket, **settings).__enter__()
        started.append(Operator(live, source, socket))
        return started[-1]

    yield start
    for operator in started:
        operator.channel.close()
        operator.live.__exit__(None, None, None)


def test_the_latest_serves_and_a_later_one_takes_its_place(serve: Callable[..., Operator]) -> None:
    """The old one is gone when nobody uses it; the metrics know one model."""
    operator = serve("1", "2")
    assert {"toy@2": READY} == operator.states()
    operator.source.write(loaded(reversing(), version="3"))
    assert "2" == operator.version()
    operator.reload()
    assert "3" == operator.version()
    wait_until(lambda: operator.states() == {"toy@3": READY}, "the old one is gone")
    metrics = operator.live.metrics()
    assert 2 == metrics['dragoman_requests_finished_total{finish_reason="end",model="toy"}']
    assert 1 == len([name for name in metrics if name.startswith("dragoman_model_info")])


def test_a_broken_version_is_refused_with_its_reason(serve: Callable[..., Operator]) -> None:
    """The old one serves on; health, the log, the list and a counter tell; the next good one takes its place."""
    operator = serve("1")
    operator.source.write(loaded(reversing(), version="2"), broken="2/encoder.onnx was altered; restore the bundle")
    operator.reload()
    assert ("1", "SERVING") == (operator.version(), operator.live.health())
    old, new = operator.list()
    assert (READY, FAILED, "2/encoder.onnx was altered; restore the bundle") == (old.state, new.state, new.reason)
    metrics = operator.live.metrics()
    assert 1 == metrics['dragoman_model_load_failures_total{model="toy"}']
    states = ("loading", "ready", "draining", "failed")
    assert [0, 1, 0, 1] == [metrics[f'dragoman_model_versions{{model="toy",state="{state}"}}'] for state in states]
    (line,) = [line for line in operator.live.log_lines() if line["message"] == "a model was refused"]
    assert ("toy@2", "2/encoder.onnx was altered; restore the bundle") == (line["model"], line["cause"])
    operator.source.write(loaded(reversing(), version="2"))
    operator.reload()
    assert "2" == operator.version()


def test_a_version_written_anew_is_loaded_anew(serve: Callable[..., Operator]) -> None:
    """And one that did not change is left alone."""
    operator = serve("1")
    loads: list[str] = []
    operator.source.before_load = lambda: loads.append("loaded")
    operator.reload()
    assert [] == loads
    operator.source.write(loaded(reversing(), version="1"))
    operator.reload()
    assert (["loaded"], "1") == (loads, operator.version())
    operator.source.write(loaded(reversing(), version="1"), broken="no")
    operator.reload()
    assert "1" == operator.version()
    assert [READY, FAILED] == sorted(one.state for one in operator.list() if one.state != DRAINING)


def test_who_began_with_a_version_ends_with_it(serve: Callable[..., Operator]) -> None:
    """Its answer comes from the old one, which drains as long; whoever comes meanwhile has the new one."""
    gate = Gate()
    operator = serve("1", model=reversing(gate))
    running = ask(operator.live, "abc")
    wait_until(lambda: gate.steps == 1, "it runs")
    operator.source.write(loaded(reversing(), version="2"))
    operator.reload()
    assert "2" == operator.version()
    assert {"toy@1": DRAINING, "toy@2": READY} == operator.states()
    assert [1] == [one.calls for one in operator.list() if one.state == DRAINING]
    assert "SERVING" == operator.live.health()
    gate.open()
    answer = running.result(20.0)
    assert ("1", "cba") == (answer.model_version, answer.translations[0].hypotheses[0].text)
    wait_until(lambda: operator.states() == {"toy@2": READY}, "the old one is gone")


def test_what_is_gone_is_not_kept(serve: Callable[..., Operator]) -> None:
    """Its memory comes back at once: a collection of garbage may be far away."""
    operator = serve("1")
    operator.version()
    model = weakref.ref(operator.source.models.pop(("toy", "1")).models[0])
    operator.source.write(loaded(reversing(), version="2"))
    gc.disable()
    try:
        operator.reload()
        assert "2" == operator.version()
        wait_until(lambda: model() is None, "the old model is gone")
    finally:
        gc.enable()


def test_who_takes_too_long_is_told_so(serve: Callable[..., Operator]) -> None:
    """After `drain_seconds` the old one ends, and its client may try again."""
    gate = Gate()
    operator = serve("1", model=reversing(gate), drain_seconds=0.1)
    running = ask(operator.live, "abc")
    wait_until(lambda: gate.steps == 1, "it runs")
    operator.source.write(loaded(reversing(), version="2"))
    operator.reload()
    wait_until(lambda: "a model that was let go is still in use; ending it" in operator.live.log.getvalue(), "its end")
    gate.open()
    assert grpc.StatusCode.UNAVAILABLE is failure(running).code()
    assert "2" == operator.version()


def test_versions_side_by_side(serve: Callable[..., Operator]) -> None:
    """One is loaded beside the one that is pinned; requests name it, and those that do not get the pinned one."""
    operator = serve("1", "2", models="toy@1")
    assert ["toy@2"] == operator.load("toy@2")
    assert ["1", "1", "2"] == [operator.version(model) for model in ("", "toy", "toy@2")]
    operator.reload()
    assert {"toy@1": READY, "toy@2": READY} == operator.states()
    assert ["toy@1"] == operator.unload("toy@1")
    assert "2" == operator.version()
    operator.reload()
    wait_until(lambda: operator.states() == {"toy@2": READY}, "it is gone, and stays away")


def test_a_server_without_models_is_not_ready(serve: Callable[..., Operator]) -> None:
    """It is alive, says what to do, and is ready when it has one."""
    operator = serve("1")
    operator.unload("toy")
    assert ("NOT_SERVING", "SERVING") == (operator.live.health(), operator.live.health("live"))
    error = failure(ask(operator.live, "abc"))
    assert (grpc.StatusCode.NOT_FOUND, "holds none; load one") == (error.code(), str(error.details())[-20:])
    assert ["toy@1"] == operator.load("toy")
    assert ("SERVING", "1") == (operator.live.health(), operator.version())


@pytest.mark.parametrize(
    ("call", "model", "code", "reason"),
    [
        ("load", "toy@9", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("load", "toy@2", grpc.StatusCode.FAILED_PRECONDITION, "MODEL_LOAD_FAILED"),
        ("load", "../toy", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("unload", "toy@9", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    ],
)
def test_what_cannot_be_done(
    serve: Callable[..., Operator], call: str, model: str, code: grpc.StatusCode, reason: str
) -> None:
    """The operator is told why, and the model serves on."""
    operator = serve("1")
    operator.source.write(loaded(reversing(), version="2"), broken="it is broken")
    with pytest.raises(grpc.RpcError) as raised:
        getattr(operator, call)(model)
    assert code is raised.value.code()
    assert reason == read_details(raised.value.trailing_metadata()).reason
    assert "1" == operator.version()


def test_the_bound_of_all_models(serve: Callable[..., Operator]) -> None:
    """What would pass it is refused before it is loaded; at the start that is the end."""
    operator = serve("1", "2", models="toy@1", model_megabytes=3)
    operator.source.sizes = {("toy", "2"): 4_000_000}
    operator.source.before_load = lambda: pytest.fail("it was loaded")
    with pytest.raises(grpc.RpcError) as raised:
        operator.load("toy@2")
    told = "toy@2 takes about 4 MB and others take 0, more than --model-megabytes 3 together; unload another one"
    assert str(raised.value.details()).startswith(told)
    assert {"toy@1": READY, "toy@2": FAILED} == operator.states()


def test_polling_finds_what_is_new(serve: Callable[..., Operator]) -> None:
    """A new version serves soon after it stopped to change; one that is broken is tried once, not at every look."""
    operator = serve("1", model_poll_seconds=0.05)
    operator.source.write(loaded(reversing(), version="2"))
    wait_until(lambda: operator.version() == "2", "the new version serves")
    operator.source.write(loaded(reversing(), version="3"), broken="it is broken")
    wait_until(lambda: operator.states().get("toy@3") == FAILED, "it is refused")
    looks: list[str] = []
    operator.source.before_find = lambda: looks.append("look")
    wait_until(lambda: len(looks) > 5, "it was looked for again")
    assert 1 == operator.live.metrics()['dragoman_model_load_failures_total{model="toy"}']
    assert "2" == operator.version()


def test_the_socket_is_for_its_owner_alone(serve: Callable[..., Operator], tmp_path: Path) -> None:
    """Nobody else may open it; the public port knows nothing of the service."""
    operator = serve("1")
    assert "0o600" == oct((tmp_path / "operator").stat().st_mode & 0o777)
    public = models_pb2_grpc.ModelServiceStub(operator.live.channel)
    with pytest.raises(grpc.RpcError) as raised:
        public.UnloadModel(pb.UnloadModelRequest(model="toy"), timeout=20.0)
    assert grpc.StatusCode.UNIMPLEMENTED is raised.value.code()
    assert "1" == operator.version()


def test_the_command_line(serve: Callable[..., Operator], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads, unloads and lists, with the reasons of what was refused."""
    operator = serve("1", "2", models="toy@1")
    operator.source.write(loaded(reversing(), version="3"), broken="it is broken")

    def run(*arguments: str) -> tuple[int, list[list[str]], str]:
        status = cli.main(["models", "--server", f"unix:{tmp_path / 'operator'}", *arguments])
        said = capsys.readouterr()
        return status, [line.split(maxsplit=5) for line in said.out.splitlines()[1:]], said.err

    assert (0, [["toy", "2", "READY", "0", "0", "-"]], "") == run("--load", "toy@2")
    status, rows, complaint = run("--load", "toy@3")
    assert (1, [], "dragoman: it is broken [MODEL_LOAD_FAILED") == (status, rows, complaint.split(",")[0])
    assert [["toy", "1", "DRAINING"]] == [row[:3] for row in run("--unload", "toy@1")[1]]
    wait_until(lambda: "toy@1" not in operator.states(), "it is gone")
    left = [["toy", "2", "READY", "0", "0", "-"], ["toy", "3", "FAILED", "0", "0", "it is broken"]]
    assert left == run("--states")[1]
    assert (0, left, "") == run("--reload")
