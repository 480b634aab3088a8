"""How a client reaches a server: in plain text, or by TLS with a certificate and a token of its own."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.errors import StartupError


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a server is, and what a client shows it. `authority`: a PEM file of who signed the server's certificate."""

    server: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None
    """A file with the token: an argument would stand in the list of processes."""

    @classmethod
    def from_arguments(cls, given: argparse.Namespace) -> "Connection":
        """Read what a client command was given."""
        return cls(given.server, given.tls_authority, given.tls_certificate, given.tls_key, given.token_file)

    def open(self) -> grpc.Channel:
        """Return a channel, which connects at its first call; raises StartupError."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.server)
        return grpc.secure_channel(self.server, credentials)

    def open_many(self, count: int, options: Sequence[tuple[str, int]]) -> list[grpc.aio.Channel]:
        """Return asynchronous channels, each with its own connection; raises StartupError."""
        credentials = self._credentials()
        apart = [*options, ("grpc.use_local_subchannel_pool", 1)]
        if credentials is None:
            return [grpc.aio.insecure_channel(self.server, options=apart) for _ in range(count)]
        return [grpc.aio.secure_channel(self.server, credentials, options=apart) for _ in range(count)]

    def _credentials(self) -> grpc.ChannelCredentials | None:
        """Return what TLS needs; None: plain text."""
        if self.authority is None:
            if self.certificate or self.key or self.token:
                raise StartupError("a certificate and a token are sent over TLS only; give --tls-authority too")
            return None
        credentials = grpc.ssl_channel_credentials(_read(self.authority), _read(self.key), _read(self.certificate))
        if self.token is not None:
            text = (_read(self.token) or b"").decode().strip()
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(text))
        return credentials


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise StartupError(f"{path} cannot be read ({error.strerror})") from error
