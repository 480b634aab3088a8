"""Logs on stderr: JSON lines for machines, key=value text on a terminal. Texts of requests never enter a log."""

import datetime
import logging
import time
from typing import TextIO

import msgspec

FIELDS = "fields"
"""Attribute of a record that holds its fields: `logger.info("…", extra={FIELDS: {…}})`."""


OF_CLIENTS = {"UnicodeDecodeError", "DecodeError", "ExecuteBatchError"}
"""Errors that gRPC logs where a client sends what is no text or no message, or goes away at a bad moment."""


class Discreet(logging.Filter):
    """Keeps from the log what gRPC says of clients' mistakes: it holds what they sent, and could fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record may stand in the log."""
        kind = record.exc_info[0] if record.exc_info else None
        return not (record.name.startswith("grpc") and kind is not None and kind.__name__ in OF_CLIENTS)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; fields stand beside the message, a traceback under `error`."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level, message, then key=value; a traceback on further lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = "".join(f" {key}={_shown(value)}" for key, value in getattr(record, FIELDS, {}).items())
        line = f"{_time(record)[11:-1]} {record.levelname:<7} {record.getMessage()}{fields}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class RequestLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What the log says of one request: sizes and times, and no text by itself. Times in milliseconds."""

    time: str = ""
    level: str = ""
    logger: str = ""
    message: str = ""
    request_id: str
    method: str
    code: str = ""
    reason: str = ""
    model: str = ""
    client: str = ""
    trace_id: str = ""
    texts: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    steps: int = 0
    finish_reason: str = ""
    """Of each text's best candidate; different ones with commas."""
    queue_ms: float = 0.0
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
    source_texts: list[str] = []
    target_texts: list[str] = []
    """Both are empty unless the operator wants them; the best translations."""


class RequestLog:
    """Writes the line of each request by itself: a log record costs several times what a line does."""

    def __init__(self, stream: TextIO, *, text: bool, enabled: bool) -> None:
        self._stream = stream
        self._encode = _as_text if text else msgspec.json.Encoder().encode
        self._enabled = enabled
        self._second = (0, "")

    def write(self, line: RequestLine) -> None:
        """Write one line."""
        if not self._enabled:
            return
        now = time.time()
        second = int(now)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        line.time = f"{self._second[1]}.{int((now - second) * 1e3):03d}Z"
        line.level, line.logger, line.message = "INFO", __name__, "request"
        self._stream.write(self._encode(line).decode() + "\n")
        self._stream.flush()


def configure(log_format: str, level: str, stream: TextIO) -> RequestLog:
    """Send this service's logs from `level` on, and warnings of the libraries, to the stream."""
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    handler.addFilter(Discreet())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    service = logging.getLogger("service")
    service.setLevel(level.upper())
    return RequestLog(stream, text=text, enabled=service.isEnabledFor(logging.INFO))


def _as_text(line: RequestLine) -> bytes:
    fields = {name: getattr(line, name) for name in line.__struct_fields__[6:]}
    shown = "".join(f" {name}={_shown(value)}" for name, value in fields.items() if value)
    return f"{line.time[11:-1]} {line.level:<7} {line.method} request_id={line.request_id}{shown}".encode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text else text
