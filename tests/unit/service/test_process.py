"""What the process around a server does beside it."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from service import process
from service.admission import Admission


class Cycle:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let nobody else collect garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def outlives_tidying(texts: int) -> bool:
    """Return whether garbage is still there after twice as many looks as are made for an idle moment."""
    admission = Admission(texts + 1)
    end = asyncio.create_task(asyncio.Event().wait())
    with uncollected(), admission.admit(texts) if texts else contextlib.nullcontext():
        left = weakref.ref(Cycle())
        tidying = asyncio.create_task(process.tidy_up(admission, end))
        for _ in range(2 * process.LOOKS):
            await asyncio.sleep(2 * process.LOOK_SECONDS)
        found = left() is not None
    end.cancel()
    await tidying
    return found


@pytest.mark.parametrize(("texts", "outlives"), [(0, False), (1, False), (process.FEW_TEXTS + 1, True)])
async def test_garbage_goes_beside_few_texts_and_stays_beside_many(
    texts: int, outlives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is never idle is tidied up too, but not while a pause would be long for many."""
    monkeypatch.setattr(process, "TIDY_SECONDS", 0.001)
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.001)
    assert outlives == await outlives_tidying(texts)
