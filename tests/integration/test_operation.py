"""What an operator does: check settings, ask for health, signal twice; and what an engine that hangs does."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service import cli, config
from service.clients import token_digest
from service.config import SettingError, read_settings
from service.server import STALLED
from tests.integration.test_lifecycle import ask
from tests.integration.test_process import ROOT, first_line, needs_embedded, process
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until

HANGING = """
import sys, time
from service import config, process
from tests.serving import Fixed, loaded, reversing, _announce
settings = config.read_settings({"port": "0", "metrics_port": "0", **dict(item.split("=") for item in sys.argv[1:])})
sys.exit(process.run(settings, _announce, lambda _: Fixed([loaded(reversing(lambda rows: time.sleep(1000)))])))
"""


def health(address: str, *arguments: str) -> tuple[int, str]:
    """Run `dragoman health`; return its status and what it printed."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service.cli", "health", "--server", address, *arguments],
        cwd=ROOT, check=False, text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).strip()


def start_call(channel: grpc.Channel) -> Any:
    """Start a call and return its future, which ends the call when it is let go."""
    return translation_pb2_grpc.TranslationServiceStub(channel).Translate.future(pb.TranslateRequest(texts=["abc"]))


def test_health_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """0 and SERVING while it serves; 1 and the reason for an unknown service and when nobody answers."""
    with LiveServer([loaded(reversing())]) as live:
        address = live.ready.address
        assert (0, "SERVING") == health(address)
        assert (0, "SERVING") == health(address, "--service", "dragoman.v1.TranslationService")
        assert 1 == cli.main(["health", "--server", address, "--service", "other"])
        assert "NOT_FOUND" in capsys.readouterr().out
    assert 1 == cli.main(["health", "--server", address, "--timeout", "0.5"])
    assert capsys.readouterr().out.startswith(("UNAVAILABLE: ", "DEADLINE_EXCEEDED: "))


def test_a_token_needs_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The client does not send one in plain text."""
    assert 1 == cli.main(["health", "--server", "127.0.0.1:1", "--token-file", str(tmp_path)])
    assert "over TLS only" in capsys.readouterr().err


def test_a_second_signal_ends_at_once() -> None:
    """Whatever still runs, with the status of the signal."""
    with process(["-c", HANGING]) as started:
        address = first_line(started)
        with grpc.insecure_channel(address) as channel:
            call = start_call(channel)
            wait_until(lambda: health(address) == (0, "SERVING"), "it serves")
            started.send_signal(signal.SIGTERM)
            wait_until(lambda: health(address)[0] == 1, "it drains")
            started.send_signal(signal.SIGTERM)
            assert 128 + signal.SIGTERM == started.wait(20.0)
            assert grpc.StatusCode.UNAVAILABLE is call.code()


def test_an_engine_that_hangs_ends_the_process_if_asked() -> None:
    """With a status of its own, so that whoever starts it starts another."""
    with process(["-c", HANGING, "stall_seconds=0.2", "stall_action=exit"]) as started:
        with grpc.insecure_channel(first_line(started)) as channel:
            call = start_call(channel)
            assert STALLED == started.wait(20.0)
            assert grpc.StatusCode.UNAVAILABLE is call.code()
        _, log = started.communicate(timeout=20)
        assert "engines stand still" in log


def test_an_engine_that_hangs_shows_in_health() -> None:
    """NOT_SERVING while a step takes longer than it may; SERVING again when it gets on."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], stall_seconds=0.2) as live:
        call = ask(live, "abc")
        wait_until(lambda: live.health() == "NOT_SERVING", "health says so")
        gate.open()
        assert "cba" == call.result(20.0).translations[0].hypotheses[0].text
        wait_until(lambda: live.health() == "SERVING", "health says so")


@needs_embedded
def test_check_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings from a file, the clients that it names and the models; nothing is served."""
    clients = tmp_path / "clients.yaml"
    clients.write_text(f"web: {{token_sha256: [{token_digest('a')}]}}")
    (tmp_path / "dragoman.yaml").write_text(f"clients: {clients}\nport: 1\nmode: production\n")
    assert 0 == cli.main(["serve", "--check", "--config", str(tmp_path / "dragoman.yaml")])
    lines = capsys.readouterr().out.splitlines()
    assert "clients: 1" == lines[0]
    assert lines[1].startswith("model: ")
    assert "these settings can be served" == lines[-1]


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("prot: 1", 2, "there is no setting 'prot'; did you mean port?"),
        ("port: [1]", 2, "port: Expected `int`, got `array`"),
        ("- port", 2, "is no YAML mapping of names to values"),
        ("tls_key: /missing", 2, "--tls-certificate and --tls-key belong together"),
        ("tls_key: /missing\ntls_certificate: /missing", 1, "no usable certificate in /missing"),
        ("tls_client_authority: /missing", 2, "--tls-client-authority needs"),
        ("health_access: clients", 2, "--health-access clients needs --clients"),
        ("clients: /missing", 2, "/missing cannot be read"),
        ("model_repository: /missing", 1, "/missing does not exist"),
        ("models: ko-en@", 2, "--models: 'ko-en@' names no model; write NAME, NAME@VERSION or NAME@*"),
        ("models: ko-en@9", 1, "--models wants ko-en@9, which the repository lacks; it holds"),
        ("workers: 2\nadmin_socket: /socket", 2, "--admin-socket speaks to one server, not to --workers"),
    ],
)
def test_check_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, status: int, says: str
) -> None:
    """One line that names the file or the setting; 2 for a setting, 1 for what it names."""
    file = tmp_path / "dragoman.yaml"
    file.write_text(text)
    assert status == cli.main(["serve", "--check", "--config", str(file)])
    complaint = capsys.readouterr().err
    assert says in complaint
    assert 1 == len(complaint.splitlines())


def test_the_file_comes_last(tmp_path: Path) -> None:
    """A flag goes before the environment, the environment before the file, the file before the default."""
    file = tmp_path / "dragoman.yaml"
    file.write_text("port: 1\nmetrics_port: 1\nhealth_port: 1\ndrain_seconds: 1\n")
    environment = {"DRAGOMAN_CONFIG": str(file), "DRAGOMAN_PORT": "2", "DRAGOMAN_METRICS_PORT": "2"}
    settings = read_settings({"port": "3"}, environment)
    found = (settings.port, settings.metrics_port, settings.health_port, settings.drain_seconds, settings.max_rows)
    assert (3, 2, 1, 1.0, config.Settings().max_rows) == found
    with pytest.raises(SettingError, match="cannot be read"):
        read_settings({"config": str(tmp_path / "other")}, environment)


def test_the_probe_finds_the_server_of_its_environment() -> None:
    """In a container, `dragoman health` needs no argument."""
    assert [config.DEFAULT_SERVER, "127.0.0.1:7", "127.0.0.1:8", "a:1"] == [
        config.health_server(environment)
        for environment in (
            {}, {"DRAGOMAN_PORT": "7"}, {"DRAGOMAN_PORT": "7", "DRAGOMAN_HEALTH_PORT": "8"}, {"DRAGOMAN_SERVER": "a:1"}
        )
    ]  # fmt: skip


def test_the_runtime_does_not_call_home() -> None:
    """ONNX Runtime reports to its maker unless told not to before it is imported."""
    environment: dict[str, str] = {}
    config.forbid_telemetry(environment)
    assert {"ORT_DISABLE_TELEMETRY": "1"} == environment
