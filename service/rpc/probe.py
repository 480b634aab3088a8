"""The built-in health probe: one call of grpc.health.v1, for container engines and scripts."""

import grpc
from grpc_health.v1 import health_pb2

from service.rpc.channel import Connection


def probe(connection: Connection, service: str, timeout: float) -> str:
    """Return a service's health by name, such as SERVING; where nothing answers in `timeout` seconds, why not."""
    with connection.open() as channel:
        check: grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return f"{code.name}: {error.details()}"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name
