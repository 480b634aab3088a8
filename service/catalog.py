"""The catalog: the models that this server holds, and which of them a request means."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

from service.bundle import Manifest
from service.engine.engine import Engine
from service.engine.fleet import Fleet
from service.errors import InvalidRequestError, ModelNotFoundError
from service.repository import version_key
from service.stream import Streams
from service.tokenizer import Tokenizer


class Usage:
    """Counts the calls that use a model, from the choice of it to the answer: until then it must not go."""

    def __init__(self) -> None:
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Count them."""
        return self._users

    def __enter__(self) -> None:
        """Use it."""
        self._users += 1
        self._idle.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Use it no more, whatever happened."""
        self._users -= 1
        if not self._users:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until nobody uses it."""
        await self._idle.wait()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Served:
    """A loaded model and what belongs to it."""

    name: str
    version: str
    provider: str
    manifest: Manifest
    tokenizer: Tokenizer
    engine: Engine | Fleet
    streams: Streams
    usage: Usage = field(default_factory=Usage)


class Catalog:
    """All models of a server, sorted by name, then by version. Belongs to the event loop."""

    def __init__(self, models: Iterable[Served] = (), default: Callable[[str], str | None] = lambda _: None) -> None:
        """Take what is there; `default` says which version of a model it is that requests without one mean, if any."""
        self._default = default
        self.models: list[Served] = []
        self.only = ""
        """The name of the model, where there is but one."""
        self.put(models)

    def put(self, models: Iterable[Served]) -> None:
        """Hold these instead of what was held: the next request finds them, and no other."""
        self.models = sorted(models, key=lambda served: (served.name, version_key(served.version)))
        names = {served.name for served in self.models}
        self.only = names.pop() if len(names) == 1 else ""

    def find(self, model: str = "", source_language: str = "", target_language: str = "") -> Served:
        """Return the one model that is meant; where only versions differ, the default one, or else the newest.

        `model` is "name", "name@version" or empty. Raises ModelNotFoundError and InvalidRequestError, which list what
        there is.
        """
        matching = self._named(model) if model else self.models
        matching = _with_language(matching, "source", source_language)
        matching = _with_language(matching, "target", target_language)
        if not matching:
            raise ModelNotFoundError(f"no model translates {source_language} into {target_language}; {self._held()}")
        if matching[0].name != matching[-1].name:
            names = dict.fromkeys(served.name for served in matching)
            raise InvalidRequestError("model", f"several would do, name one: {', '.join(names)}")
        default = self._default(matching[0].name)
        return next((served for served in matching if served.version == default), matching[-1])

    def _named(self, model: str) -> list[Served]:
        name, at, version = model.partition("@")
        matching = [served for served in self.models if served.name == name and (not at or served.version == version)]
        if not matching:
            raise ModelNotFoundError(f"there is no model {_shown(model)}; {self._held()}")
        return matching

    def _held(self) -> str:
        if not self.models:
            return "this server holds none; load one"
        return "this server holds " + ", ".join(f"{served.name}@{served.version}" for served in self.models)


def _with_language(models: list[Served], side: str, code: str) -> list[Served]:
    """Keep the models with this language on this side; codes are compared without case. Empty: all."""
    if not code or not models:
        return models
    languages = [served.manifest.model.source_language if side == "source" else served.manifest.model.target_language
                 for served in models]  # fmt: skip
    if code.lower() not in {language.lower() for language in languages}:
        supported = ", ".join(sorted(set(languages)))
        raise InvalidRequestError(f"{side}_language_code", f"{_shown(code)} is not supported here; use {supported}")
    return [served for served, language in zip(models, languages, strict=True) if language.lower() == code.lower()]


def _shown(text: str) -> str:
    """Quote what a client sent, cut to a length that fits into a message."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
