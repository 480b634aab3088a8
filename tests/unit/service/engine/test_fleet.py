"""Several engines that stand for one: who is asked, and that each request is somewhere, once."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.engine.engine import Engine
from service.engine.fleet import Fleet
from service.engine.scheduler import Limits
from service.errors import UnavailableError
from service.request import DecodingParams, FinishReason, Request
from tests.fakes import FakePermit, Recorder, ReversingModel

WAIT = 20.0


def engines(recorder: Recorder, count: int = 2) -> list[Engine]:
    """Return engines that are not started."""
    return [
        Engine(ReversingModel(), Limits(max_rows=4), recorder.deliver, recorder, recorder.fail) for _ in range(count)
    ]


@contextmanager
def running(fleet: Fleet) -> Iterator[Fleet]:
    """Let a fleet run for a while."""
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()


def ask(fleet: Fleet, name: str, length: int = 3) -> None:
    """Submit a source."""
    fleet.submit(Request(name, tuple(range(5, 5 + length)), DecodingParams(60)), FakePermit())


def test_requests_go_where_the_fewest_are() -> None:
    """Engines fill up evenly, and one that has less to do gets the next."""
    recorder = Recorder()
    parts = engines(recorder, 3)
    fleet = Fleet(parts)
    for number in range(7):
        ask(fleet, str(number))
    assert [3, 2, 2] == [part.inside for part in parts]
    while parts[0].step():
        pass
    for name in ("a", "b"):
        ask(fleet, name)
    assert [2, 2, 2] == [part.inside for part in parts]


def test_a_fleet_decodes_as_one() -> None:
    """Whoever is asked, each request ends once, with its own translation."""
    recorder = Recorder()
    with running(Fleet(engines(recorder))) as fleet:
        for number in range(40):
            ask(fleet, str(number), 2 + number % 9)
        for number in range(40):
            tokens = recorder.last(str(number), WAIT).hypotheses[0].token_ids
            assert tuple(range(5, 7 + number % 9))[::-1] == tokens
    assert 40 == len(recorder.outputs)


def test_a_request_is_cancelled_wherever_it_is() -> None:
    """Nobody keeps a list of who is where: those that do not know it ignore that."""
    recorder = Recorder()
    parts = engines(recorder)
    fleet = Fleet(parts)
    for name in ("a", "b"):
        ask(fleet, name)
    fleet.cancel("b")
    for part in parts:
        while part.step():
            pass
    assert [FinishReason.END, FinishReason.CANCELLED] == [recorder.last(n, 0).finish_reason for n in ("a", "b")]


def test_what_is_left_in_any_engine_fails_at_the_end() -> None:
    """Stopping a fleet stops all of it; nobody waits for ever."""
    recorder = Recorder()
    fleet = Fleet(engines(recorder))
    for name in ("a", "b"):
        ask(fleet, name, 90)
    fleet.start()
    fleet.stop()
    for name in ("a", "b"):
        last = recorder.last(name, WAIT)
        assert isinstance(last.error, UnavailableError) or last.finish_reason == FinishReason.LENGTH


def test_what_fits_is_the_same_for_all_and_nothing_is_forecast_before_anything_ended() -> None:
    """A fleet answers as the engine that would be asked."""
    fleet = Fleet(engines(Recorder()))
    assert fleet.fits(DecodingParams(10, beam_size=4, num_hypotheses=1))
    assert not fleet.fits(DecodingParams(10, beam_size=5, num_hypotheses=1))
    assert 0.0 == fleet.forecast(Request("a", (5, 6), DecodingParams(10)))
