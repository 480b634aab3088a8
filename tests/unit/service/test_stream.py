"""Streams: the last Outputs reach who waits for them, and nobody else."""

import asyncio

import pytest

from service.errors import EngineFailedError, OutOfMemoryError
from service.request import FinishReason, Output
from service.stream import Streams


def ignore(request_id: str) -> None:
    """Cancel nothing."""


def end(request_id: str) -> Output:
    """Return a last Output."""
    return Output(request_id, finish_reason=FinishReason.END)


def test_outputs_come_in_the_order_of_the_ids() -> None:
    """Whatever order the texts end in; increments and unknown ids are passed over, and nothing is cancelled."""

    async def scenario() -> None:
        streams, cancelled = Streams(), list[str]()
        with streams.open(["a", "b"], cancelled.append) as stream:
            streams.dispatch([Output("a", token_ids=(1,)), end("b"), end("unknown")])
            assert 1 == len(streams)
            streams.dispatch([end("a")])
            assert ["a", "b"] == [output.request_id for output in await stream.collect()]
        assert 0 == len(streams)
        assert [] == cancelled

    asyncio.run(scenario())


def test_the_first_failure_ends_the_wait() -> None:
    """The others are cancelled as the stream closes; later failures change nothing."""

    async def scenario() -> None:
        streams, cancelled = Streams(), list[str]()
        with streams.open(["a", "b", "c", "d"], cancelled.append) as stream:
            error = OutOfMemoryError("no room")
            streams.dispatch([Output("b", finish_reason=FinishReason.ERROR, error=error)])
            with pytest.raises(OutOfMemoryError):
                await stream.collect()
            streams.dispatch([Output("c", finish_reason=FinishReason.ERROR, error=EngineFailedError("later"))])
            assert [] == cancelled
        assert ["a", "d"] == cancelled
        assert 0 == len(streams)

    asyncio.run(scenario())


def test_late_outputs_are_dropped() -> None:
    """After the stream is closed nobody waits, and the engine was told once."""

    async def scenario() -> None:
        streams, cancelled = Streams(), list[str]()
        with streams.open(["a"], cancelled.append):
            pass
        streams.dispatch([end("a")])
        assert ["a"] == cancelled
        assert 0 == len(streams)

    asyncio.run(scenario())


def test_a_dead_engine_ends_every_wait() -> None:
    """All streams get the error."""

    async def scenario() -> None:
        streams = Streams()
        with streams.open(["a", "b"], ignore) as one, streams.open(["c"], ignore) as other:
            streams.fail(EngineFailedError("gone"))
            for stream in (one, other):
                with pytest.raises(EngineFailedError):
                    await stream.collect()

    asyncio.run(scenario())


def test_tokens_come_as_they_are_made() -> None:
    """All that are there at once; those of another request wait until they are asked for."""

    async def scenario() -> None:
        streams = Streams()
        with streams.open(["a", "b"], ignore) as stream:
            tokens = stream.tokens("a")
            streams.dispatch([Output("a", token_ids=(1,)), Output("b", token_ids=(7,))])
            assert [1] == await anext(tokens)
            streams.dispatch([Output("a", token_ids=(2,))])
            streams.dispatch([Output("a", (3,), FinishReason.END), Output("b", (8,), FinishReason.END)])
            assert [[2, 3]] == [more async for more in tokens]
            assert FinishReason.END is stream.output("a").finish_reason
            assert [[7, 8]] == [more async for more in stream.tokens("b")]

    asyncio.run(scenario())


def test_a_failure_ends_all_streams_of_tokens() -> None:
    """That of a later segment too: the text as a whole cannot be had any more."""

    async def scenario() -> None:
        streams = Streams()
        with streams.open(["a", "b"], ignore) as stream:
            waiting = asyncio.ensure_future(anext(stream.tokens("a")))
            await asyncio.sleep(0)
            streams.dispatch([Output("b", finish_reason=FinishReason.ERROR, error=OutOfMemoryError("no room"))])
            with pytest.raises(OutOfMemoryError):
                await waiting

    asyncio.run(scenario())
