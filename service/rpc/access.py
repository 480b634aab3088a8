"""Who calls: a client of the file, by its token or by the name in its certificate; and what that may cost."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2

from service.clients import Client, Clients
from service.errors import UnauthenticatedError

AUTHORIZATION = "authorization"
SCHEME = "bearer "
Context = grpc.aio.ServicerContext[Any, Any]
NAMES = ("x509_subject_alternative_name", "x509_common_name")
"""Where gRPC keeps the names of a verified certificate (grpc_security_constants.h)."""


class Access:
    """Tells clients apart. Where there is none, whoever can connect may call, and nothing here is run."""

    def __init__(self, clients: Clients, refresh: Callable[[], None], clock: Callable[[], float]) -> None:
        """Take the clients, and what reads them anew when their file has changed."""
        self._clients = clients
        self._refresh = refresh
        self._clock = clock

    def identify(self, context: Context) -> Client:
        """Return who calls; raises UnauthenticatedError."""
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

    def charge(self, client: Client, request: object) -> None:
        """Charge a further message of a call; raises QuotaExceededError."""
        client.charge(characters(request), self._clock())


class GuardedHealth(health.aio.HealthServicer):
    """Health for clients alone."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:  # noqa: ANN401, N802
        """Answer once."""
        await self._guard(context)
        return await super().Check(request, context)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """Answer at every change."""
        await self._guard(context)
        await super().Watch(request, context)

    async def _guard(self, context: Context) -> None:
        try:
            self._access.identify(context)
        except UnauthenticatedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, error.message)


def characters(request: object) -> int:
    """Count the characters of a message's texts, or of its one text; 0 where it has none."""
    if not isinstance(request, Message):
        return 0
    texts = getattr(request, "texts", None)
    if texts is None:
        text = getattr(request, "text", "")
        return len(text) if isinstance(text, str) else 0
    return sum(map(len, texts))
