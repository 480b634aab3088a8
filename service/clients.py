"""Who may call, and how much: hashed tokens, names in certificates, quotas. Belongs to the event loop."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Annotated

import msgspec
from msgspec import Meta

from service.config import SettingError, read_yaml
from service.errors import QuotaExceededError, UnauthenticatedError

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, Meta(gt=0)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of one client; a quota that is not there is none."""

    token_sha256: tuple[Digest, ...] = ()
    """Hex digests of the tokens that are good: two, while one replaces the other."""
    certificate: str | None = None
    """A name in the client's certificate: a DNS or URI subject alternative name, or the common name."""
    requests_per_second: Rate | None = None
    characters_per_second: Rate | None = None
    in_flight: Annotated[int, Meta(ge=1)] | None = None


class Bucket:
    """A token bucket that holds one second's worth. What is larger needs it full, and overdraws it."""

    __slots__ = ("_capacity", "_level", "_since", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._capacity = max(1.0, rate)
        self._level = self._capacity
        self._since = now

    def wait(self, amount: float, now: float) -> float:
        """Return after how many seconds so much may be taken; 0: now."""
        self._level = min(self._capacity, self._level + (now - self._since) * self.rate)
        self._since = now
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing / self.rate)

    def take(self, amount: float) -> None:
        """Take so much, whatever is there."""
        self._level -= amount


class Client:
    """One client and what it uses at this moment; entered while a call of it is in the server."""

    def __init__(self, name: str, entry: Entry, now: float) -> None:
        self.name = name
        self.in_flight = 0
        self._requests: Bucket | None = None
        self._characters: Bucket | None = None
        self.update(entry, now)

    def update(self, entry: Entry, now: float) -> None:
        """Take what the file says now; calls in flight go on, and a bucket whose rate is the same keeps its level."""
        self.entry = entry
        self._requests = _bucket(self._requests, entry.requests_per_second, now)
        self._characters = _bucket(self._characters, entry.characters_per_second, now)

    def admit(self, characters: int, now: float) -> "Client":
        """Count one call of so many characters, or raise QuotaExceededError: then nothing is counted."""
        limit = self.entry.in_flight
        if limit is not None and self.in_flight >= limit:
            raise QuotaExceededError(f"{self.name} has {limit} calls in flight; wait for one to end", retry_after=0.1)
        for bucket, amount, what in ((self._requests, 1, "requests"), (self._characters, characters, "characters")):
            if bucket is not None and (wait := bucket.wait(amount, now)):
                raise _exceeded(self.name, bucket, what, wait)
        if self._requests is not None:
            self._requests.take(1)
        if self._characters is not None:
            self._characters.take(characters)
        return self

    def charge(self, characters: int, now: float) -> None:
        """Count characters that came later in a stream, or raise QuotaExceededError."""
        if self._characters is not None:
            if wait := self._characters.wait(characters, now):
                raise _exceeded(self.name, self._characters, "characters", wait)
            self._characters.take(characters)

    def __enter__(self) -> "Client":
        """Be in flight."""
        self.in_flight += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Be in flight no more, whatever happened."""
        self.in_flight -= 1


class Clients:
    """The clients of a file, which is read anew when it changes; one that cannot be read changes nothing."""

    def __init__(self, entries: dict[str, Entry], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self.update(entries)

    def __len__(self) -> int:
        """Count the clients."""
        return len(self._clients)

    def update(self, entries: dict[str, Entry]) -> None:
        """Take these clients from now on; who is still among them keeps what it has in flight."""
        now = self._clock()
        known, self._clients = self._clients, {}
        for name, entry in entries.items():
            client = self._clients[name] = known.get(name) or Client(name, entry, now)
            client.update(entry, now)

    def by_token(self, token: str) -> Client:
        """Return who shows this token; raises UnauthenticatedError."""
        return self.by_digest(token_digest(token))

    def by_digest(self, digest: str) -> Client:
        """Return whose token has this digest; raises UnauthenticatedError. All are compared, in constant time."""
        found = None
        for client in self._clients.values():
            for known in client.entry.token_sha256:
                if hmac.compare_digest(known, digest):
                    found = client
        if found is None:
            raise UnauthenticatedError("this token is not known here; ask the operator for a good one")
        return found

    def by_certificate(self, names: Iterable[str]) -> Client:
        """Return whose certificate has one of these names; raises UnauthenticatedError."""
        shown = set(names)
        for client in self._clients.values():
            if client.entry.certificate in shown:
                return client
        raise UnauthenticatedError(
            "send a token, as in authorization: Bearer TOKEN, or a certificate with a name that is known here"
        )


def read_clients(path: Path) -> dict[str, Entry]:
    """Read the file of clients; raises SettingError."""
    try:
        entries: dict[str, Entry] = msgspec.convert(read_yaml(path), dict[Name, Entry])
    except msgspec.ValidationError as error:
        raise SettingError(f"{path}: {error}; see docs/security.md for what a client may have") from error
    digests = [digest for entry in entries.values() for digest in entry.token_sha256]
    if len(digests) != len(set(digests)):
        raise SettingError(f"{path}: two clients have the same token; give each its own")
    if unreachable := [name for name, entry in entries.items() if not (entry.token_sha256 or entry.certificate)]:
        raise SettingError(f"{path}: {unreachable[0]} has neither token_sha256 nor certificate; nobody could be it")
    return entries


def token_digest(token: str) -> str:
    """Return what the file holds of a token. Tokens are random and long, so a plain hash keeps them."""
    return hashlib.sha256(token.encode()).hexdigest()


def _bucket(old: Bucket | None, rate: float | None, now: float) -> Bucket | None:
    if rate is None:
        return None
    return old if old is not None and old.rate == rate else Bucket(rate, now)


def _exceeded(name: str, bucket: Bucket, what: str, wait: float) -> QuotaExceededError:
    message = f"{name} may send {bucket.rate:g} {what} per second; retry after {wait:.3f} s"
    return QuotaExceededError(message, retry_after=wait)
