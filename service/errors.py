"""The error tree: what went wrong, whose turn it is, and what to do about it."""

import enum
from typing import ClassVar


class Code(enum.Enum):
    """The gRPC status that an error ends as; `rpc` maps it by name, so that nothing else needs to know gRPC."""

    INVALID_ARGUMENT = enum.auto()
    UNAUTHENTICATED = enum.auto()
    PERMISSION_DENIED = enum.auto()
    NOT_FOUND = enum.auto()
    FAILED_PRECONDITION = enum.auto()
    RESOURCE_EXHAUSTED = enum.auto()
    DEADLINE_EXCEEDED = enum.auto()
    UNAVAILABLE = enum.auto()
    INTERNAL = enum.auto()


class ServiceError(Exception):
    """Base of all errors that end a request. The message says what to do, in one or two sentences."""

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    """UPPER_SNAKE_CASE, stable: clients and dashboards match on it (ErrorInfo.reason)."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Store the message; `retry_after` in seconds, where a retry can help."""
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class InvalidRequestError(ServiceError):
    """The request can never succeed as it is; `field` is the path of the field at fault, as in `texts[3]`."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, field: str, message: str) -> None:
        """Store the field beside the message."""
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class UnauthenticatedError(ServiceError):
    """The caller shows no token, no certificate, or one that is not known here."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class ModelNotFoundError(ServiceError):
    """No such model, version or language pair here."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class ModelLoadError(ServiceError):
    """A model cannot be loaded as it is; what was held before is still held."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_LOAD_FAILED"


class OverloadedError(ServiceError):
    """Not admitted: the queue is full. Nothing was done; a retry after `retry_after` can succeed."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class QuotaExceededError(ServiceError):
    """The client has used what it may use; others are served. A retry after `retry_after` can succeed."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"


class OutOfMemoryError(ServiceError):
    """The batch did not fit into memory; the requests in it fail, the server lives."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OUT_OF_MEMORY"


class DeadlineExceededError(ServiceError):
    """The request's deadline passed in the queue or while decoding."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class DeadlineUnreachableError(ServiceError):
    """Not admitted: by what others took, its deadline would pass before it is done. Nothing was done."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "DEADLINE_UNREACHABLE"


class UnavailableError(ServiceError):
    """Draining or loading; another replica, or this one later, can serve it."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class EngineFailedError(ServiceError):
    """A step failed for a reason that is ours; the log has it under the request id."""

    code = Code.INTERNAL
    reason = "ENGINE_FAILED"


class StartupError(Exception):
    """The process cannot start, and the message says what to change: a port in use, a bad setting, a broken bundle."""


class BundleError(StartupError):
    """A bundle is missing, altered, of another format, or its graphs do not do what its manifest says."""
