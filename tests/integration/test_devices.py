"""A server with an engine on each of several devices; here, all of them are the CPU."""

import logging
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from service import models
from service.config import Settings
from tests.fakes import ReversingModel
from tests.serving import Gate, LiveServer, reversing, tokenizer


def on(*engines: ReversingModel) -> models.Loaded:
    """Return a model that is loaded once for each device."""
    return models.Loaded("toy", "1", "cpu", engines, tokenizer(), 0.25)


def test_calls_are_shared_between_devices() -> None:
    """While one engine's step takes long, another serves the next call; metrics are the sum of both."""
    gates = Gate(), Gate()
    with LiveServer([on(*(reversing(gate) for gate in gates))]) as live, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(live.translate, text) for text in ("abc", "def")]
        while not all(gate.steps for gate in gates):
            time.sleep(0.01)
        for gate in gates:
            gate.open()
        assert [["cba"], ["fed"]] == [answer.result(20.0) for answer in answers]
        with urllib.request.urlopen(live.ready.metrics_url) as page:  # noqa: S310
            text = page.read().decode()
    assert 'dragoman_requests_finished_total{finish_reason="end",model="toy"} 2.0' in text


def test_a_server_says_where_models_run_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each device, in the log."""
    (found,) = models.Repository(Settings()).find()
    with caplog.at_level(logging.INFO, "service"):
        held = models.Repository(Settings(provider="cpu", devices="0,1", max_rows=2)).load(found)
    assert 2 == len(held.models)
    assert ["ko-en runs on cpu: asked for"] * 2 == caplog.messages
