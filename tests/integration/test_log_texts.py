"""Texts in the log: never by themselves, always where the operator wants them."""

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from tests.serving import LiveServer, loaded, reversing

TEXT, TRANSLATION = "abcdef", "fedcba"


def drive(live: LiveServer) -> str:
    """Use every method, with good texts and bad ones; return all that was logged."""
    live.translate(TEXT, "ab")
    with pytest.raises(grpc.RpcError):
        live.translate(TEXT, model="made-up")
    list(live.stub.StreamTranslate(pb.StreamTranslateRequest(text=TEXT), timeout=20.0))
    segments = [pb.TranslateSegmentsRequest(segment_id=name, text=TEXT) for name in ("1", "2")]
    list(live.stub.TranslateSegments(iter(segments), timeout=20.0))
    return live.log.getvalue()


def test_no_text_is_logged() -> None:
    """Whatever becomes of a request."""
    with LiveServer([loaded(reversing())]) as live:
        logged = drive(live)
    assert 4 == logged.count('"request_id"')
    assert [] == [text for text in (TEXT, TRANSLATION, "source_texts", "LOG") if text in logged]


def test_texts_are_logged_where_they_are_wanted() -> None:
    """With their translations, also those of refused requests; a warning says so when the server starts."""
    with LiveServer([loaded(reversing())], log_texts="always") as live:
        drive(live)
        warning, *lines = live.log_lines()
    assert ("WARNING", True) == (warning["level"], "TEXTS AND TRANSLATIONS ENTER THE LOG" in warning["message"])
    assert [[TEXT, "ab"], [TEXT], [TEXT], [TEXT, TEXT]] == [line["source_texts"] for line in lines]
    assert [[TRANSLATION, "ba"], [], [TRANSLATION], [TRANSLATION] * 2] == [
        line.get("target_texts", []) for line in lines
    ]
