"""How a client reaches a server: in plain text, or by TLS with a certificate and a token of its own."""

import argparse
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
        if self.authority is None:
            if self.certificate or self.key or self.token:
                raise StartupError("a certificate and a token are sent over TLS only; give --tls-authority too")
            return grpc.insecure_channel(self.server)
        credentials = grpc.ssl_channel_credentials(_read(self.authority), _read(self.key), _read(self.certificate))
        if self.token is not None:
            text = (_read(self.token) or b"").decode().strip()
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(text))
        return grpc.secure_channel(self.server, credentials)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise StartupError(f"{path} cannot be read ({error.strerror})") from error
