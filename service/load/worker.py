"""A client process: sends its share of a phase on time, and tells of each request that ended."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from service.load.messages import Batch, Job, Sample, Start, pack, unpack
from service.load.plan import Phase, arrivals
from service.rpc.channel import Connection as Way
from service.rpc.loading import Answer, Caller

FLUSH_SECONDS = 0.2
CONNECT_SECONDS = 30.0


def work(connection: Connection) -> None:
    """Take a job, then phases, until the other end closes."""
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        job: Job = unpack(connection.recv_bytes(), Job)
        asyncio.run(_serve(job, connection))


async def _serve(job: Job, connection: Connection) -> None:
    way = Way(job.server, *(Path(file) if file else None for file in job.shown))
    async with Caller(way, job.model, job.timeout, job.connections) as caller:
        try:
            await asyncio.wait_for(caller.ready(), CONNECT_SECONDS)
        except TimeoutError:
            message = f"no server answers at {job.server}; start one with `dragoman serve`, or name one with --server"
            connection.send_bytes(pack(Batch([], error=message)))
            return
        connection.send_bytes(pack(Batch([], done=True)))
        client = Client(job, caller.method(job.mode), lambda batch: connection.send_bytes(pack(batch)))
        while True:
            start: Start = unpack(await asyncio.to_thread(connection.recv_bytes), Start)
            await client.run(start)


class Client:
    """Drives one phase after another. Belongs to its event loop; a thread of its own keeps the time."""

    def __init__(
        self, job: Job, call: Callable[[Sequence[str]], Awaitable[Answer]], tell: Callable[[Batch], None]
    ) -> None:
        self._job = job
        self._call = call
        self._tell = tell
        self._texts = self._turns()
        self._samples: list[Sample] = []
        self._running: set[asyncio.Task[None]] = set()
        self._told = (0.0, 0.0)

    async def run(self, start: Start) -> None:
        """Send a phase, wait for its last answer, and tell that it is done."""
        self._told = (time.monotonic(), time.process_time())
        ended = asyncio.Event()
        telling = asyncio.create_task(self._tell_until(ended))
        try:
            await (self._closed(start) if start.phase.closed else self._open(start))
        finally:
            ended.set()
            await telling  # what is on its way must not arrive in the next phase
        await self._flush(done=True)

    async def _open(self, start: Start) -> None:
        """Send each request when it is due. Nothing here waits for an answer before the last request is out."""
        loop = asyncio.get_running_loop()
        paced = asyncio.Event()

        def begin(due: float) -> None:
            task = asyncio.create_task(self._one(start.at, due))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        def pace() -> None:
            for due in self._share(start.phase):
                if (wait := start.at + due - time.monotonic()) > 0:
                    time.sleep(wait)  # finer than the event loop's timers, which are a millisecond late
                loop.call_soon_threadsafe(begin, due)
            loop.call_soon_threadsafe(paced.set)

        threading.Thread(target=pace, name="pace", daemon=True).start()
        await paced.wait()
        while self._running:
            await asyncio.wait(self._running)

    async def _closed(self, start: Start) -> None:
        """Keep so many requests in flight; one is due when the one before it was answered."""
        job, phase = self._job, start.phase
        lanes = len(range(job.index, phase.concurrency, job.processes))
        await asyncio.sleep(max(0.0, start.at - time.monotonic()))

        async def lane() -> None:
            while (due := time.monotonic() - start.at) < phase.seconds:
                await self._one(start.at, due)

        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                self._running.add(task := group.create_task(lane()))
                task.add_done_callback(self._running.discard)

    async def _one(self, zero: float, due: float) -> None:
        """Send one request and note how it went."""
        sent = time.monotonic() - zero
        texts = next(self._texts)
        answer = await self._call(texts)
        ended = time.monotonic() - zero
        self._samples.append(
            Sample(
                due=due,
                lag=sent - due,
                latency=ended - due,
                code=answer.code,
                tokens=answer.tokens,
                texts=len(texts),
                first=-1.0 if answer.first is None else answer.first - zero - due,
                gaps=answer.gaps,
                queue=answer.queue,
                encode=answer.encode,
                decode=answer.decode,
            )
        )

    def _share(self, phase: Phase) -> Iterator[float]:
        """Yield when this process's requests are due: together the processes send exactly the phase."""
        return itertools.islice(arrivals(phase), self._job.index, None, self._job.processes)

    def _turns(self) -> Iterator[list[str]]:
        """Yield the texts of one request after another, round and round, each process from another place."""
        job = self._job
        texts = itertools.islice(itertools.cycle(job.texts), job.index * len(job.texts) // job.processes, None)
        while True:
            yield list(itertools.islice(texts, job.texts_per_request))

    async def _tell_until(self, ended: asyncio.Event) -> None:
        """Tell now and then."""
        while not ended.is_set():
            await self._flush(done=False)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), FLUSH_SECONDS)

    async def _flush(self, *, done: bool) -> None:
        """Tell what is new; a reader who is slow must not hold the event loop up."""
        samples, self._samples = self._samples, []
        wall, cpu = time.monotonic(), time.process_time()
        batch = Batch(samples, len(self._running), cpu - self._told[1], wall - self._told[0], done)
        self._told = (wall, cpu)
        await asyncio.to_thread(self._tell, batch)
