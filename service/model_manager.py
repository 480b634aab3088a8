"""Models at run time: what a server holds is made what it is to hold, and no request notices.

The life of a version:

1. LOADING: on a thread, beside whatever serves, it is read, verified, loaded and warmed.
2. READY: the catalog has it, from one request to the next; the one that it replaces is there no more.
3. DRAINING: no new request finds it; those that did are finished.
4. Its engine ends, and its memory goes back to the system.

One that cannot be loaded is FAILED, with the reason; what served before serves on. It is tried again when a file of
it has changed, or when it is asked for.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from service import vitals
from service.catalog import Catalog, Served
from service.errors import ModelLoadError, ModelNotFoundError, StartupError
from service.holding import Holding, State
from service.logs import FIELDS
from service.models import Loaded, Source
from service.repository import Found, version_key
from service.versions import Pin, Versions

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Surroundings(Protocol):
    """Who gives a loaded model its engine and its metrics, and takes them from it. Called on the event loop."""

    def put_up(self, loaded: Loaded) -> Served:
        """Make it ready for requests."""

    def take_down(self, served: Served) -> None:
        """Forget it; its engine has ended."""

    def refused(self, name: str) -> None:
        """Take note of a version of this model that could not be loaded."""

    async def changed(self) -> None:
        """Take note that other models are held now."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much memory all models may take together, in bytes, None: any; how long one may drain, in seconds."""

    memory: int | None
    drain_seconds: float


class ModelManager:
    """Brings what is held to what is wanted. Belongs to the event loop; one change at a time."""

    def __init__(
        self, source: Source, versions: Versions, catalog: Catalog, surroundings: Surroundings, bounds: Bounds
    ) -> None:
        self._source = source
        self._versions = versions
        self._catalog = catalog
        self._surroundings = surroundings
        self._bounds = bounds
        self._changing = asyncio.Lock()
        self._due: asyncio.Task[None] | None = None
        """A reload that waits for its turn."""
        self._holdings: list[Holding] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def holdings(self) -> list[Holding]:
        """All versions that are held, were refused, or are on their way in or out; by model, then by version."""
        return sorted(self._holdings, key=lambda one: (one.found.name, version_key(one.found.version)))

    def count(self) -> dict[tuple[str, str], int]:
        """Return how many versions of each model are in each state, by its name and the state's. For any thread."""
        holdings = [*self._holdings]
        names = dict.fromkeys(holding.found.name for holding in holdings)
        counts = {(name, state.value): 0 for name in names for state in State}
        for holding in holdings:
            counts[holding.found.name, holding.state.value] += 1
        return counts

    async def start(self) -> None:
        """Load all that is wanted; raises StartupError for the first that cannot be had."""
        async with self._changing:
            found = await asyncio.to_thread(self._source.find)
            for one in self._versions.required(found):
                if (holding := await self._load(one)).state is State.FAILED:
                    raise StartupError(holding.reason)

    async def reload(self) -> None:
        """Look at the repository and hold what is wanted, refused before or not; calls that come together are one."""
        if self._due is None:
            self._due = self._begin(self._reload())
        await asyncio.shield(self._due)

    async def poll(self, seconds: float) -> None:
        """Look at the repository for ever, every so many seconds; act on what stayed as it is for one such time."""
        seen: Sequence[Found] = ()
        while True:
            await asyncio.sleep(seconds)
            with contextlib.suppress(StartupError):  # nothing there at the moment is nothing to act on
                found = await asyncio.to_thread(self._source.find)
                if found == seen:
                    async with self._changing:
                        await self._hold_wanted(found, retry=False)
                seen = found

    async def load(self, pin: Pin) -> list[Holding]:
        """Hold this too; return what that is. Raises ModelLoadError with the reason of a refusal.

        Whoever asks may go away: what was begun is ended.
        """
        return await asyncio.shield(self._begin(self._load_too(pin)))

    async def unload(self, pin: Pin) -> list[Holding]:
        """Hold this no more, until it is asked for; return what drains now. Raises ModelNotFoundError."""
        async with self._changing:
            leaving = [
                one
                for one in self._holdings
                if pin.covers(one.found.name, one.found.version) and one.state in (State.READY, State.FAILED)
            ]
            if not leaving:
                raise ModelNotFoundError(f"{pin} is not held here; see ListModels")
            self._versions.dismiss(pin)
            for holding in leaving:
                self._let_go(holding)
            await self._surroundings.changed()
        return [holding for holding in leaving if holding.state is State.DRAINING]

    async def close(self) -> None:
        """End all engines, whatever they do."""
        for task in self._tasks:
            task.cancel()
        for holding in self._holdings:
            if holding.served is not None:
                await asyncio.to_thread(holding.served.engine.stop)

    def _begin(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reload(self) -> None:
        async with self._changing:
            self._due = None
            try:
                found = await asyncio.to_thread(self._source.find)
            except StartupError as error:
                logger.error("the repository cannot be read; what is held serves on", extra=_fields(cause=str(error)))
                return
            await self._hold_wanted(found, retry=True)
        logger.info("reloaded", extra=_fields(models=self._ready()))

    async def _load_too(self, pin: Pin) -> list[Holding]:
        async with self._changing:
            try:
                found = await asyncio.to_thread(self._source.find)
            except StartupError as error:
                raise ModelLoadError(str(error)) from error
            if not any(pin.covers(one.name, one.version) for one in found):
                held = ", ".join(one.spelled for one in found)
                raise ModelNotFoundError(f"the repository holds no {pin}; it holds {held}")
            self._versions.ask(pin)
            await self._hold_wanted(found, retry=True, only=pin)
            loaded = [tried for one in self._covered(pin, found) if (tried := self._tried(one)) is not None]
        for holding in loaded:
            if holding.state is State.FAILED:
                raise ModelLoadError(holding.reason)
        return loaded

    async def _hold_wanted(self, found: Sequence[Found], *, retry: bool, only: Pin | None = None) -> None:
        """Load what is wanted and not held as it is now, then let go what is not wanted; `only` this, if it is set."""
        for one in self._versions.wanted(found) if only is None else self._covered(only, found):
            tried = self._tried(one)
            if tried is None or tried.found != one or (retry and tried.state is State.FAILED):
                holding = await self._load(one)
                if holding.state is State.READY:
                    logger.info("a model is ready", extra=_fields(model=one.spelled))
                else:
                    logger.error("a model was refused", extra=_fields(model=one.spelled, cause=holding.reason))
        self._let_go_unwanted(found, only)
        await self._surroundings.changed()

    def _covered(self, pin: Pin, found: Sequence[Found]) -> list[Found]:
        return [one for one in self._versions.wanted(found) if pin.covers(one.name, one.version)]

    def _tried(self, one: Found) -> Holding | None:
        """Return what became of the last attempt at this version."""
        same = [holding for holding in self._holdings if holding.found.spelled == one.spelled]
        return next((holding for holding in reversed(same) if holding.state is not State.DRAINING), None)

    async def _load(self, one: Found) -> Holding:
        """Load a version beside what serves, and switch to it; whatever goes wrong changes nothing else."""
        for old in self._in_state(State.FAILED, one.spelled):
            self._holdings.remove(old)
        holding = Holding(one)
        self._holdings.append(holding)
        try:
            await self._make_room(holding)
            holding.served = self._surroundings.put_up(await asyncio.to_thread(self._source.load, one))
        except Exception as error:  # noqa: BLE001  whatever it is, the others serve on
            told = str(error) if isinstance(error, StartupError) else f"{one.folder} cannot be loaded ({error!r})"
            holding.state, holding.reason, holding.size = State.FAILED, told, 0
            self._surroundings.refused(one.name)
            return holding
        replaced = self._in_state(State.READY, one.spelled)
        holding.state = State.READY
        for old in replaced:
            self._let_go(old)
        self._show()
        return holding

    async def _make_room(self, holding: Holding) -> None:
        """Raise StartupError where the model would take the memory of all beyond its bound."""
        holding.size = await asyncio.to_thread(self._source.estimate, holding.found)
        taken = sum(other.size for other in self._holdings if other is not holding)
        bound = self._bounds.memory
        if bound is not None and taken + holding.size > bound:
            raise StartupError(
                f"{holding.found.spelled} takes about {holding.size / 1e6:.0f} MB and others take {taken / 1e6:.0f}, "
                f"more than --model-megabytes {bound / 1e6:.0f} together; unload another one, or allow more"
            )

    def _let_go_unwanted(self, found: Sequence[Found], only: Pin | None) -> None:
        """Let go what is not wanted any more, unless what is wanted of that model is not there to replace it."""
        wanted = {one.spelled: one.name for one in self._versions.wanted(found)}
        missing, ready = self._versions.missing(found), self._ready()
        lacking = {name for spelled, name in wanted.items() if spelled not in ready}
        for holding in [*self._in_state(State.READY), *self._in_state(State.FAILED)]:
            name, version = holding.found.name, holding.found.version
            if holding.found.spelled in wanted or (only is not None and only.name != name):
                continue
            if any(pin.covers(name, version) for pin in missing):
                continue
            if name not in lacking or holding.state is State.FAILED:
                self._let_go(holding)

    def _let_go(self, holding: Holding) -> None:
        """Show it to no new request, and end it when those that have it are done."""
        if holding.served is None:
            self._holdings.remove(holding)
            return
        holding.state = State.DRAINING
        self._show()
        self._begin(self._drain(holding, holding.served))

    async def _drain(self, holding: Holding, served: Served) -> None:
        try:
            await asyncio.wait_for(served.usage.idle(), self._bounds.drain_seconds)
        except TimeoutError:
            fields = _fields(model=holding.found.spelled, calls=len(served.usage))
            logger.warning("a model that was let go is still in use; ending it", extra=fields)
        await asyncio.to_thread(served.engine.stop)
        self._surroundings.take_down(served)
        self._holdings.remove(holding)
        holding.served = None
        del served
        await asyncio.to_thread(vitals.give_memory_back)
        logger.info("a model is gone", extra=_fields(model=holding.found.spelled))

    def _show(self) -> None:
        """Let requests find what is ready, and nothing else."""
        self._catalog.put(one.served for one in self._in_state(State.READY) if one.served is not None)

    def _ready(self) -> list[str]:
        return [holding.found.spelled for holding in self._in_state(State.READY)]

    def _in_state(self, state: State, spelled: str | None = None) -> list[Holding]:
        return [one for one in self._holdings if one.state is state and spelled in (None, one.found.spelled)]


def _fields(**fields: object) -> dict[str, object]:
    return {FIELDS: fields}
