"""What may refuse a call before its message is read: a full server needs its processor for those whom it serves."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import grpc

from service.rpc.access import Context

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Refusal(NamedTuple):
    """How a call ends that is not let in."""

    code: int
    """gRPC's number of it."""
    message: str
    trailing: tuple[tuple[str, str | bytes], ...]
    """The metadata behind it."""


Door: TypeAlias = Callable[[Context], Refusal | None]
"""Asked for each call that comes; None lets it in."""


class Guarded(NamedTuple):
    """The handler of a method with one message each way, as gRPC takes it, and the door before it."""

    door: Door
    unary_unary: Callable[[Any, Any], Any] | None
    request_deserializer: Callable[[bytes], Any] | None
    response_serializer: Callable[[Any], bytes] | None
    request_streaming: bool = False
    response_streaming: bool = False


def guarded(handler: Handler, door: Door) -> Guarded:
    """Put a door before a handler."""
    return Guarded(door, handler.unary_unary, handler.request_deserializer, handler.response_serializer)


def add_methods(server: grpc.aio.Server, service: str, methods: "Mapping[str, Handler | Guarded]") -> None:
    """Let a server answer these methods; the core must know those with doors by name, to tell their calls apart."""
    common = {name: handler for name, handler in methods.items() if not isinstance(handler, Guarded)}
    doors: dict[str, Any] = {name: handler for name, handler in methods.items() if isinstance(handler, Guarded)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, common),))
    server.add_registered_method_handlers(service, doors)
