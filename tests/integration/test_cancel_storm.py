"""Clients that vanish at random moments leave nothing behind."""

import functools
import time

from tests.benchmark.storming import Storm, Vanishing
from tests.benchmark.workers import Worker
from tests.serving import LiveServer, loaded, reversing, wait_until

CALLS = 200
ROWS, WAITING = 16, 112
CAPACITY = ROWS + WAITING
TEXTS = ["abc", "가나다라", "a b c d e f g h i j", "z" * 40]


def idle(live: LiveServer) -> dict[str, float]:
    """Return what would show work that somebody left."""
    samples = live.metrics()
    gauges = {name: samples[f'dragoman_requests_{name}{{model="toy"}}'] for name in ("waiting", "running")}
    return {**gauges, "admitted": live.server.admission.admitted}


def test_vanished_clients_leave_nothing_behind() -> None:
    """Unary calls, streams and segments, with beams and without: rows, places and permits all come back."""
    slow = reversing(lambda rows: time.sleep(0.002))
    with LiveServer([loaded(slow)], max_rows=ROWS, max_waiting=WAITING) as live:
        build = functools.partial(Storm, live.ready.address, live.ready.metrics_url, TEXTS, patience=20.0)
        with Worker("storm", build, None) as storm:
            passed = storm(Vanishing(CALLS, seed=7, beam_size=4, mean=0.05))
        assert CALLS == passed.vanished + passed.answered + sum(passed.codes.values())
        assert passed.vanished > CALLS / 2
        assert not set(passed.codes) - {"RESOURCE_EXHAUSTED"}
        wait_until(lambda: live.server.admission.admitted == 0, "all permits are back")
        assert {"waiting": 0, "running": 0, "admitted": 0} == idle(live)
        assert ["cba"] * CAPACITY == live.translate(*["abc"] * CAPACITY)
