"""Texts that arrive at random, and the search for the highest rate."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.benchmark.arrivals import Bisection
from tests.benchmark.arriving import Arrivals, Arriving, Target

TEXTS = ["a", "b", "c"]


class Echo(ThreadingHTTPServer):
    """Answers with the text it was sent, or with an error for one of them, and keeps all."""

    daemon_threads = True

    def __init__(self, failing: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.failing = failing
        self.texts: list[str] = []

    @property
    def target(self) -> Target:
        """Where it is."""
        return Target("http", f"127.0.0.1:{self.server_port}")


class Answer(BaseHTTPRequestHandler):
    """One connection, which stays open."""

    protocol_version = "HTTP/1.1"
    server: Echo

    def do_POST(self) -> None:
        """Answer one text."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        text = json.loads(body)["text"]
        self.server.texts.append(text)
        self.send_response(500 if text == self.server.failing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Say nothing."""


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Run a server on a thread of its own."""
    server = Echo()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("in_flight", [None, 1, 4])
def test_every_arrival_is_answered(echo: Echo, in_flight: int | None) -> None:
    """As many latencies as arrivals, in an open loop as in a closed one; the first text once more, to connect."""
    outcome = Arriving(echo.target, TEXTS)(Arrivals(20, 1000.0, 1, in_flight))

    assert (20, True) == (len(outcome.latencies), outcome.kept)
    assert 21 == len(echo.texts)


def test_a_seed_repeats_the_arrivals(echo: Echo) -> None:
    """Two servers can be given the same texts in the same order, at whatever rate."""
    arriving = Arriving(echo.target, TEXTS)
    for rate in (1e3, 1e9):
        arriving(Arrivals(12, rate, 5, 1))

    assert echo.texts[:13] == echo.texts[13:]
    assert set(TEXTS) == set(echo.texts)


def test_late_answers_lose_the_bound(echo: Echo) -> None:
    """A bound that no answer can keep is not kept."""
    assert not Arriving(echo.target, TEXTS)(Arrivals(20, 100.0, 1, None, 0.0)).kept


def test_a_failed_answer_is_a_late_one(echo: Echo) -> None:
    """Where there is a bound, an error counts as an answer that never comes; where there is none, it is an error."""
    arriving = Arriving(echo.target, ["a", "b"])
    arriving(Arrivals(1, 1e3, 2, 1))
    echo.failing = "b" if echo.texts[0] == "a" else "a"  # not the text that connects

    outcome = arriving(Arrivals(20, 1e3, 2, None, 0.5))

    assert (False, True) == (outcome.kept, math.inf in outcome.latencies)
    with pytest.raises(ConnectionError, match="500"):
        arriving(Arrivals(20, 1e3, 2))


@pytest.mark.parametrize("highest", [0.0, 37.0, 99.0, 100.0])
def test_bisection_finds_the_highest_rate(highest: float) -> None:
    """Each rate tried halves what is left between the best one kept and the worst one lost."""
    search = Bisection(100.0)
    for _ in range(10):
        search.judge(kept=search.rate <= highest)

    assert highest - 100 / 2**10 <= search.kept <= highest
