"""Real certificates and tokens: right, wrong, expired, read anew; and quotas that hold."""

import datetime
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service import cli
from service.clients import token_digest
from service.rpc.channel import Connection
from service.rpc.probe import probe
from service.rpc.status import read_details
from tests.serving import LiveServer, loaded, reversing, wait_until

TOKEN = "a-long-random-token"  # noqa: S105  of these tests alone
CODES = grpc.StatusCode


class Keys:
    """An authority, and the files of a server and of its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.issue("server", "localhost", "127.0.0.1")
        self.authority_file = folder / "authority.pem"
        self.authority.cert_pem.write_to_path(self.authority_file)

    def issue(self, name: str, *identities: str, authority: trustme.CA | None = None, valid_days: int = 1) -> None:
        """Write NAME.pem and NAME.key, all at once as a mounted secret is written."""
        now = datetime.datetime.now(datetime.UTC)
        issued = (authority or self.authority).issue_cert(
            *identities,
            common_name=name,
            not_before=now - datetime.timedelta(days=10),
            not_after=now + datetime.timedelta(days=valid_days),
        )
        parts = {"key": issued.private_key_pem, "pem": issued.cert_chain_pems[0]}
        for suffix, blob in parts.items():
            blob.write_to_path(self.folder / f"new.{suffix}")
        for suffix in parts:
            os.replace(self.folder / f"new.{suffix}", self.folder / f"{name}.{suffix}")  # noqa: PTH105

    def settings(self, *, mutual: bool = False) -> dict[str, Path]:
        """Return the settings of a server with these keys."""
        found = {"tls_certificate": self.folder / "server.pem", "tls_key": self.folder / "server.key"}
        return found | ({"tls_client_authority": self.authority_file} if mutual else {})

    def connection(self, live: LiveServer, client: str | None = None, token: Path | None = None) -> Connection:
        """Return a client's way to the server, by a new connection."""
        certificate, key = (self.folder / f"{client}.pem", self.folder / f"{client}.key") if client else (None, None)
        return Connection(live.ready.address, self.authority_file, certificate, key, token)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Make keys."""
    return Keys(tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Write a good token."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def clients_file(folder: Path, text: str) -> Path:
    """Write the file of clients; DIGEST stands for the good token's."""
    path = folder / "clients.yaml"
    fresh = folder / "clients.new"
    fresh.write_text(text.replace("DIGEST", token_digest(TOKEN)))
    fresh.replace(path)
    return path


def outcome(connection: Connection, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode:
    """Return how a translation over a new connection ends."""
    with connection.open() as channel:
        stub = translation_pb2_grpc.TranslationServiceStub(channel)
        try:
            stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=10.0, metadata=metadata)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return CODES.OK


def test_tls(keys: Keys) -> None:
    """Who trusts the authority is served; plain text and another authority are not."""
    (keys.folder / "other").mkdir()
    other = Keys(keys.folder / "other")
    with LiveServer([loaded(reversing())], **keys.settings()) as live:
        right = keys.connection(live)
        wrong = Connection(live.ready.address, other.authority_file)
        assert [CODES.OK, CODES.UNAVAILABLE, CODES.UNAVAILABLE] == [
            outcome(right), outcome(wrong), outcome(Connection(live.ready.address))
        ]  # fmt: skip
        assert "SERVING" == probe(right, "", 10.0)
        assert probe(wrong, "", 10.0).startswith("UNAVAILABLE: ")


def test_mutual_tls(keys: Keys) -> None:
    """A certificate of the authority is let in; none, an expired one, and one of another authority are not."""
    keys.issue("good", "good.example")
    keys.issue("expired", "good.example", valid_days=-1)
    keys.issue("stranger", "good.example", authority=trustme.CA())
    with LiveServer([loaded(reversing())], **keys.settings(mutual=True)) as live:
        found = {name: outcome(keys.connection(live, name)) for name in ("good", "expired", "stranger", None)}
    assert {
        "good": CODES.OK,
        "expired": CODES.UNAVAILABLE,
        "stranger": CODES.UNAVAILABLE,
        None: CODES.UNAVAILABLE,
    } == found


def test_certificates_are_read_anew(keys: Keys) -> None:
    """A renewed certificate serves the next connection; a broken one changes nothing, and the log says so."""
    keys.issue("server", "localhost", "127.0.0.1", valid_days=-1)
    with LiveServer([loaded(reversing())], **keys.settings()) as live:
        expired = outcome(keys.connection(live))
        keys.issue("server", "localhost", "127.0.0.1")
        renewed = outcome(keys.connection(live))
        (keys.folder / "server.pem").write_text("no certificate")
        broken = outcome(keys.connection(live))
        messages = [line["message"] for line in live.log_lines()]
    assert [CODES.UNAVAILABLE, CODES.OK, CODES.OK] == [expired, renewed, broken]
    assert "certificates read anew" in messages
    assert "the certificates changed and cannot be used; the old ones stay" in messages


def test_a_client_authority_is_read_anew(keys: Keys) -> None:
    """Whom the new authority signed is let in from then on, and whom the old one signed is not."""
    other, file = trustme.CA(), keys.folder / "clients.pem"
    keys.issue("before", "good.example")
    keys.issue("after", "good.example", authority=other)
    keys.authority.cert_pem.write_to_path(file)
    with LiveServer([loaded(reversing())], **(keys.settings() | {"tls_client_authority": file})) as live:
        first = [outcome(keys.connection(live, name)) for name in ("before", "after")]
        other.cert_pem.write_to_path(file)
        second = [outcome(keys.connection(live, name)) for name in ("before", "after")]
    assert [CODES.OK, CODES.UNAVAILABLE] == first
    assert [CODES.UNAVAILABLE, CODES.OK] == second


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((("authorization", f"Bearer {TOKEN}"),), CODES.OK),
        ((("authorization", f"bearer {TOKEN}"),), CODES.OK),
        ((("authorization", f"Bearer {TOKEN}x"),), CODES.UNAUTHENTICATED),
        ((("authorization", f"Basic {TOKEN}"),), CODES.UNAUTHENTICATED),
        ((("authorization", ""),), CODES.UNAUTHENTICATED),
        ((), CODES.UNAUTHENTICATED),
    ],
)
def test_tokens(tmp_path: Path, metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode) -> None:
    """A known token is let in, anything else is UNAUTHENTICATED; the log has the client's name and never a token."""
    clients = clients_file(tmp_path, "web: {token_sha256: [DIGEST]}")
    with LiveServer([loaded(reversing())], clients=clients) as live:
        assert code is outcome(Connection(live.ready.address), metadata)
        log = live.log.getvalue()
    assert (code is CODES.OK) == ('"client":"web"' in log)
    assert TOKEN not in log


def test_a_token_over_tls(keys: Keys, token: Path) -> None:
    """The command line's way: the authority and a file with the token."""
    clients = clients_file(keys.folder, "web: {token_sha256: [DIGEST]}")
    with LiveServer([loaded(reversing())], clients=clients, **keys.settings()) as live:
        assert [CODES.OK, CODES.UNAUTHENTICATED] == [
            outcome(keys.connection(live, token=token)), outcome(keys.connection(live))
        ]  # fmt: skip


def test_the_command_line_over_tls(keys: Keys, token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dragoman translate` and `dragoman models` with an authority and a token; without, they say what is missing."""
    clients = clients_file(keys.folder, "web: {token_sha256: [DIGEST]}")
    with LiveServer([loaded(reversing())], clients=clients, **keys.settings()) as live:
        trust = ["--server", live.ready.address, "--tls-authority", str(keys.authority_file)]
        assert 0 == cli.main(["translate", *trust, "--token-file", str(token), "abc"])
        assert 0 == cli.main(["models", *trust, "--token-file", str(token)])
        assert "cba" == capsys.readouterr().out.splitlines()[0]
        assert 1 == cli.main(["translate", *trust, "abc"])
        assert "[UNAUTHENTICATED, request " in capsys.readouterr().err


def test_names_in_certificates(keys: Keys) -> None:
    """With mutual TLS, the name in a certificate says who it is; the authority alone is not enough."""
    clients = clients_file(keys.folder, "batch: {certificate: batch.example}")
    keys.issue("batch", "batch.example")
    keys.issue("other", "other.example")
    with LiveServer([loaded(reversing())], clients=clients, **keys.settings(mutual=True)) as live:
        assert CODES.OK is outcome(keys.connection(live, "batch"))
        assert CODES.UNAUTHENTICATED is outcome(keys.connection(live, "other"))


def test_clients_are_read_anew(tmp_path: Path) -> None:
    """A new token is good within a second or so, the one that is gone is not; a broken file changes nothing."""
    clients = clients_file(tmp_path, "web: {token_sha256: [DIGEST]}")
    with LiveServer([loaded(reversing())], clients=clients) as live:
        here = Connection(live.ready.address)
        old, new = ((("authorization", f"Bearer {value}"),) for value in (TOKEN, "new"))
        assert [CODES.OK, CODES.UNAUTHENTICATED] == [outcome(here, old), outcome(here, new)]
        clients_file(tmp_path, f"web: {{token_sha256: [{token_digest('new')}]}}")
        wait_until(lambda: outcome(here, new) is CODES.OK, "the new token is known")
        assert CODES.UNAUTHENTICATED is outcome(here, old)
        clients_file(tmp_path, "web: [")
        wait_until(lambda: outcome(here, new) is CODES.OK and "the old one stays" in live.log.getvalue(), "it is seen")


def check_health(live: LiveServer) -> grpc.StatusCode:
    """Return how a health check without a token ends."""
    try:
        live.health()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return CODES.OK


@pytest.mark.parametrize(("access", "code"), [("open", CODES.OK), ("clients", CODES.UNAUTHENTICATED)])
def test_health_is_open_by_choice(tmp_path: Path, access: str, code: grpc.StatusCode) -> None:
    """On the gRPC port as one wants it; on a port of its own, in plain text, it always is."""
    clients = clients_file(tmp_path, "web: {token_sha256: [DIGEST]}")
    with LiveServer([loaded(reversing())], clients=clients, health_access=access, health_port=0) as live:
        assert code is check_health(live)
        assert live.ready.health_address is not None
        assert "SERVING" == probe(Connection(live.ready.health_address), "", 10.0)


@pytest.mark.parametrize(("mode", "code"), [("development", CODES.OK), ("production", CODES.UNIMPLEMENTED)])
def test_reflection_is_for_development(mode: str, code: grpc.StatusCode) -> None:
    """In production nobody can ask what there is to call."""
    with LiveServer([loaded(reversing())], mode=mode) as live:
        reflect: Callable[..., Iterator[Any]] = live.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        call: Any = reflect(iter([b"\x3a\x00"]), timeout=10.0)
        found = CODES.OK
        try:
            next(call)
        except grpc.RpcError as error:
            found = error.code()
        assert code is found


def test_a_quota_refuses_with_the_time_to_wait(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo for who has used his share; another client is served."""
    text = "web: {token_sha256: [DIGEST], requests_per_second: 1}\nother: {token_sha256: [" + token_digest("b") + "]}"
    with LiveServer([loaded(reversing())], clients=clients_file(tmp_path, text)) as live:
        web, other = ((("authorization", f"Bearer {value}"),) for value in (TOKEN, "b"))
        errors = []
        for _ in range(5):
            try:
                live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=10.0, metadata=web)
            except grpc.RpcError as error:
                errors.append(error)
        live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=10.0, metadata=other)
        details = read_details(errors[0].trailing_metadata())
        assert {CODES.RESOURCE_EXHAUSTED} == {error.code() for error in errors}
        assert "QUOTA_EXCEEDED" == details.reason
        assert details.retry_after is not None
        assert 0 < details.retry_after <= 2


def test_a_message_beyond_the_limit(tmp_path: Path) -> None:
    """The bound on a message's size is a setting."""
    with LiveServer([loaded(reversing())], max_message_bytes=2048) as live:
        with pytest.raises(grpc.RpcError) as caught:
            live.stub.Translate(pb.TranslateRequest(texts=["a" * 4096]), timeout=10.0)
        assert CODES.RESOURCE_EXHAUSTED is caught.value.code()
        assert ["cba"] == live.translate("abc")
        assert health_pb2.HealthCheckResponse.SERVING == health_pb2.HealthCheckResponse.ServingStatus.Value(
            live.health()
        )
