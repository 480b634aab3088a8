"""What a server tells its surroundings, and how a worker tells its parent: messages, each behind its length."""

import asyncio
import dataclasses
import socket
import struct
from typing import TypeAlias

import msgspec

from service.config import Settings
from service.pages import Family

LENGTH = struct.Struct(">I")


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """What a server that serves tells its surroundings."""

    address: str
    metrics_url: str
    models: list[str]
    health_address: str | None = None


class Beat(msgspec.Struct, tag=True, frozen=True):
    """How a worker is, again and again. Not alive: it will never serve again."""

    ready: bool
    alive: bool
    page: list[Family]
    """Its metrics."""


class Serving(msgspec.Struct, tag=True, frozen=True):
    """A worker serves these models."""

    models: list[str]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """A worker cannot start, and why."""

    reason: str


Message: TypeAlias = Beat | Serving | Failed


def packed(message: Message | Settings) -> bytes:
    """Return the message as it travels."""
    data = msgspec.msgpack.encode(message, enc_hook=str)
    return LENGTH.pack(len(data)) + data


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """Return a worker's next message; None: it has ended."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        message: Message = msgspec.msgpack.decode(await reader.readexactly(length), type=Message)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return message


def receive_settings(parent: socket.socket) -> Settings:
    """Wait for a worker's settings, the one thing that its parent tells it."""
    (length,) = LENGTH.unpack(parent.recv(LENGTH.size, socket.MSG_WAITALL))
    data = parent.recv(length, socket.MSG_WAITALL)
    settings: Settings = msgspec.msgpack.decode(data, type=Settings, dec_hook=lambda kind, text: kind(text))
    return settings
