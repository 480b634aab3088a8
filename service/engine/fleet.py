"""Several engines of one model, each on a device of its own: who is asked next is the one with the least to do."""

from collections.abc import Sequence

from service.engine.engine import Engine
from service.request import DecodingParams, Permit, Request


class Fleet:
    """Engines that stand for one. Threads may call what they may call of an engine; requests come from one."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Take at least one engine, all of one model and the same limits."""
        self._engines = engines

    def start(self) -> None:
        """Start all engine threads."""
        for engine in self._engines:
            engine.start()

    def stop(self) -> None:
        """End all engine threads and wait for them; what is still in them fails as UNAVAILABLE."""
        for engine in self._engines:
            engine.stop()

    def submit(self, request: Request, permit: Permit) -> None:
        """Queue a request where the fewest are."""
        self._idlest().submit(request, permit)

    def cancel(self, request_id: str) -> None:
        """End a request, wherever it is: those that do not know it ignore that."""
        for engine in self._engines:
            engine.cancel(request_id)

    def fits(self, params: DecodingParams) -> bool:
        """Return whether a request that is decoded like this can ever run."""
        return self._engines[0].fits(params)

    def forecast(self, request: Request) -> float:
        """Return the seconds until a request that is submitted now would end; 0: not known."""
        return self._idlest().forecast(request)

    def _idlest(self) -> Engine:
        return min(self._engines, key=lambda engine: engine.inside)
