"""What every call goes through: request id, errors, metrics, one line in the log. Hot: keep it cheap."""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, cast

import grpc
import msgspec
from google.protobuf.message import DecodeError

from service.clients import Client
from service.errors import ServiceError
from service.logs import FIELDS, RequestLine, RequestLog
from service.metrics import MethodMetrics, Metrics
from service.rpc.access import Access, Context
from service.rpc.door import Handler
from service.rpc.messages import Answer, Asked, parser, received, send, serialize, valid
from service.rpc.status import DETAILS_KEY, about, status_code, status_details
from service.tracing import NoSpans, Spans, trace_headers

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
OTHER_SPELLING = {"OK": "OK", "CANCELLED": "Canceled"}
"""Codes that go-grpc-prometheus, whose names dashboards expect, does not spell as all others."""

GRAIN_SECONDS = 0.01
"""A client whose deadline passes ends the call itself; the news may come a little before our own clock says so."""


class Call(msgspec.Struct):
    """One call: who it is, when it must end, and what the log will say of it."""

    request_id: str
    arrived: float
    """On the clock of time.monotonic, in seconds."""
    deadline: float | None
    """On the same clock."""
    line: RequestLine
    trace: dict[str, str]
    """The client's headers of W3C trace context."""


class Passage:
    """One call on its way through the border; left with an error, it keeps what the client is told of it."""

    __slots__ = ("_border", "_client", "_counters", "call", "code", "told")

    def __init__(self, border: "Border", counters: MethodMetrics, call: Call) -> None:
        self._border = border
        self._counters = counters
        self._client: Client | None = None
        self.call = call
        self.code = "OK"
        self.told: ServiceError | None = None

    def __enter__(self) -> "Passage":
        """Count the call."""
        self._counters.start()
        return self

    def admit(self, access: Access, context: Context, request: object) -> Client:
        """Let a client in, or raise; it is in flight until the call ends."""
        client = access.admit(context, request)
        self.call.line.client = client.name
        self._client = client.__enter__()
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Note how the call ended. What the client can be told goes no further; its going away does."""
        if isinstance(error, Exception):
            self.told = self._border.explain(error, self.call).with_traceback(None)  # its frames hold this passage
            self.code = self.told.code.name
        elif error is not None:
            self.code = self._border.interruption(self.call)
        if self._client is not None:
            self._client.__exit__(kind, error, traceback)
        self._border.finish(self._counters, self.call, self.code)
        return self.told is not None


class Border:
    """Wraps the methods of a service. Without `access`, whoever can connect may call."""

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        access: Access | None = None,
        spans: Spans | None = None,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.metrics = metrics
        self._log = log
        self.access = access
        self._spans = spans or NoSpans()
        self.clock = clock
        self._new_id = new_id

    def unary(
        self,
        service: str,
        name: str,
        asked: type[Asked],
        behaviour: Callable[[Asked, Call], Awaitable[Answer]],
    ) -> Handler:
        """Return the gRPC handler of a method with one message each way."""
        counters, access = self.metrics.method(service, name), self.access

        async def handle(request: Asked | DecodeError, context: Context) -> Answer | None:
            with self._passage(name, context, counters) as passage:
                if access is not None:
                    passage.admit(access, context, request)
                answer = await behaviour(valid(request, asked), passage.call)
                context.set_trailing_metadata(((REQUEST_ID, passage.call.request_id),))
                return answer
            await self._abort(context, passage)
            return None

        return grpc.unary_unary_rpc_method_handler(handle, parser(asked), serialize)

    def server_stream(
        self,
        service: str,
        name: str,
        asked: type[Asked],
        behaviour: Callable[[Asked, Call], AsyncIterator[Answer]],
    ) -> Handler:
        """Return the gRPC handler of a method that answers one message with many."""
        counters, access = self.metrics.method(service, name, "server_stream"), self.access

        async def handle(request: Asked | DecodeError, context: Context) -> None:
            with self._passage(name, context, counters) as passage:
                if access is not None:
                    passage.admit(access, context, request)
                await send(behaviour(valid(request, asked), passage.call), context)
                context.set_trailing_metadata(((REQUEST_ID, passage.call.request_id),))
                return
            await self._abort(context, passage)

        return grpc.unary_stream_rpc_method_handler(handle, parser(asked), serialize)

    def both_stream(
        self,
        service: str,
        name: str,
        asked: type[Asked],
        behaviour: Callable[[AsyncIterator[Asked], Call], AsyncIterator[Answer]],
    ) -> Handler:
        """Return the gRPC handler of a method with many messages each way."""
        counters, access = self.metrics.method(service, name, "bidi_stream"), self.access

        async def handle(requests: AsyncIterator[Asked | DecodeError], context: Context) -> None:
            with self._passage(name, context, counters) as passage:
                client = None if access is None else passage.admit(access, context, None)
                async with aclosing(received(requests, asked, access, client)) as coming:
                    await send(behaviour(coming, passage.call), context)
                context.set_trailing_metadata(((REQUEST_ID, passage.call.request_id),))
                return
            await self._abort(context, passage)

        return grpc.stream_stream_rpc_method_handler(handle, parser(asked), serialize)

    def explain(self, error: Exception, call: Call) -> ServiceError:
        """Return what the client is told; what nobody foresaw is our bug, and goes to the log with its traceback."""
        if isinstance(error, ServiceError):
            call.line.reason = error.reason
            self.metrics.reject(call.line.model, error)
            return error
        logger.error("a bug ended a request", exc_info=error, extra={FIELDS: {"request_id": call.request_id}})
        return ServiceError(f"this is a bug in the server; report it with the request id {call.request_id}")

    def request_id(self, metadata: Iterable[Any]) -> str:
        """Return the client's own request id, or a new one."""
        return _given_id(metadata) or self._new_id()

    def interruption(self, call: Call) -> str:
        """Return the code of a call that was ended from outside."""
        late = call.deadline is not None and self.clock() >= call.deadline - GRAIN_SECONDS
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"

    def finish(self, counters: MethodMetrics, call: Call, code: str, ended: float | None = None) -> None:
        """Count a call that ended, now or at that time, send its spans, and write its line."""
        seconds, line = (self.clock() if ended is None else ended) - call.arrived, call.line
        line.code, line.total_ms = code, round(seconds * 1e3, 3)
        traced = self._spans.record(line, call.trace, seconds)
        line.trace_id = traced.trace_id
        spelling = OTHER_SPELLING.get(code) or code.title().replace("_", "")
        counters.finish(spelling, seconds, traced.trace_id if traced.sampled else "")
        self._log.write(line)

    def _passage(self, name: str, context: Context, counters: MethodMetrics) -> Passage:
        now = self.clock()
        remaining = cast("float | None", context.time_remaining())  # None: no deadline; the stubs know only float
        metadata = context.invocation_metadata() or ()
        request_id = self.request_id(metadata)
        deadline = None if remaining is None else now + remaining
        line = RequestLine(request_id=request_id, method=name)
        return Passage(self, counters, Call(request_id, now, deadline, line, trace_headers(metadata)))

    async def _abort(self, context: Context, passage: Passage) -> None:
        """End a call by its error. gRPC raises its own once more when the handler returns.

        What it raises here holds the frames that hold the call, which holds it: each refused call would be garbage in a
        cycle, and the core's part of it be given back a few hundred calls at a time, in 15 ms.
        """
        call, error = passage.call, passage.told
        if error is None:
            raise AssertionError("this is a bug: a call was aborted without an error")
        details = status_details(error, about(call.request_id, call.line.model))
        trailing = ((DETAILS_KEY, details), (REQUEST_ID, call.request_id))
        try:
            await context.abort(status_code(error), error.message, trailing)
        except grpc.aio.AbortError as aborted:
            aborted.__traceback__ = None


def _given_id(metadata: Iterable[Any]) -> str | None:
    """Return the client's own request id, if it has one that may stand in a log."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and SANE_ID.fullmatch(value):
            return value
    return None
