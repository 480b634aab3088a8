"""What grpc.health.v1 says of a server: whether to send it requests, and whether to start another in its place."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from dragoman.v1 import translation_pb2 as pb
from service.errors import UnauthenticatedError
from service.rpc.access import Access, Context

SERVICE: str = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
LIVE = "live"
"""The service whose health is that of the process: an orchestrator asks for it to know whether to start another."""


async def tell(servicer: health.aio.HealthServicer, *, ready: bool, alive: bool) -> None:
    """Ready: send requests here. Alive: no need to start this process anew; so it is while it loads and drains."""
    for service, holds in ((SERVICE, ready), (health.OVERALL_HEALTH, ready), (LIVE, alive)):
        await servicer.set(service, HealthCheckResponse.SERVING if holds else HealthCheckResponse.NOT_SERVING)


class Probes:
    """Answers probes from whoever may ask: anybody, or with `access` its clients alone."""

    def __init__(self, servicer: health.aio.HealthServicer, access: Access | None = None) -> None:
        self._servicer = servicer
        self._access = access

    async def check(self, request: HealthCheckRequest | DecodeError, context: Context) -> Any:  # noqa: ANN401
        """Answer once."""
        return await self._servicer.Check(await self._admitted(request, context), context)

    async def watch(self, request: HealthCheckRequest | DecodeError, context: Context) -> None:
        """Answer at every change."""
        await self._servicer.Watch(await self._admitted(request, context), context)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers of grpc.health.v1."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, _parse, HealthCheckResponse.SerializeToString),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, _parse, HealthCheckResponse.SerializeToString),
        }
        return grpc.method_handlers_generic_handler(health.SERVICE_NAME, methods)

    async def _admitted(self, request: HealthCheckRequest | DecodeError, context: Context) -> HealthCheckRequest:
        """Return the request, or end the call of who may not ask or asks nonsense, of which the library makes a bug."""
        if self._access is not None:
            try:
                self._access.identify(context)
            except UnauthenticatedError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, error.message)
        if isinstance(request, DecodeError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no HealthCheckRequest")
        return request


def _parse(data: bytes) -> HealthCheckRequest | DecodeError:
    try:
        return HealthCheckRequest.FromString(data)
    except DecodeError as error:
        return error
