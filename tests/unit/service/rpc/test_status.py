"""Errors there and back: what the server writes is what the client reads."""

import grpc
import pytest

from service import errors
from service.rpc.status import (
    DETAILS_KEY,
    Details,
    about,
    duration,
    read_details,
    status_code,
    status_details,
    status_details_again,
)


def test_every_code_is_one_of_grpc() -> None:
    """The names are the same."""
    for code in errors.Code:
        assert isinstance(grpc.StatusCode[code.name], grpc.StatusCode)
    assert grpc.StatusCode.NOT_FOUND is status_code(errors.ModelNotFoundError("which?"))


def test_details_survive_the_way() -> None:
    """Reason, metadata, the field at fault, and the time after which to retry."""
    metadata = about("r", "toy")
    read = read_details([(DETAILS_KEY, status_details(errors.InvalidRequestError("texts[1]", "is empty"), metadata))])
    assert Details("INVALID_REQUEST", metadata, "texts[1]", None) == read
    read = read_details([(DETAILS_KEY, status_details(errors.OverloadedError("full", retry_after=1.5), {}))])
    assert Details("OVERLOADED", {}, "", 1.5) == read


@pytest.mark.parametrize("model", ["", "toy"])
def test_what_others_were_told_is_told_again(model: str) -> None:
    """With the id of each, short or long; what differs is written anew."""
    for error in (errors.OverloadedError("full", retry_after=1.5), errors.OverloadedError("fuller", retry_after=0.1)):
        for request_id in ("a", "b", "x" * 64, "y" * 64, "0123456789abcdef"):
            read = read_details([(DETAILS_KEY, status_details_again(error, request_id, model))])
            assert Details("OVERLOADED", about(request_id, model), "", error.retry_after) == read


@pytest.mark.parametrize("trailing", [None, [], [("other", "x")], [(DETAILS_KEY, b"\xff\xff")]])
def test_servers_that_say_nothing(trailing: list[tuple[str, object]] | None) -> None:
    """Then nothing is read."""
    assert Details() == read_details(trailing)


def test_durations() -> None:
    """Seconds and nanoseconds; never negative."""
    assert (1, 500_000_000) == (duration(1.5).seconds, duration(1.5).nanos)
    assert (0, 0) == (duration(-0.1).seconds, duration(-0.1).nanos)
