"""Mixed traffic at a steady rate, whatever the server does, and what became of it."""

import asyncio
import collections
import random
import threading
import time
from collections.abc import Sequence

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from tests.soak.calls import KINDS, Calls, ending

CHANNELS = 4
CHANNEL_SECONDS = 20.0
"""How long a connection is used before a new one takes its place."""
MOST_AT_ONCE = 16
"""Calls in flight beyond which one is not made: the load stays bounded where the server is slow."""


class Traffic:
    """A thread that makes calls of all kinds, from entering to leaving. Counts may be read at any time."""

    def __init__(self, address: str, texts: Sequence[str], rate: float, seed: int) -> None:
        """Take where to, the texts, and how many calls a second."""
        self._address = address
        self._texts = texts
        self._rate = rate
        self._chance = random.Random(seed)  # noqa: S311  no secret
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self._ended = threading.Event()
        self._channels: list[grpc.aio.Channel] = []
        self._retired: list[grpc.aio.Channel] = []
        self._latencies: collections.deque[float] = collections.deque()
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        """Calls by kind and how they ended."""
        self.skipped = 0
        self.failure: BaseException | None = None

    def __enter__(self) -> "Traffic":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Make no more calls, and wait for those in flight."""
        self._ended.set()
        self._thread.join()

    @property
    def unexpected(self) -> dict[str, int]:
        """How calls ended that must not end so, with counts."""
        counts = dict(self.counts)
        return {f"{kind}: {code}": count for (kind, code), count in counts.items() if code not in KINDS[kind][2]}

    def latencies(self) -> list[float]:
        """Return how long the calls with one text took since this was last asked, in seconds."""
        return [self._latencies.popleft() for _ in range(len(self._latencies))]

    async def _run(self) -> None:
        try:
            await self._make_calls()
        except BaseException as error:  # noqa: BLE001  for whoever waits for this thread
            self.failure = error

    async def _make_calls(self) -> None:
        known = await self._known()
        kinds, weights = list(KINDS), [weight for _, weight, _ in KINDS.values()]
        flying: set[asyncio.Task[None]] = set()
        renewed = time.monotonic()
        while not self._ended.is_set():
            await asyncio.sleep(self._chance.expovariate(self._rate))
            if time.monotonic() - renewed > CHANNEL_SECONDS:
                renewed = time.monotonic()
                await self._renew()
            if len(flying) >= MOST_AT_ONCE:
                self.skipped += 1
                continue
            channel = self._chance.choice(self._channels)
            calls = Calls(translation_pb2_grpc.TranslationServiceStub(channel), known, self._chance)
            task = asyncio.create_task(self._call(self._chance.choices(kinds, weights)[0], calls))
            flying.add(task)
            task.add_done_callback(flying.discard)
        await asyncio.gather(*flying)
        for channel in (*self._channels, *self._retired):
            await channel.close()

    async def _call(self, kind: str, calls: Calls) -> None:
        started = time.monotonic()
        code = await ending(kind, calls)
        self.counts[kind, code] += 1
        if kind == "one":
            self._latencies.append(time.monotonic() - started)

    async def _known(self) -> dict[str, str]:
        """Ask for the translation of each text, which later answers must equal."""
        self._channels = [self._connect() for _ in range(CHANNELS)]
        stub = translation_pb2_grpc.TranslationServiceStub(self._channels[0])
        known = {}
        for text in self._texts:
            answer = await stub.Translate(pb.TranslateRequest(texts=[text]), timeout=60.0)
            known[text] = answer.translations[0].hypotheses[0].text
        return known

    async def _renew(self) -> None:
        """Let a new connection take the oldest one's place; that one is closed a turn later, with its calls ended."""
        for retired in self._retired:
            await retired.close(60.0)
        self._retired = [self._channels.pop(0)]
        self._channels.append(self._connect())

    def _connect(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)])
