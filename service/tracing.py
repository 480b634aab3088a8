"""Traces: a call's place in its client's trace (W3C trace context), and its spans, sent by OTLP where asked for.

Spans are made when a call has ended, from the times that its log line holds: tracing costs nothing while it decodes.
"""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import grpc

from service.errors import StartupError
from service.logs import RequestLine

HEADERS = ("traceparent", "tracestate")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Codes that make a server's span an error, by OpenTelemetry's conventions for gRPC."""


class Traced(NamedTuple):
    """Which trace a call belongs to (empty: none), and whether somebody keeps it."""

    trace_id: str = ""
    sampled: bool = False


class Spans(Protocol):
    """Takes note of calls that ended."""

    def record(self, line: RequestLine, headers: Mapping[str, str], seconds: float) -> Traced:
        """Note a call that took so long and ended now; `headers` are those of its trace."""

    def close(self) -> None:
        """Send what is left."""


class NoSpans:
    """Sends nothing; a client's own trace is still known to log and exemplars."""

    def record(self, line: RequestLine, headers: Mapping[str, str], seconds: float) -> Traced:  # noqa: ARG002
        """Return the client's trace."""
        found = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        return Traced(found.group(1), bool(int(found.group(2), 16) & 1)) if found else Traced()

    def close(self) -> None:
        """Do nothing."""


class OtlpSpans:
    """Sends spans in batches, on a thread of its own."""

    def __init__(self, provider: Any, service: str) -> None:  # noqa: ANN401  its package is an extra
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._api = trace
        self._provider = provider
        self._service = service
        self._tracer = provider.get_tracer("dragoman")
        self._propagator = TraceContextTextMapPropagator()

    def record(self, line: RequestLine, headers: Mapping[str, str], seconds: float) -> Traced:
        """Send the call's span, and below it those of queue, encode and decode."""
        ended = time.time_ns()
        begun = ended - round(seconds * 1e9)
        span = self._tracer.start_span(
            f"{self._service}/{line.method}",
            context=self._propagator.extract(headers),
            kind=self._api.SpanKind.SERVER,
            start_time=begun,
        )
        if span.is_recording():
            span.set_attributes(self._attributes(line))
            if line.code in SERVER_FAULTS:
                span.set_status(self._api.StatusCode.ERROR, line.reason)
            self._parts(span, line, begun, ended)
        span.end(ended)
        context = span.get_span_context()
        return Traced(self._api.format_trace_id(context.trace_id), context.trace_flags.sampled)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _attributes(self, line: RequestLine) -> dict[str, str | int]:
        texts = {
            "rpc.system": "grpc",
            "rpc.service": self._service,
            "rpc.method": line.method,
            "dragoman.request_id": line.request_id,
            "dragoman.model": line.model,
            "dragoman.reason": line.reason,
        }
        return {name: value for name, value in texts.items() if value} | {
            "rpc.grpc.status_code": grpc.StatusCode[line.code].value[0],
            "dragoman.texts": line.texts,
            "dragoman.source_tokens": line.source_tokens,
            "dragoman.target_tokens": line.target_tokens,
        }

    def _parts(self, span: Any, line: RequestLine, begun: int, ended: int) -> None:  # noqa: ANN401
        """Add the parts, one before the other, the last one up to the end: what follows decoding is short."""
        below = self._api.set_span_in_context(span)
        for name, milliseconds in (("decode", line.decode_ms), ("encode", line.encode_ms), ("queue", line.queue_ms)):
            if milliseconds:
                start = max(begun, ended - round(milliseconds * 1e6))
                attributes = {"dragoman.steps": line.steps} if name == "decode" else None
                self._tracer.start_span(name, context=below, start_time=start, attributes=attributes).end(ended)
                ended = start


def trace_headers(metadata: Iterable[Any]) -> dict[str, str]:
    """Return what the client's metadata says of its trace."""
    return {key: value for key, value in metadata if key in HEADERS and isinstance(value, str)}


def open_spans(endpoint: str | None, share: float, service: str) -> Spans:
    """Return what sends spans to an OTLP endpoint; a client's own decision to sample goes before `share`.

    Raises StartupError where the packages are missing.
    """
    if not endpoint:
        return NoSpans()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError as error:
        raise StartupError(f"--otlp-endpoint needs more ({error}): pip install 'dragoman[tracing]'") from error
    resource = Resource.create({"service.name": "dragoman"})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share), resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtlpSpans(provider, service)
