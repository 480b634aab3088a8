"""The file of clients, and quotas on a clock that the tests move."""

from pathlib import Path

import pytest

from service.clients import Bucket, Clients, Entry, read_clients, token_digest
from service.config import SettingError
from service.errors import QuotaExceededError, UnauthenticatedError

GOOD = "a" * 64


class Clock:
    """Time that stands still."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(("rate", "offered"), [(5.0, 50.0), (50.0, 51.0), (200.0, 1000.0), (3.0, 2.0), (0.5, 7.0)])
def test_requests_per_second_hold_within_five_percent(rate: float, offered: float) -> None:
    """Over a hundred seconds behind the first, a client gets its rate or what it asks, whichever is less."""
    clock = Clock()
    client = Clients({"web": Entry((GOOD,), requests_per_second=rate)}, clock).by_digest(GOOD)
    admitted = 0
    for number in range(int(101 * offered)):
        clock.now = 50.0 + number / offered
        try:
            client.admit(10, clock.now)
        except QuotaExceededError:
            continue
        admitted += clock.now >= 51.0
    assert pytest.approx(100 * min(rate, offered), rel=0.05) == admitted


@pytest.mark.parametrize("size", [1, 30, 4000])
def test_characters_per_second_hold_within_five_percent(size: int) -> None:
    """Whatever the size of the requests, larger than a second's worth among them."""
    clock = Clock()
    client = Clients({"web": Entry((GOOD,), characters_per_second=1000)}, clock).by_digest(GOOD)
    admitted, seconds = 0, 400
    for tick in range(int(seconds * 1000 / size) * 2):
        clock.now = 50.0 + tick * size / 2000
        try:
            client.admit(size, clock.now)
        except QuotaExceededError:
            continue
        admitted += size
    assert pytest.approx(1000 * seconds, rel=0.05) == admitted


def test_the_time_to_wait_is_enough() -> None:
    """After what the refusal says, and no earlier, the next one is let in."""
    client = Clients({"web": Entry((GOOD,), requests_per_second=4)}, Clock()).by_digest(GOOD)
    for _ in range(4):
        client.admit(0, 50.0)
    with pytest.raises(QuotaExceededError, match=r"web may send 4 requests per second; retry after 0\.250 s") as caught:
        client.admit(0, 50.0)
    with pytest.raises(QuotaExceededError):
        client.admit(0, 50.2)
    assert 0.25 == caught.value.retry_after
    assert client is client.admit(0, 50.25)


def test_calls_in_flight_are_bounded() -> None:
    """One more is let in when one has ended."""
    client = Clients({"web": Entry((GOOD,), in_flight=1)}, Clock()).by_digest(GOOD)
    with client.admit(0, 0.0), pytest.raises(QuotaExceededError, match="1 calls in flight"):
        client.admit(0, 0.0)
    assert 0 == client.in_flight
    assert client is client.admit(0, 0.0)


def test_a_refused_request_costs_nothing() -> None:
    """Characters are not charged to a request that comes too early."""
    client = Clients({"web": Entry((GOOD,), requests_per_second=1, characters_per_second=100)}, Clock()).by_digest(GOOD)
    client.admit(50, 50.0)
    with pytest.raises(QuotaExceededError, match="requests"):
        client.admit(50, 50.0)
    client.charge(50, 50.0)
    with pytest.raises(QuotaExceededError, match="characters"):
        client.charge(1, 50.0)


def test_a_bucket_holds_one_second_at_most() -> None:
    """A night of silence does not let a flood through in the morning."""
    bucket = Bucket(10.0, 0.0)
    taken = 0
    while not bucket.wait(1, 1e6):
        bucket.take(1)
        taken += 1
    assert 10 == taken


def test_who_stays_in_the_file_keeps_what_it_used() -> None:
    """Reading the file anew is no way around a quota, and calls in flight stay counted; who is gone is unknown."""
    entry = Entry((GOOD,), requests_per_second=1, in_flight=9)
    clients = Clients({"web": entry, "gone": Entry(("b" * 64,))}, lambda: 0.0)
    client = clients.by_digest(GOOD)
    with client.admit(0, 0.0):
        clients.update({"web": Entry((GOOD, "c" * 64), requests_per_second=1)})
        again = clients.by_digest("c" * 64)
        assert (client, 1, 1) == (again, again.in_flight, len(clients))
        with pytest.raises(QuotaExceededError):
            again.admit(0, 0.0)
        with pytest.raises(UnauthenticatedError):
            clients.by_digest("b" * 64)


def test_names_in_certificates() -> None:
    """Any of the names that a certificate has will do."""
    clients = Clients({"web": Entry(certificate="web.example")})
    assert "web" == clients.by_certificate(["a.example", "web.example"]).name
    with pytest.raises(UnauthenticatedError, match="send a token"):
        clients.by_certificate([])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no YAML mapping"),
        ("web: 1", "Expected `object`"),
        ("web: {tokens: []}", "unknown field `tokens`"),
        ("web: {token_sha256: [secret]}", "matching regex"),
        (f"web: {{token_sha256: [{GOOD}], requests_per_second: 0}}", "> 0"),
        (f"'a b': {{token_sha256: [{GOOD}]}}", "matching regex"),
        (f"a: {{token_sha256: [{GOOD}]}}\nb: {{token_sha256: [{GOOD}]}}", "two clients have the same token"),
        ("web: {in_flight: 3}", "web has neither token_sha256 nor certificate"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    """And names the file; the digest of a token is the only form in which it may stand there."""
    path = tmp_path / "clients.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=says) as caught:
        read_clients(path)
    assert str(path) in str(caught.value)


def test_a_right_file(tmp_path: Path) -> None:
    """Everything that a client may have."""
    path = tmp_path / "clients.yaml"
    path.write_text(
        f"web:\n  token_sha256: [{token_digest('a')}]\n  certificate: web.example\n"
        "  requests_per_second: 50\n  characters_per_second: 20000.5\n  in_flight: 64\n"
    )
    assert {"web": Entry((token_digest("a"),), "web.example", 50, 20000.5, 64)} == read_clients(path)
    assert "web" == Clients(read_clients(path)).by_token("a").name
