"""Requests of one stream: so many at once, answered as they finish, and none left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from service.rpc.concurrent import as_they_finish


class Work:
    """Requests that are read, begun, ended and stopped; each ends when a test says so."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ends = [asyncio.Event() for _ in range(count)]
        self.read = 0
        self.stopped: list[int] = []

    async def requests(self) -> AsyncIterator[int]:
        """Yield the requests, and count them."""
        for number in range(self._count):
            self.read += 1
            yield number

    async def answer(self, number: int) -> int:
        """Answer with the number, when it may end."""
        try:
            await self._ends[number].wait()
        except asyncio.CancelledError:
            self.stopped.append(number)
            raise
        return number

    def end(self, *numbers: int) -> None:
        """Let these end."""
        for number in numbers:
            self._ends[number].set()


async def rest() -> None:
    """Let all others run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_come_as_they_finish() -> None:
    """Not in the order of the requests; after the last the stream ends."""
    work = Work(3)
    answers = as_they_finish(work.requests(), work.answer, 3)
    first = asyncio.create_task(anext(answers))
    await rest()
    work.end(2)
    assert 2 == await first
    work.end(1, 0)
    assert {0, 1} == {answer async for answer in answers}


async def test_nothing_is_read_without_room() -> None:
    """A request keeps its room until the answer after its own is asked for."""
    work = Work(10)
    async with aclosing(as_they_finish(work.requests(), work.answer, 2)) as answers:
        first = asyncio.create_task(anext(answers))
        await rest()
        assert 2 == work.read
        work.end(0, 1)
        await first
        await rest()
        assert 2 == work.read
        await anext(answers)
        await rest()
        assert 3 == work.read


@pytest.mark.parametrize("leave", ["close", "cancel"])
async def test_what_is_left_is_stopped(leave: str) -> None:
    """Whether the answers are no longer wanted, or whoever asks for them is cancelled."""
    work = Work(3)
    answers = as_they_finish(work.requests(), work.answer, 3)

    async def take() -> None:
        async with aclosing(answers):
            async for _ in answers:
                if leave == "close":
                    return

    task = asyncio.create_task(take())
    await rest()
    work.end(0)
    await rest()
    if leave == "cancel":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [1, 2] == sorted(work.stopped)
    assert 1 == len(asyncio.all_tasks())


@pytest.mark.parametrize("where", ["requests", "answer"])
async def test_an_error_ends_it(where: str) -> None:
    """One of reading, and one that an answer did not turn into an answer."""
    work = Work(2)

    async def broken() -> AsyncIterator[int]:
        async for number in work.requests():
            yield number
        raise ValueError("bad message")

    async def failing(number: int) -> int:
        if number == 1:
            raise ValueError("bad answer")
        return await work.answer(number)

    requests = broken() if where == "requests" else work.requests()
    answer: Callable[[int], object] = work.answer if where == "requests" else failing
    with pytest.raises(ValueError, match="bad"):
        async for _ in as_they_finish(requests, answer, 5):  # type: ignore[arg-type]
            pass
    assert 0 in work.stopped
