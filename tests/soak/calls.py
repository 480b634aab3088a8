"""The calls of a soak: every way to ask, good and bad, patient and not, and how each may end."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import grpc

from dragoman.v1 import translation_pb2 as pb

if TYPE_CHECKING:
    from dragoman.v1.translation_pb2_grpc import TranslationServiceAsyncStub as Stub

PATIENT_SECONDS = 60.0
MANY, LONG = 6, 12
"""Texts of a call with many, and sentences of a long text."""
BAD: tuple[dict[str, object], ...] = (
    {"texts": []},
    {"texts": [" \n"]},
    {"texts": ["\x00"], "options": {"max_target_tokens": 10**6}},
    {"texts": ["a" * 20_000]},
    {"texts": ["a"], "options": {"beam_size": -1}},
    {"texts": ["a"], "options": {"sampling": {"top_p": 7.0}}},
    {"texts": ["a"], "source_language_code": "tlh"},
    {"texts": ["a"], "target_prefixes": ["a", "b"]},
    {"texts": ["a"], "priority": 77},
)


class WrongAnswerError(Exception):
    """A translation is not what the same server gave for the same text before."""


class Calls:
    """Makes calls to one server, and checks those whose answer is known: greedy translations, text by text."""

    def __init__(self, stub: "Stub", known: Mapping[str, str], chance: random.Random) -> None:
        """Take the known translation of each text."""
        self._stub = stub
        self._known = known
        self._texts = list(known)
        self._chance = chance

    async def one(self, within: float = PATIENT_SECONDS) -> None:
        """Ask for one text."""
        await self._many(1, within)

    async def many(self) -> None:
        """Ask for several texts in one call."""
        await self._many(MANY, PATIENT_SECONDS)

    async def stream(self) -> None:
        """Ask for a translation as it grows; its parts are the whole."""
        text = self._chance.choice(self._texts)
        growing = self._stub.StreamTranslate(pb.StreamTranslateRequest(text=text), timeout=PATIENT_SECONDS)
        self._compare({text: "".join([part.text_delta async for part in growing])})

    async def segments(self) -> None:
        """Send segments by a stream, which answers out of order."""
        texts = dict(enumerate(self._chance.choices(self._texts, k=MANY)))

        async def asked() -> AsyncIterator[pb.TranslateSegmentsRequest]:
            for number, text in list(texts.items()):
                await asyncio.sleep(0.02 * self._chance.random())
                yield pb.TranslateSegmentsRequest(segment_id=str(number), text=text)

        answered = {}
        async for answer in self._stub.TranslateSegments(asked(), timeout=PATIENT_SECONDS):
            answered[texts.pop(int(answer.segment_id))] = answer.translation.hypotheses[0].text
        if texts:
            raise WrongAnswerError(f"no answer to {texts}")
        self._compare(answered)

    async def beam(self) -> None:
        """Ask for a beam, and all its hypotheses."""
        await self._some(beam_size=4, num_hypotheses=4)

    async def sampling(self) -> None:
        """Ask for draws."""
        await self._some(num_hypotheses=2, sampling=pb.Sampling(temperature=0.8, seed=self._chance.randrange(1 << 32)))

    async def attention(self) -> None:
        """Ask for attention and alignments."""
        await self._some(return_attention=True, return_alignments=True)

    async def long(self) -> None:
        """Ask for a text of many sentences."""
        text = " ".join(self._chance.choices(self._texts, k=LONG))
        await self._stub.Translate(pb.TranslateRequest(texts=[text]), timeout=PATIENT_SECONDS)

    async def bad(self) -> None:
        """Ask for what no server can give."""
        asked = pb.TranslateRequest(**self._chance.choice(BAD))  # type: ignore[arg-type]
        await self._stub.Translate(asked, timeout=PATIENT_SECONDS)

    async def unknown(self) -> None:
        """Ask for a model that is not there."""
        await self._stub.Translate(pb.TranslateRequest(texts=["a"], model="x@9"), timeout=PATIENT_SECONDS)

    async def hurried(self) -> None:
        """Set a deadline that passes in the queue, while decoding, or just not."""
        await self.one(10 ** self._chance.uniform(-3.5, -1.0))

    async def vanishing(self) -> None:
        """Make a call of another kind, and cancel it at a random moment."""
        call = asyncio.create_task(self._chance.choice((self.many, self.stream, self.segments, self.beam, self.long))())
        await asyncio.wait((call,), timeout=self._chance.expovariate(1 / 0.05))
        call.cancel()
        await call

    async def _many(self, count: int, within: float) -> None:
        texts = self._chance.choices(self._texts, k=count)
        answer = await self._stub.Translate(pb.TranslateRequest(texts=texts), timeout=within)
        found = [translation.hypotheses[0].text for translation in answer.translations]
        self._compare(dict(zip(texts, found, strict=True)))

    async def _some(self, **options: object) -> None:
        texts = self._chance.choices(self._texts, k=2)
        asked = pb.TranslateRequest(texts=texts, options=pb.DecodingOptions(**options))  # type: ignore[arg-type]
        await self._stub.Translate(asked, timeout=PATIENT_SECONDS)

    def _compare(self, answered: Mapping[str, str]) -> None:
        for text, translation in answered.items():
            if translation != self._known[text]:
                raise WrongAnswerError(f"{text!r} became {translation!r}, before {self._known[text]!r}")


Kind = Callable[[Calls], Awaitable[None]]
KINDS: Mapping[str, tuple[Kind, int, set[str]]] = {
    "one": (Calls.one, 6, {"OK"}),
    "many": (Calls.many, 2, {"OK"}),
    "stream": (Calls.stream, 4, {"OK"}),
    "segments": (Calls.segments, 2, {"OK"}),
    "beam": (Calls.beam, 2, {"OK"}),
    "sampling": (Calls.sampling, 2, {"OK"}),
    "attention": (Calls.attention, 2, {"OK"}),
    "long": (Calls.long, 1, {"OK"}),
    "bad": (Calls.bad, 1, {"INVALID_ARGUMENT"}),
    "unknown": (Calls.unknown, 1, {"NOT_FOUND"}),
    "hurried": (Calls.hurried, 2, {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}),
    "vanishing": (Calls.vanishing, 4, {"OK", "CANCELLED"}),
}
"""Each kind of call, how often it comes, and how it may end."""


async def ending(kind: str, calls: Calls) -> str:
    """Make a call; return its code, or what was wrong with its answer."""
    try:
        await KINDS[kind][0](calls)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    except asyncio.CancelledError:
        return "CANCELLED"
    except WrongAnswerError:
        return "WRONG ANSWER"
    return "OK"
