"""HTTP/2 as bytes (RFC 9113, RFC 7541), with no check that would keep anybody from writing what may not be."""

import random

from dragoman.v1 import translation_pb2 as pb
from tests.hostile.messages import SERVICE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
NAMES = ("data", "headers", "priority", "reset", "settings", "promise", "ping", "goodbye", "window", "continuation")
INITIAL_WINDOW = 4
"""The setting of how much may be sent on a stream before its reader has read."""

Fields = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Return a frame; `length` where it is to say another than it has."""
    size = len(payload) if length is None else length
    return size.to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def setting(name: int, value: int) -> bytes:
    """Return a frame of settings with one of them."""
    return frame(SETTINGS, 0, 0, name.to_bytes(2) + value.to_bytes(4))


def integer(value: int, bits: int, first: int) -> bytes:
    """Return a number with a prefix of so many bits, below the bits of `first` (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    written, value = bytearray([first | most]), value - most
    while value >= 128:
        written.append(value % 128 + 128)
        value //= 128
    return bytes([*written, value])


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """Return a header field in full, kept in the dynamic table or not (RFC 7541, section 6.2)."""
    return b"".join([b"\x40" if indexed else b"\x00", integer(len(name), 7, 0), name, integer(len(value), 7, 0), value])


def call_fields(method: str = "Translate") -> Fields:
    """Return the header fields of a proper gRPC call."""
    return [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", (SERVICE + method).encode()),
        (b":authority", b"localhost"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip


def headers(stream: int, fields: Fields, flags: int = END_HEADERS) -> bytes:
    """Return the frame that opens a stream."""
    return frame(HEADERS, flags, stream, b"".join(literal(name, value) for name, value in fields))


def message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """Return a gRPC message with its prefix, which may lie."""
    return bytes([compressed]) + (len(data) if length is None else length).to_bytes(4) + data


def translate(text: str, **options: object) -> bytes:
    """Return the bytes of a request for one text."""
    asked = pb.TranslateRequest(texts=[text], options=pb.DecodingOptions(**options))  # type: ignore[arg-type]
    return asked.SerializeToString()


def whole_call(stream: int, data: bytes) -> bytes:
    """Return all frames of a call with one message."""
    return headers(stream, call_fields()) + frame(DATA, END_STREAM, stream, message(data))


def kinds(data: bytes) -> list[str]:
    """Return the names of the frames that were received whole."""
    found = []
    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
        found.append(NAMES[data[3]] if data[3] < len(NAMES) else "unknown")
        data = data[9 + int.from_bytes(data[:3]) :]
    return found


def any_frame(chance: random.Random) -> bytes:
    """Return a frame of any type, with any flags, on any stream; sometimes longer or shorter than it says."""
    payload = chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 9, 40, 300)))
    length = chance.choice((None, None, None, 0, len(payload) + 5, (1 << 24) - 1))
    stream = chance.choice((0, 1, 1, 3, 2, (1 << 31) - 1, (1 << 32) - 1))
    return frame(chance.randrange(12), chance.randrange(256), stream, payload, length)
