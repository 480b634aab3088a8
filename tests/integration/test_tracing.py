"""Spans, as a collector of the real protocol receives them; trace ids in log and exemplars."""

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.logs import RequestLine
from service.tracing import NoSpans, Traced, trace_headers
from tests.serving import LiveServer, loaded, reversing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1"))
UNSAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
METHOD = "dragoman.v1.TranslationService/Translate"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Collect what is exported; give the endpoint and the spans that came so far."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    spans: list[Any] = []

    class Collector(service.TraceServiceServicer):  # type: ignore[misc,name-defined]
        """Keeps all spans."""

        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's name
            """Take spans in."""
            spans.extend(span for one in request.resource_spans for part in one.scope_spans for span in part.spans)
            return messages.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    service.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", spans
    finally:
        server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes as text and numbers."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_call_is_a_span_with_its_parts() -> None:
    """Below the client's own span; the parts follow each other within the call, and hold no text."""
    with collector() as (endpoint, spans):
        with LiveServer([loaded(reversing())], otlp_endpoint=endpoint, trace_share=0.0) as live:
            live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=20.0, metadata=SAMPLED)
            live.translate("abc")  # of no trace, and none is begun
            live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=20.0, metadata=UNSAMPLED)
        found = {span.name: span for span in spans}
    assert {METHOD, "queue", "encode", "decode"} == found.keys()
    assert 4 == len(spans)
    call = found[METHOD]
    assert {TRACE} == {span.trace_id.hex() for span in spans}
    assert PARENT == call.parent_span_id.hex()
    assert {call.span_id} == {found[name].parent_span_id for name in ("queue", "encode", "decode")}
    moments = [call.start_time_unix_nano]
    for name in ("queue", "encode", "decode"):
        moments += [found[name].start_time_unix_nano, found[name].end_time_unix_nano]
    moments.append(call.end_time_unix_nano)
    assert sorted(moments) == moments
    told = attributes(call)
    assert ("toy", 1, 3, 0) == tuple(
        told[name] for name in ("dragoman.model", "dragoman.texts", "dragoman.source_tokens", "rpc.grpc.status_code")
    )
    assert 4 == attributes(found["decode"])["dragoman.steps"]
    assert "abc" not in str(spans)


def test_our_faults_are_errors_and_the_clients_are_not() -> None:
    """By OpenTelemetry's conventions for servers."""
    with collector() as (endpoint, spans):
        with LiveServer([loaded(reversing())], otlp_endpoint=endpoint, trace_share=1.0) as live:
            live.server.admission.close("closed by a test")
            for texts in (["abc"], []):
                with pytest.raises(grpc.RpcError):
                    live.translate(*texts)
        status = {attributes(span)["dragoman.reason"]: span.status.code for span in spans}
    assert {"UNAVAILABLE": 2, "INVALID_REQUEST": 0} == status


def test_a_trace_is_found_from_log_and_metrics() -> None:
    """Without a collector too: the client's trace id stands in the log line, and as exemplar where it is kept."""
    with LiveServer([loaded(reversing())]) as live:
        for metadata in (SAMPLED, ()):
            live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=20.0, metadata=metadata)
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        with urllib.request.urlopen(urllib.request.Request(live.ready.metrics_url, headers=accept)) as page:  # noqa: S310
            text = page.read().decode()
        lines = [line for line in live.log_lines() if line["message"] == "request"]
    assert ["end", "end"] == [line["finish_reason"] for line in lines]
    assert [TRACE, None] == [line.get("trace_id") for line in lines]
    assert 1 == text.count(f'# {{trace_id="{TRACE}"}}')


@pytest.mark.parametrize(
    ("header", "traced"),
    [
        (f"00-{TRACE}-{PARENT}-01", Traced(TRACE, sampled=True)),
        (f"00-{TRACE}-{PARENT}-00", Traced(TRACE, sampled=False)),
        (f"cc-{TRACE}-{PARENT}-01-more", Traced(TRACE, sampled=True)),
        (f"ff-{TRACE}-{PARENT}-01", Traced()),
        (f"00-{'0' * 32}-{PARENT}-01", Traced()),
        (f"00-{TRACE.upper()}-{PARENT}-01", Traced()),
        ("", Traced()),
        ("\n" * 300, Traced()),
    ],
)
def test_headers_that_are_none_are_left_out(header: str, traced: Traced) -> None:
    """Nothing but a trace id can come into the log this way."""
    headers = trace_headers([("traceparent", header), ("other", "x"), ("tracestate", b"bytes")])
    assert {"traceparent": header} == headers
    assert traced == NoSpans().record(RequestLine(request_id="1", method="Translate"), headers, 0.1)
