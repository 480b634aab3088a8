"""Many requests of one stream at work at once, and no more of them than fit."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def as_they_finish(
    requests: AsyncIterator[Asked], answer: Callable[[Asked], Awaitable[Answer]], room: int
) -> AsyncGenerator[Answer, None]:
    """Yield the answer of each request as it is done, in whatever order.

    A request takes its room from before it is read until its answer was taken and the next is asked for. So a client
    that does not take answers is not read from, and holds nothing but its own room. Whatever ends this ends the work.
    """
    free = asyncio.Semaphore(room)
    done: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    working: set[asyncio.Task[Answer]] = set()

    async def work(request: Asked) -> Answer:
        return await answer(request)

    async def read() -> None:
        while await free.acquire():
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            task = asyncio.create_task(work(request))
            working.add(task)
            task.add_done_callback(done.put_nowait)

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: done.put_nowait(None))
    reading = True
    try:
        while reading or working:
            ended = await done.get()
            if ended is None:
                reading = False
                reader.result()
            else:
                working.discard(ended)
                yield ended.result()
                free.release()
    finally:
        for task in (reader, *working):
            task.cancel()
        await asyncio.gather(reader, *working, return_exceptions=True)
