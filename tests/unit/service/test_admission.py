"""Permits: admitted at once or not at all, returned exactly once."""

import asyncio

import pytest

from service.admission import Admission
from service.errors import InvalidRequestError, OverloadedError, UnavailableError


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_all_texts_of_a_request_or_none() -> None:
    """What does not fit as a whole is refused and leaves nothing behind."""
    admission = Admission(3)
    with admission.admit(2):
        with pytest.raises(OverloadedError):
            admission.admit(2)
        assert 2 == admission.admitted
        with admission.admit(1):
            assert 3 == admission.admitted
    assert 0 == admission.admitted


def test_room_is_asked_for_before_anything_is_done() -> None:
    """Nothing is taken; without room it is refused as by admitting."""
    admission = Admission(1)
    admission.expect_room()
    with admission.admit(1), pytest.raises(OverloadedError):
        admission.expect_room()
    admission.expect_room()
    assert 0 == admission.admitted


def test_a_refusal_is_told_again_until_something_changes() -> None:
    """None where there is room; else what admitting would raise, the same one for all who come meanwhile."""
    clock = Clock()
    admission = Admission(2, clock)
    with admission.admit(1):
        assert admission.refusal() is None
        told = admission.refusal(2)
        with pytest.raises(OverloadedError) as caught:
            admission.admit(2)
        assert told is not None
        assert (caught.value.message, 0.1) == (told.message, told.retry_after)
        assert told is admission.refusal(2)
        with admission.admit(1):
            clock.now = 30.0
        later = admission.refusal(2)
    assert later is not None
    assert (later.message, later.retry_after) == (
        "1 texts are waiting or running, at most 2 may be; retry after 3.1 s",
        3.1,
    )
    assert admission.refusal() is None


def test_a_permit_returns_with_an_error_too() -> None:
    """Whatever way the block is left."""
    admission = Admission(1)
    permit = admission.admit(1)
    with pytest.raises(RuntimeError, match="inside"), permit:
        raise RuntimeError("inside")
    assert permit.returned
    assert 0 == admission.admitted


def test_a_permit_returns_only_once() -> None:
    """A second return is a bug, and changes no counter."""
    admission = Admission(2)
    permit = admission.admit(1)
    with admission.admit(1):
        permit.__exit__(None, None, None)
        with pytest.raises(RuntimeError, match="this is a bug"):
            permit.__exit__(None, None, None)
        assert 1 == admission.admitted


def test_what_never_fits_is_no_overload() -> None:
    """A retry cannot help."""
    with pytest.raises(InvalidRequestError, match="send fewer"):
        Admission(3).admit(4)


def test_retry_follows_the_time_that_requests_stay() -> None:
    """The advice moves with it, from 0.1 s to 10 s."""
    clock = Clock()
    admission = Admission(1, clock)
    advice = []
    for stay in (0.0, 1.0, 1000.0):
        for _ in range(60):
            with admission.admit(1):
                clock.now += stay
        with admission.admit(1), pytest.raises(OverloadedError) as caught:
            admission.admit(1)
        advice.append(caught.value.retry_after)
    assert advice == pytest.approx([0.1, 1.0, 10.0], abs=0.01)


def test_closed_means_closed() -> None:
    """New requests are told why; those inside go on, and idle waits for them."""

    async def scenario() -> None:
        admission = Admission(2)
        await admission.idle()
        with admission.admit(1):
            admission.close("going away")
            with pytest.raises(UnavailableError, match="going away"):
                admission.admit(1)
            idle = asyncio.create_task(admission.idle())
            await asyncio.sleep(0)
            assert not idle.done()
        await idle
        assert "<Admission 0/2 closed>" == repr(admission)

    asyncio.run(scenario())


def test_a_permit_grows_or_stays() -> None:
    """What does not fit is refused, and what was held is held on; all of it comes back."""
    admission = Admission(4)
    with admission.admit(1) as permit:
        permit.grow(2)
        assert 3 == admission.admitted
        with pytest.raises(OverloadedError), admission.admit(1):
            permit.grow(1)
        with pytest.raises(InvalidRequestError):
            permit.grow(2)
        assert 3 == admission.admitted
    assert 0 == admission.admitted


async def test_first_come_first_served() -> None:
    """Whoever waits is not overtaken by another who waits, however small; at most three quarters are theirs."""
    admission = Admission(4)
    entered: list[int] = []

    async def wait(segments: int, leave: asyncio.Event) -> None:
        with await admission.wait(segments):
            entered.append(segments)
            await leave.wait()

    leave = asyncio.Event()
    with admission.admit(2):
        tasks = [asyncio.create_task(wait(segments, leave)) for segments in (2, 1)]
        await asyncio.sleep(0)
        assert "<Admission 2/4 2 in line>" == repr(admission)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [2, 1] == entered
    leave.set()
    await asyncio.gather(*tasks)
    assert "<Admission 0/4>" == repr(admission)


async def test_the_largest_enters_an_empty_house() -> None:
    """More than those who wait may fill is let in when nobody else is there; more than the whole never is."""
    admission = Admission(4)
    with await admission.wait(4):
        assert 4 == admission.admitted
    with pytest.raises(InvalidRequestError):
        await admission.wait(5)


@pytest.mark.parametrize("granted", [False, True])
async def test_who_leaves_the_line_leaves_nothing(granted: bool) -> None:
    """Whether its turn had come in the same moment or not; those behind move up."""
    admission = Admission(1)
    permit = admission.admit(1)
    first = asyncio.create_task(admission.wait(1))
    second = asyncio.create_task(admission.wait(1))
    await asyncio.sleep(0)
    if granted:
        permit.__exit__(None, None, None)
        first.cancel()
    else:
        first.cancel()
        await asyncio.sleep(0)
        permit.__exit__(None, None, None)
    with await second:
        assert 1 == admission.admitted
    assert first.cancelled()
    assert 0 == admission.admitted


async def test_closing_empties_the_line() -> None:
    """Those in it are told why."""
    admission = Admission(1)
    with admission.admit(1):
        waiting = asyncio.create_task(admission.wait(1))
        await asyncio.sleep(0)
        admission.close("going away")
        with pytest.raises(UnavailableError, match="going away"):
            await waiting
        with pytest.raises(UnavailableError):
            await admission.wait(1)
    assert "<Admission 0/1 closed>" == repr(admission)
