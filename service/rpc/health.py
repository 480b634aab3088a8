"""What grpc.health.v1 says of a server: whether to send it requests, and whether to start another in its place."""

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from dragoman.v1 import translation_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
LIVE = "live"
"""The service whose health is that of the process: an orchestrator asks for it to know whether to start another."""


async def tell(servicer: health.aio.HealthServicer, *, ready: bool, alive: bool) -> None:
    """Ready: send requests here. Alive: no need to start this process anew; so it is while it loads and drains."""
    for service, holds in ((SERVICE, ready), (health.OVERALL_HEALTH, ready), (LIVE, alive)):
        await servicer.set(service, HealthCheckResponse.SERVING if holds else HealthCheckResponse.NOT_SERVING)
