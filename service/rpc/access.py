"""Who calls: a client of the file, by its token or by the name in its certificate; and what that may cost."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from service.clients import Client, Clients, read_clients
from service.config import SettingError
from service.errors import ServiceError, UnauthenticatedError
from service.logs import FIELDS
from service.watch import Watch

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AUTHORIZATION = "authorization"
SCHEME = "bearer "
Context = grpc.aio.ServicerContext[Any, Any]
NAMES = ("x509_subject_alternative_name", "x509_common_name")
"""Where gRPC keeps the names of a verified certificate (grpc_security_constants.h)."""


class Access:
    """Tells the clients of a file apart, and reads it anew when it changes.

    Where there is no such file, whoever can connect may call, and nothing here is run.
    """

    def __init__(self, path: Path, clients: Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clients = clients
        self._clock = clock
        self._watch = Watch([path], LOOK_SECONDS, clock)

    @classmethod
    def from_file(cls, path: Path) -> "Access":
        """Read the file; raises SettingError."""
        return cls(path, Clients(read_clients(path)))

    def identify(self, context: Context) -> Client:
        """Return who calls; raises UnauthenticatedError."""
        if self._watch.changed():
            self._refresh()
        for key, value in context.invocation_metadata() or ():
            if key == AUTHORIZATION:
                if not isinstance(value, str) or not value.lower().startswith(SCHEME):
                    raise UnauthenticatedError("authorization must be: Bearer TOKEN")
                return self._clients.by_token(value[len(SCHEME) :].strip())
        shown = context.auth_context()
        return self._clients.by_certificate(
            name.decode(errors="replace") for key in NAMES for name in shown.get(key, ())
        )

    def admit(self, context: Context, request: object) -> Client:
        """Return who calls, its quota charged for this request; raises UnauthenticatedError, QuotaExceededError."""
        return self.identify(context).admit(characters(request), self._clock())

    def admit_unread(self, context: Context) -> Client | None:
        """Return who calls, its quota charged; None where that takes the request, or where it is not let in."""
        try:
            client = self.identify(context)
            return None if client.entry.characters_per_second else client.admit(0, self._clock())
        except ServiceError:
            return None

    def _refresh(self) -> None:
        try:
            self._clients.update(read_clients(self._path))
        except SettingError as error:
            logger.error("the file of clients changed and cannot be used; the old one stays", extra=_cause(error))
        else:
            logger.info("clients read anew", extra={FIELDS: {"clients": len(self._clients)}})

    def charge(self, client: Client, request: object) -> None:
        """Charge a further message of a call; raises QuotaExceededError."""
        client.charge(characters(request), self._clock())


def characters(request: object) -> int:
    """Count the characters of a message's texts, or of its one text; 0 where it has none."""
    if not isinstance(request, Message):
        return 0
    texts = getattr(request, "texts", None)
    if texts is None:
        text = getattr(request, "text", "")
        return len(text) if isinstance(text, str) else 0
    return sum(map(len, texts))


def _cause(error: Exception) -> dict[str, object]:
    return {FIELDS: {"cause": str(error)}}
