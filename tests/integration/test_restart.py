"""Servers restarted under load, one after the other, behind a client with the service config of docs/deployment.md."""

import functools
import json
import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from tests.callers import Callers
from tests.integration.test_process import first_line, process

RESTARTS = int(os.environ.get("DRAGOMAN_RESTARTS", "1"))
"""Of each of the two servers."""
LOAD_SECONDS = float(os.environ.get("DRAGOMAN_LOAD_SECONDS", "0"))
"""As long at least the callers call, with the restarts spread over it."""
CALLERS = 6
SERVER = """
import sys, time
from service import config, process
from tests.serving import Fixed, loaded, reversing, _announce
given = {"port": sys.argv[1], "metrics_port": "0", "grace_seconds": sys.argv[2], "log_level": "warning"}
settings = config.read_settings(given)
sys.exit(process.run(settings, _announce, lambda _: Fixed([loaded(reversing(lambda rows: time.sleep(0.002)))])))
"""


def documented_config() -> dict[str, object]:
    """Return the service config that the documentation gives to clients."""
    page = (Path(__file__).parents[2] / "docs/deployment.md").read_text()
    found: dict[str, object] = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.slow
@pytest.mark.parametrize("health_checks", [True, False])
def test_restarts_lose_no_call(health_checks: bool) -> None:
    """With health checks and a grace period nobody is refused; without, retries carry every call to another server."""
    config = documented_config()
    if not health_checks:
        del config["healthCheckConfig"]
    ports = [free_port(), free_port()]
    commands = [["-c", SERVER, str(port), "0.5" if health_checks else "0"] for port in ports]
    options = [("grpc.service_config", json.dumps(config)), ("grpc.max_reconnect_backoff_ms", 500)]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    with ExitStack() as started, grpc.insecure_channel(target, options=options) as channel:
        servers = [started.enter_context(process(command)) for command in commands]
        assert all(first_line(server) for server in servers)
        stub = translation_pb2_grpc.TranslationServiceStub(channel)
        call = functools.partial(stub.Translate, pb.TranslateRequest(texts=["abcdefgh"]), timeout=20.0)
        with Callers([call] * CALLERS, pause=0.005) as load:
            began = time.monotonic()
            for number in range(2 * RESTARTS):
                load.more(50)
                time.sleep(max(0.0, began + number * LOAD_SECONDS / (2 * RESTARTS) - time.monotonic()))
                servers[number % 2].send_signal(signal.SIGTERM)
                assert 0 == servers[number % 2].wait(30.0)
                servers[number % 2] = started.enter_context(process(commands[number % 2]))
                assert first_line(servers[number % 2])
            load.more(50)
            seconds = time.monotonic() - began
    checks = "with" if health_checks else "without"
    print(f"{RESTARTS} restarts of each of 2 servers in {seconds:.0f} s, {checks} health checks: {dict(load.codes)}")  # noqa: T201
    assert {"OK"} == load.codes.keys()
