"""Errors as google.rpc.Status: on the server's side written, on the client's read."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from service.errors import InvalidRequestError, ServiceError

DOMAIN = "dragoman"
DETAILS_KEY = "grpc-status-details-bin"
"""Where gRPC carries a google.rpc.Status, https://grpc.io/docs/guides/error."""


def status_code(error: ServiceError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    return grpc.StatusCode[error.code.name]


def status_details(error: ServiceError, metadata: Mapping[str, str]) -> bytes:
    """Return the serialized google.rpc.Status of an error; `metadata` goes into its ErrorInfo."""
    code: int = status_code(error).value[0]
    status = Status(code=code, message=error.message)
    _pack(status, ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, InvalidRequestError):
        violation = BadRequest.FieldViolation(field=error.field, description=error.description, reason=error.reason)
        _pack(status, BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        _pack(status, RetryInfo(retry_delay=duration(error.retry_after)))
    serialized: bytes = status.SerializeToString()
    return serialized


def status_details_again(error: ServiceError, request_id: str, model: str) -> bytes:
    """Return the same; only the request id is written anew where others were told just this."""
    kind: Callable[..., ServiceError] = type(error)
    before, behind = _around_id(kind, error.message, error.retry_after, model, len(request_id))
    return before + request_id.encode() + behind


@functools.lru_cache(maxsize=64)
def _around_id(
    kind: Callable[..., ServiceError], message: str, retry_after: float | None, model: str, length: int
) -> tuple[bytes, bytes]:
    """Return what stands before and behind a request id of so many ASCII characters."""
    written = status_details(kind(message, retry_after=retry_after), about("\0" * length, model))
    before, _, behind = written.partition(b"\0" * length)
    return before, behind


def about(request_id: str, model: str) -> dict[str, str]:
    """Return the metadata of an ErrorInfo; a call that was refused early has no model."""
    return {"request_id": request_id, "model": model} if model else {"request_id": request_id}


@dataclass(frozen=True, slots=True)
class Details:
    """What a client learns from an error besides its code and message; empty where the server did not say."""

    reason: str = ""
    metadata: Mapping[str, str] | None = None
    field: str = ""
    retry_after: float | None = None


def read_details(trailing_metadata: Iterable[Any] | None) -> Details:
    """Find the details in a call's trailing metadata, pairs of a key and a value."""
    value = dict(trailing_metadata or ()).get(DETAILS_KEY)
    if not isinstance(value, bytes):
        return Details()
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    try:
        for detail in Status.FromString(value).details:
            for message in (info, bad, retry):
                detail.Unpack(message)
    except DecodeError:
        return Details()
    delay = retry.retry_delay
    return Details(
        reason=info.reason,
        metadata=dict(info.metadata),
        field=bad.field_violations[0].field if bad.field_violations else "",
        retry_after=delay.seconds + delay.nanos / 1e9 if retry.HasField("retry_delay") else None,
    )


def duration(seconds: float) -> Duration:
    """Return a duration; what is negative by the clock's grain is none."""
    whole, fraction = divmod(max(0.0, seconds), 1.0)
    return Duration(seconds=int(whole), nanos=int(fraction * 1e9))


def _pack(status: Status, message: ErrorInfo | BadRequest | RetryInfo) -> None:
    detail = any_pb2.Any()
    detail.Pack(message)
    status.details.append(detail)
