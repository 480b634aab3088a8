"""A client process, with calls that are answered at once."""

import asyncio
import time
from collections.abc import Sequence

from service.load.messages import Batch, Job, Start
from service.load.plan import Phase
from service.load.worker import FLUSH_SECONDS, Client
from service.rpc.loading import Answer


async def answered(texts: Sequence[str]) -> Answer:
    """Answer at once."""
    return Answer("OK", tokens=len(texts))


def test_a_phase_tells_all_of_its_own_and_nothing_later() -> None:
    """However slow the way is: a batch that comes in behind its phase would be counted in the next one."""
    told: list[Batch] = []

    def slowly(batch: Batch) -> None:
        if not batch.done:
            time.sleep(FLUSH_SECONDS)  # so the phase ends while this one is on its way
        told.append(batch)

    async def phases() -> None:
        client = Client(Job("", ["a"]), answered, slowly)
        for _ in range(2):
            phase = Phase("40/s", seconds=FLUSH_SECONDS * 1.5, first_rate=40.0, last_rate=40.0, arrivals="even")
            await client.run(Start(phase, time.monotonic()))
            await asyncio.sleep(FLUSH_SECONDS)

    asyncio.run(phases())
    ends = [index for index, batch in enumerate(told) if batch.done]
    first, second = told[: ends[0] + 1], told[ends[0] + 1 :]
    assert (2, len(told) - 1) == (len(ends), ends[1])
    assert [12, 12] == [sum(len(batch.samples) for batch in batches) for batches in (first, second)]
