"""What a hostile client says in HTTP/2 over a connection of its own: a table of abuses, each of them bytes."""

import random
from collections.abc import Callable, Mapping

from tests.hostile import frames as h2
from tests.hostile.frames import END_HEADERS, END_STREAM, call_fields, frame, headers, literal, message, setting

HELLO = h2.PREFACE + frame(h2.SETTINGS, 0, 0)
BIG = 1 << 10
STRANGE_FIELDS: tuple[tuple[bytes, bytes], ...] = (
    (b"grpc-timeout", b"99999999H"), (b"grpc-timeout", b"-1S"), (b"grpc-timeout", b""), (b"grpc-timeout", b"1y"),
    (b"grpc-timeout", b"0n"), (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"nonsense"), (b"te", b"gzip"),
    (b"content-type", b"text/html"), (b"content-type", b""), (b"X-Upper", b"a"), (b"", b""), (b":path", b"/twice"),
    (b":unknown", b"1"), (b"x-late", b"\x00\r\n"), (b"content-length", b"5"), (b"x-a-bin", b"!!!not base64!!!"),
    (b"connection", b"upgrade"), (b"transfer-encoding", b"chunked"), (b"x-\xff", b"\xff\xfe"), (b"host", b"\x00"),
    (b"grpc-accept-encoding", b"," * 500), (b":status", b"200"), (b"cookie", b"a=b; " * 300),
)  # fmt: skip


def rapid_reset(chance: random.Random) -> bytes:
    """Open streams and reset each at once (CVE-2023-44487)."""
    call = h2.translate("가나다")
    return b"".join(
        h2.whole_call(2 * number + 1, call) + frame(h2.RST_STREAM, 0, 2 * number + 1, (8).to_bytes(4))
        for number in range(chance.randint(20, 300))
    )


def settings_flood(chance: random.Random) -> bytes:
    """Send settings without end, which all want to be acknowledged."""
    return setting(chance.choice((1, 3, 4, 5, 6)), chance.choice((0, 16384, 65535))) * chance.randint(50, 800)


def ping_flood(chance: random.Random) -> bytes:
    """Ask for echoes without end."""
    return frame(h2.PING, 0, 0, bytes(8)) * chance.randint(20, 800)


def window_games(chance: random.Random) -> bytes:
    """Move windows by nothing, by too much, and close them."""
    call = h2.whole_call(1, h2.translate("가나다", return_attention=True))
    moves = [frame(h2.WINDOW_UPDATE, 0, chance.choice((0, 1)), chance.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4))
             for _ in range(chance.randint(1, 20))]  # fmt: skip
    window = setting(h2.INITIAL_WINDOW, chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
    return window + call + b"".join(moves)


def half_open(chance: random.Random) -> bytes:
    """Open streams and send no message, or half of one."""
    begun = message(h2.translate("가나다"))[: chance.randint(0, 9)]
    method = chance.choice(("Translate", "StreamTranslate", "TranslateSegments"))
    return b"".join(
        headers(2 * number + 1, call_fields(method)) + (frame(h2.DATA, 0, 2 * number + 1, begun) if begun else b"")
        for number in range(chance.randint(1, 60))
    )


def huge_headers(chance: random.Random) -> bytes:
    """Send header fields of more bytes than are taken, in one frame or in many fields."""
    size = chance.choice((9_000, 15_000, 16_300))
    many = [*call_fields(), *((b"x-%d" % number, b"a" * 40) for number in range(size // 50))]
    fields = chance.choice(([*call_fields(), (b"x-huge", b"a" * size)], many))
    return headers(1, fields, END_HEADERS | END_STREAM)


def continuations(chance: random.Random) -> bytes:
    """Go on with header fields for ever (CVE-2024-27316), or with something else in between."""
    more = literal(b"x-more", b"a" * 1000)
    opening = headers(1, call_fields(), 0)
    go_on = frame(h2.CONTINUATION, 0, 1, more) * chance.randint(1, 200)
    between = chance.choice((b"", frame(h2.PING, 0, 0, bytes(8)), frame(h2.CONTINUATION, END_HEADERS, 3, more)))
    return opening + go_on + between


def header_bomb(chance: random.Random) -> bytes:
    """Put one large field into the table and name it again and again."""
    table = literal(b"x-bomb", b"a" * 4000, indexed=True)
    block = b"".join(literal(name, value) for name, value in call_fields()) + table + b"\xbe" * chance.randint(10, 9000)
    return frame(h2.HEADERS, END_HEADERS | END_STREAM, 1, block)


def any_frames(chance: random.Random) -> bytes:
    """Send frames of any kind in any order."""
    return b"".join(h2.any_frame(chance) for _ in range(chance.randint(1, 40)))


def mixed_frames(chance: random.Random) -> bytes:
    """Put any frames among those of a proper call."""
    call = h2.whole_call(1, h2.translate("가나다"))
    return h2.any_frame(chance) + call + h2.any_frame(chance) + frame(h2.DATA, END_STREAM, 1, b"x") + call


def strange_fields(chance: random.Random) -> bytes:
    """Open streams with fields that may not be, twice, or missing."""
    opened = b""
    for number in range(chance.randint(1, 8)):
        fields = [*call_fields(), *chance.sample(STRANGE_FIELDS, chance.randint(1, 3))]
        if chance.random() < 0.5:
            del fields[chance.randrange(len(call_fields()))]
        opened += headers(2 * number + 1, fields)
        opened += frame(h2.DATA, END_STREAM, 2 * number + 1, message(h2.translate("가나다")))
    return opened


def lying_messages(chance: random.Random) -> bytes:
    """Send gRPC messages whose prefix lies, two where one belongs, compressed ones that are not."""
    data = h2.translate("가나다")
    payload = chance.choice((
        message(data, length=2**32 - 1), message(data, length=len(data) + 9), message(data, length=3),
        message(data, compressed=1), message(data, compressed=255), message(data) * 2, b"", b"\x00" * 4,
        message(data)[:-2],
    ))  # fmt: skip
    method = chance.choice(("Translate", "StreamTranslate", "TranslateSegments", "ListModels"))
    return headers(1, call_fields(method)) + frame(h2.DATA, chance.choice((0, END_STREAM)), 1, payload)


def crumbs(chance: random.Random) -> bytes:
    """Send a message in frames of one byte, and empty ones in between."""
    crumbled = message(h2.translate("가나다" * chance.randint(1, 20)))
    parts = [frame(h2.DATA, 0, 1, bytes([byte])) + frame(h2.DATA, 0, 1) * 5 for byte in crumbled]
    return headers(1, call_fields()) + b"".join(parts) + frame(h2.DATA, END_STREAM, 1)


def unread_answers(chance: random.Random) -> bytes:
    """Ask for large answers and let none of them through."""
    calls = (h2.whole_call(2 * number + 1, h2.translate("가나다 " * 20, return_attention=True)) for number in range(8))
    return setting(h2.INITIAL_WINDOW, chance.choice((0, 1, 7))) + b"".join(calls)


ABUSES: Mapping[str, Callable[[random.Random], bytes]] = {
    function.__name__.replace("_", " "): function
    for function in (
        rapid_reset, settings_flood, ping_flood, window_games, half_open, huge_headers, continuations, header_bomb,
        any_frames, mixed_frames, strange_fields, lying_messages, crumbs, unread_answers,
    )
}  # fmt: skip
