"""`dragoman load` as people run it: a process of its own against a server of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli import main
from service.load.report import read
from tests.integration.load.server import ROOT, served

Address = tuple[str, str]


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """Serve for all tests."""
    with served() as (_, address, metrics_url):
        yield address, metrics_url


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """Return a file of texts that the server knows."""
    path = tmp_path / "texts"
    path.write_text("abc\n\ndefghij\n")
    return str(path)


def load(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    command = [sys.executable, "-m", "service.cli", "load", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)  # noqa: S603


@pytest.mark.parametrize("mode", ["unary", "stream", "segments"])
def test_all_modes_are_measured(address: Address, texts: str, tmp_path: Path, mode: str) -> None:
    """What was due was sent and answered, and the server's own figures stand beside the client's."""
    done = load(
        "--server", address[0], "--metrics-url", address[1], "--texts", texts, "--mode", mode, "--rate", "40",
        "--arrivals", "even", "--duration", "1", "--warm-up", "0.2", "--json", str(tmp_path / "json"),
        "--html", str(tmp_path / "html"), "--slo", "p99=10s", "--slo", "errors=0%",
    )  # fmt: skip
    assert (0, "40/s") == (done.returncode, done.stdout.split("\n")[3].split()[0]), done.stderr
    report = read(tmp_path / "json")
    phase = report.phases[0]
    assert ("toy", mode, 1, 40, 40) == (report.model, report.mode, len(report.phases), phase.sent, phase.ok)
    assert phase.latency is not None
    assert 40 == phase.latency.count
    assert (mode == "stream") == (phase.first_token is not None) == (phase.inter_token is not None)
    assert phase.server is not None
    assert {"end": 40} == phase.server.finished
    assert {"encode", "step", "host", "idle"} == phase.server.engine.keys()
    assert phase.target_tokens_per_second / phase.goodput == pytest.approx((3 + 7) / 2)
    assert "<svg" in (tmp_path / "html").read_text()


def test_a_missed_objective_fails(address: Address, texts: str) -> None:
    """With status 3, for CI."""
    done = load(
        "--server", address[0], "--metrics-url", address[1], "--texts", texts, "--concurrency", "2,4",
        "--duration", "0.5", "--warm-up", "0", "--slo", "p50=0.01ms",
    )  # fmt: skip
    assert 3 == done.returncode
    assert 2 == done.stdout.count("MISSED")


def test_several_processes_send_one_load(address: Address, texts: str, tmp_path: Path) -> None:
    """Together they send what was asked for, no more."""
    done = load(
        "--server", address[0], "--texts", texts, "--processes", "2", "--connections", "2", "--rate", "20..60",
        "--duration", "1", "--arrivals", "even", "--warm-up", "0", "--json", str(tmp_path / "json"),
        "--texts-per-request", "3",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    phase = read(tmp_path / "json").phases[0]
    assert (40, 40, 2) == (phase.sent, phase.ok, phase.client.processes)
    assert "--metrics-url" in done.stderr  # nobody serves metrics on the default port


@pytest.mark.slow
def test_capacity_and_comparison(address: Address, texts: str, tmp_path: Path) -> None:
    """A search ends with a rate; two reports are compared phase by phase."""
    for name in ("old", "new"):
        done = load(
            "--server", address[0], "--texts", texts, "--find-capacity", "--slo", "p50=25ms", "--first-rate", "400",
            "--duration", "0.4", "--warm-up", "0", "--json", str(tmp_path / name),
        )  # fmt: skip
        assert "Capacity: " in done.stdout, done.stderr
    found = read(tmp_path / "new")
    assert found.capacity is not None
    assert len(found.phases) == len(found.capacity.tried)
    compared = load("--compare", str(tmp_path / "old"), str(tmp_path / "new"))
    assert compared.returncode in {0, 3}
    assert "latency p99" in compared.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "one of the arguments --rate --concurrency --find-capacity --compare is required"),
        (["--rate", "fast"], "--rate fast"),
        (["--rate", "5", "--slo", "good"], "--slo good"),
        (["--find-capacity"], "--slo"),
        (["--rate", "5", "--mode", "stream", "--texts-per-request", "2"], "--texts-per-request"),
        (["--rate", "5", "--texts", "/nonexistent"], "/nonexistent"),
        (["--rate", "5", "--model", "made-up"], "it holds toy"),
        (["--compare", "/nonexistent", "/nonexistent"], "/nonexistent"),
    ],
)
def test_misuse_is_explained(
    address: Address, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """In one line, with status 2."""
    try:
        status: object = main(["load", "--server", address[0], *arguments])
    except SystemExit as error:
        status = error.code
    told = capsys.readouterr().err
    assert (2, 1) == (status, len(told.splitlines())), told
    assert complaint in told


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and the line says how to start a server."""
    assert 1 == main(["load", "--server", "127.0.0.1:1", "--rate", "5"])
    assert "dragoman serve" in capsys.readouterr().err
