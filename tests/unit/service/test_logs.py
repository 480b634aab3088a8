"""Log lines for machines and for people."""

import io
import json
import logging

import pytest

from service import logs


def lines(log_format: str, level: str = "info") -> list[str]:
    """Log a message with fields, one with a traceback, and a request; return what was written."""
    stream = io.StringIO()
    requests = logs.configure(log_format, level, stream)
    logger = logging.getLogger("service.test")
    logger.info("ready", extra={logs.FIELDS: {"port": 1, "seconds": 0.25, "note": "two words"}})
    try:
        raise ValueError("a cause")
    except ValueError:
        logger.exception("failed")
    requests.write(logs.RequestLine(request_id="r", method="Translate", code="OK", texts=2, total_ms=1.5))
    logging.getLogger("a.library").info("chatter")
    return stream.getvalue().splitlines()


def test_json() -> None:
    """One object a line; where there is no terminal, without being asked."""
    for log_format in ("json", "auto"):
        ready, failed, request = map(json.loads, lines(log_format))
        assert ("INFO", "ready", 1, "two words") == (ready["level"], ready["message"], ready["port"], ready["note"])
        assert "ValueError: a cause" in failed["error"]
        assert {"time", "level", "logger", "message", "method", "request_id", "code", "texts", "total_ms"} == (
            request.keys()
        )
        assert ready["time"].endswith("Z")
        assert len(ready["time"]) == len(request["time"])


def test_text() -> None:
    """key=value behind the message, a traceback below."""
    written = lines("text")
    assert written[0].endswith('INFO    ready port=1 seconds=0.25 note="two words"')
    assert written[1].endswith("ERROR   failed")
    assert written[-1].endswith("INFO    Translate request_id=r code=OK texts=2 total_ms=1.5")


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 3), ("warning", 1)])
def test_level(level: str, count: int) -> None:
    """Requests are INFO; libraries are heard from WARNING on."""
    assert count == len(lines("json", level))


def test_what_clients_sent_wrong_stays_out() -> None:
    """gRPC logs values that are no text, tokens among them, and calls that broke off; its own troubles are heard."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    library = logging.getLogger("grpc._cython.cygrpc")
    try:
        b"a secret \xff".decode()
    except UnicodeDecodeError:
        library.exception("Invalid encoding on %s", b"a secret \xff")
    try:
        raise RuntimeError("its own trouble")
    except RuntimeError:
        library.exception("Unexpected")
    written = stream.getvalue()
    assert "a secret" not in written
    assert "its own trouble" in written
