"""What every call goes through: request id, errors, metrics, one line in the log. Hot: keep it cheap."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from service.errors import InvalidRequestError, ServiceError
from service.logs import FIELDS, RequestLine, RequestLog
from service.metrics import MethodMetrics, Metrics
from service.rpc.status import DETAILS_KEY, status_code, status_details

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
OTHER_SPELLING = {"OK": "OK", "CANCELLED": "Canceled"}
"""Codes that go-grpc-prometheus, whose names dashboards expect, does not spell as all others."""

Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Call:
    """One call: who it is, when it must end, and what the log will say of it."""

    request_id: str
    deadline: float | None
    """On the clock of time.monotonic, in seconds."""
    line: RequestLine


class Border:
    """Wraps the methods of a service."""

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._new_id = new_id

    def unary(
        self,
        service: str,
        name: str,
        asked: type[Asked],
        behaviour: Callable[[Asked, Call], Awaitable[Answer]],
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the gRPC handler of one unary method."""
        counters = self._metrics.method(service, name)

        async def handle(request: Asked | DecodeError, context: Context) -> Answer:
            started = self._clock()
            counters.start()
            call = self._call(name, context, started)
            code, told = "OK", None
            try:
                if isinstance(request, DecodeError):
                    raise InvalidRequestError("request", f"is no {asked.__name__}; its strings must be valid UTF-8")
                answer = await behaviour(request, call)
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
                return answer
            except asyncio.CancelledError:
                late = call.deadline is not None and self._clock() >= call.deadline
                code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001  told to the client, whatever it is
                told = self._told(error, call)
                code = told.code.name
            finally:
                self._finish(counters, call.line, code, self._clock() - started)
            return await self._abort(context, told, call)

        def parse(data: bytes) -> Asked | DecodeError:
            try:
                return asked.FromString(data)
            except DecodeError as error:  # told to the client as its own fault, once the call has a context
                return error

        return grpc.unary_unary_rpc_method_handler(handle, request_deserializer=parse, response_serializer=_serialize)

    def _call(self, name: str, context: Context, now: float) -> Call:
        remaining = cast("float | None", context.time_remaining())  # None: no deadline; the stubs know only float
        request_id = _given_id(context.invocation_metadata() or ()) or self._new_id()
        deadline = None if remaining is None else now + remaining
        return Call(request_id, deadline, RequestLine(request_id=request_id, method=name))

    def _told(self, error: Exception, call: Call) -> ServiceError:
        """Return what the client is told; what nobody foresaw is our bug, and goes to the log with its traceback."""
        if isinstance(error, ServiceError):
            call.line.reason = error.reason
            self._metrics.reject(call.line.model, error)
            return error
        logger.error("a bug ended a request", exc_info=error, extra={FIELDS: {"request_id": call.request_id}})
        return ServiceError(f"this is a bug in the server; report it with the request id {call.request_id}")

    async def _abort(self, context: Context, error: ServiceError, call: Call) -> NoReturn:
        about = {"request_id": call.request_id} | ({"model": call.line.model} if call.line.model else {})
        trailing = ((DETAILS_KEY, status_details(error, about)), (REQUEST_ID, call.request_id))
        await context.abort(status_code(error), error.message, trailing)
        raise AssertionError("this is a bug: abort returned")

    def _finish(self, counters: MethodMetrics, line: RequestLine, code: str, seconds: float) -> None:
        counters.finish(OTHER_SPELLING.get(code) or code.title().replace("_", ""), seconds)
        line.code, line.total_ms = code, round(seconds * 1e3, 3)
        self._log.write(line)


def _given_id(metadata: Iterable[Any]) -> str | None:
    """Return the client's own request id, if it has one that may stand in a log."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and SANE_ID.fullmatch(value):
            return value
    return None


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
