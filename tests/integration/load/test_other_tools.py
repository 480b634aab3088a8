"""The configurations for other load generators, deploy/loadtest: they name what exists, and Locust runs."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict

from dragoman.v1 import translation_pb2 as pb
from tests.integration.load.server import ROOT, served

LOADTEST = ROOT / "deploy/loadtest"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="not installed: pip install locust")
def test_locust_translates(tmp_path: Path) -> None:
    """Its users call every method that they know, and nothing fails."""
    with served() as (_, address, _):
        command = [
            sys.executable, "-m", "locust", "-f", str(LOADTEST / "locustfile.py"), "--host", address, "--headless",
            "--users", "8", "--spawn-rate", "8", "--run-time", "4s", "--csv", str(tmp_path / "run"),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert 0 == done.returncode, done.stderr
    with (tmp_path / "run_stats.csv").open() as table:
        rows = {row["Name"]: row for row in csv.DictReader(table)}
    assert {"Translate", "Translate, 8 texts", "StreamTranslate", "Aggregated"} == rows.keys()
    assert "0" == rows["Aggregated"]["Failure Count"]


def test_ghz_asks_for_what_exists() -> None:
    """Its method is in the proto, and each of its messages is one."""
    found = json.loads((LOADTEST / "ghz.json").read_text())
    service, _, method = found["call"].rpartition(".")
    descriptor = pb.DESCRIPTOR.services_by_name["TranslationService"]
    assert (descriptor.full_name, pb.TranslateRequest.DESCRIPTOR) == (
        service,
        descriptor.methods_by_name[method].input_type,
    )
    assert 5 == len([ParseDict(message, pb.TranslateRequest()) for message in found["data"]])
