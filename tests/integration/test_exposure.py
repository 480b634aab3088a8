"""What of a server can be seen and reached: by probes while it loads, by callers who are no clients, on an old port."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from service.clients import token_digest
from service.rpc.channel import Connection
from service.rpc.probe import probe
from tests.hostile.storm import free_port
from tests.integration.test_lifecycle import ask
from tests.serving import Fixed, Gate, LiveServer, loaded, reversing, wait_until

CODES = grpc.StatusCode


@pytest.mark.parametrize("mode", ["development", "production"])
@pytest.mark.parametrize(
    "method", ["/grpc.channelz.v1.Channelz/GetServers", "/grpc.admin/Any", "/dragoman.v1.ModelService/UnloadModel"]
)
def test_nobody_operates_over_the_network(mode: str, method: str) -> None:
    """Neither gRPC's own inspection nor the service that changes models is on the port, whatever the mode."""
    with LiveServer([loaded(reversing())], mode=mode) as live:
        call: Callable[..., bytes] = live.channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=20.0)
        assert CODES.UNIMPLEMENTED is caught.value.code()


def test_a_server_that_loads_is_alive_and_not_ready() -> None:
    """Probes are answered before a model is there, so that nobody starts another server in its place."""
    source, go = Fixed([loaded(reversing())]), threading.Event()
    source.before_load = lambda: go.wait(20.0)
    port = free_port()
    probes = Connection(f"127.0.0.1:{port}")
    live = LiveServer(source, health_port=port)
    with ThreadPoolExecutor(1) as starter:
        starting = starter.submit(live.__enter__)
        try:
            wait_until(lambda: probe(probes, "live", 1.0) == "SERVING", "it is alive")
            assert ("NOT_SERVING", False) == (probe(probes, "", 10.0), starting.done())
            go.set()
            starting.result(20.0)
            assert "SERVING" == probe(probes, "", 10.0)
        finally:
            go.set()
            starting.result(20.0)
            live.__exit__(None, None, None)


def test_health_for_clients_alone_is_not_watched_by_others(tmp_path: Path) -> None:
    """The stream of changes is as guarded as the single answer."""
    clients = tmp_path / "clients.yaml"
    clients.write_text(f"web: {{token_sha256: [{token_digest('a')}]}}")
    with LiveServer([loaded(reversing())], clients=clients, health_access="clients") as live:
        watch: Callable[..., Iterator[Any]] = live.channel.unary_stream("/grpc.health.v1.Health/Watch")
        with pytest.raises(grpc.RpcError) as caught:
            next(watch(b"", timeout=20.0))
        assert CODES.UNAUTHENTICATED is caught.value.code()
        known = (("authorization", "Bearer a"),)
        answer = health_pb2.HealthCheckResponse.FromString(next(watch(b"", timeout=20.0, metadata=known)))
        assert health_pb2.HealthCheckResponse.SERVING == answer.status


@pytest.mark.parametrize(("grace", "finishes"), [(20.0, True), (0.1, False)])
def test_calls_of_an_old_connection_get_a_grace(grace: float, finishes: bool) -> None:
    """A connection that is too old ends when its calls have, or when their time is over."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], connection_age_seconds=0.2, connection_grace_seconds=grace) as live:
        running = ask(live, "abc")
        wait_until(lambda: gate.steps == 1, "it runs")
        if finishes:
            threading.Event().wait(0.6)  # past its age, jitter included
            gate.open()
            assert "cba" == running.result(20.0).translations[0].hypotheses[0].text
        else:
            assert CODES.UNAVAILABLE is running.exception(20.0).code()
            gate.open()
        wait_until(lambda: live.server.admission.admitted == 0, "its permit is back")
