"""Hostile calls, made by hypothesis: every method with valid and absurd fields, bytes that are no message, metadata."""

import random
from typing import Any, NamedTuple

from google.protobuf.message import Message
from hypothesis import strategies as st

from dragoman.v1 import translation_pb2 as pb

SERVICE = "/dragoman.v1.TranslationService/"
CANARY = "canary-4f1d9c"
"""Stands in texts, names and tokens, and so must stand in no log and no metric."""
Pairs = tuple[tuple[str, str | bytes], ...]


PATIENT = 60.0


class Ask(NamedTuple):
    """One call: its messages as bytes, and how patient the client is."""

    kind: str
    method: str
    streams: tuple[bool, bool]
    """Whether the client sends a stream, and whether the server does."""
    messages: list[bytes]
    metadata: Pairs = ()
    timeout: float = PATIENT
    cancel_after: float | None = None


NASTY = (
    "", " ", "\x00", "\u202e\u2066", "\ufeff", "\uffff", "a\u0301" * 60, "👩‍👩‍👧‍👦" * 4, "." * 99, "。" * 30, "\n" * 50,
    "가" * 99, "x" * 300, "a" * 20_000, CANARY, "<s></s><pad>", "▁▁▁", "%s%n{0}", "'; --", "\x1b[31m", "𠀀𠀁",
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=12), st.text("가나다라 .!?", max_size=20), st.sampled_from(NASTY))
NUMBERS = st.one_of(st.integers(-2, 6), st.sampled_from((64, 65, 4096, 10**6, 2**31 - 1, -(2**31))))
FLOATS = st.one_of(st.floats(0.0, 2.0, width=32), st.floats(width=32))
ENUMS = st.one_of(st.integers(0, 4), st.sampled_from((-1, 77, 2**31 - 1, -(2**31))))
NAMES = st.one_of(
    st.sampled_from(("", "ko-en", "ko-en@1")),
    st.sampled_from(("@", "ko-en@", "ko-en@9", "../../etc/passwd", CANARY, "x" * 3000, "\x00", "한글")),
    st.text(max_size=8),
)
LANGUAGES = st.one_of(st.sampled_from(("", "", "ko", "KO", "en", "tlh", CANARY)), st.text(max_size=4))
SAMPLING = st.fixed_dictionaries(
    {}, optional={"temperature": FLOATS, "top_k": NUMBERS, "top_p": FLOATS, "seed": st.integers(0, 2**64 - 1)}
)
ABSURD: dict[str, st.SearchStrategy[Any]] = {
    "beam_size": NUMBERS, "num_hypotheses": NUMBERS, "length_penalty": FLOATS, "max_target_tokens": NUMBERS,
    "return_attention": st.booleans(), "length_penalty_kind": ENUMS, "patience": FLOATS, "sampling": SAMPLING,
    "no_repeat_ngram_size": NUMBERS, "max_phrase_repeats": NUMBERS, "min_target_tokens": NUMBERS,
    "max_target_ratio": FLOATS, "min_target_ratio": FLOATS, "suppressed_tokens": st.lists(TEXTS, max_size=4),
    "return_alignments": st.booleans(), "segmentation": ENUMS,
}  # fmt: skip
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "beam_size": st.integers(1, 5), "max_target_tokens": st.integers(1, 30), "return_attention": st.booleans(),
    "no_repeat_ngram_size": st.integers(0, 4), "min_target_tokens": st.integers(0, 5),
    "segmentation": st.integers(0, 2),
    "sampling": st.fixed_dictionaries({"temperature": st.floats(0.125, 2.0, width=32), "top_k": st.integers(1, 32)}),
}  # fmt: skip


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a few decoding options: sensible ones, or any."""
    source = draw(st.sampled_from((SENSIBLE, ABSURD)))
    names = draw(st.lists(st.sampled_from(sorted(source)), max_size=3, unique=True))
    return {name: draw(source[name]) for name in names}


COMMON: dict[str, st.SearchStrategy[Any]] = {
    "model": NAMES, "source_language_code": LANGUAGES, "target_language_code": LANGUAGES, "options": options(),
    "priority": ENUMS,
}  # fmt: skip


def optional(required: dict[str, st.SearchStrategy[Any]], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the fields of a request: the required ones, and at most two others."""
    others = COMMON | more

    @st.composite
    def fields(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(sorted(others)), max_size=2, unique=True))
        drawn = {name: draw(strategy) for name, strategy in required.items()}
        short = {} if draw(st.booleans()) else {"options": {"max_target_tokens": draw(st.integers(1, 9))}}
        return short | drawn | {name: draw(others[name]) for name in names}

    return fields()


TEXT_LISTS = st.one_of(st.lists(TEXTS, max_size=3), st.sampled_from(([], ["a"] * 129, [""] * 5, ["b"] * 9)))
TRANSLATE = optional({"texts": TEXT_LISTS}, target_prefixes=st.lists(TEXTS, max_size=4))
STREAM = optional({"text": TEXTS}, target_prefix=TEXTS)
SEGMENT = optional({"text": TEXTS, "segment_id": st.text(max_size=8)}, target_prefix=TEXTS)
METHODS: tuple[tuple[str, tuple[bool, bool], type[Message], st.SearchStrategy[Any]], ...] = (
    (SERVICE + "Translate", (False, False), pb.TranslateRequest, TRANSLATE),
    (SERVICE + "StreamTranslate", (False, True), pb.StreamTranslateRequest, STREAM),
    (SERVICE + "TranslateSegments", (True, True), pb.TranslateSegmentsRequest, SEGMENT),
    (SERVICE + "ListModels", (False, False), pb.ListModelsRequest, st.just({})),
    (SERVICE + "GetModel", (False, False), pb.GetModelRequest, st.fixed_dictionaries({"model": NAMES})),
)
STRANGE = (
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", SERVICE + "Translate2", SERVICE, "/", "//",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/dragoman.v1.ModelService/UnloadModel",
    "/grpc.channelz.v1.Channelz/GetServers", "/" + "x" * 4000,
)  # fmt: skip
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
KEYS = st.sampled_from(("authorization", "x-request-id", "traceparent", "tracestate", "user-agent", "te-x", "x-a"))


@st.composite
def metadata(draw: st.DrawFn) -> Pairs:
    """Draw the metadata of a call: none, some, or too much."""
    match draw(st.integers(0, 9)):
        case 0:
            return tuple(draw(st.lists(st.tuples(KEYS, VALUES), max_size=3)))
        case 1:
            return (("x-a-bin", draw(st.binary(max_size=200))), ("authorization", f"Bearer {CANARY}"))
        case 2:
            return tuple(("x-many", "a" * draw(st.integers(0, 90))) for _ in range(draw(st.integers(1, 120))))
        case _:
            return ()


@st.composite
def field_calls(draw: st.DrawFn) -> Ask:
    """Draw a call of a method of ours, its fields as the proto has them."""
    method, streams, message, fields = draw(st.sampled_from(METHODS))
    count = draw(st.integers(0, 5)) if streams[0] else 1
    messages = [message(**draw(fields)).SerializeToString() for _ in range(count)]
    return Ask("fields", method, streams, messages, draw(metadata()))


@st.composite
def impatient_calls(draw: st.DrawFn) -> Ask:
    """Draw a call whose deadline passes, or that is cancelled."""
    asked = draw(field_calls())
    if draw(st.booleans()):
        return asked._replace(kind="deadlines", timeout=draw(st.sampled_from((-1.0, 0.0, 1e-4, 1e-3, 0.01, 0.05))))
    return asked._replace(kind="cancelled", cancel_after=draw(st.sampled_from((0.0, 1e-3, 0.01, 0.05))))


@st.composite
def wire_calls(draw: st.DrawFn) -> Ask:
    """Draw a call whose bytes are no message of the method, or hardly one."""
    asked = draw(field_calls())
    broken = [_broken(message, draw) for message in asked.messages]
    return asked._replace(kind="wire", messages=broken)


def _broken(message: bytes, draw: st.DrawFn) -> bytes:
    match draw(st.integers(0, 4)):
        case 0:
            return draw(st.binary(max_size=60))
        case 1:
            return b"\x0a\x02\xc3\x28" + message  # field 1, invalid UTF-8
        case 2:
            return message[: draw(st.integers(0, len(message)))]
        case 3:
            at = draw(st.integers(0, len(message)))
            return message[:at] + draw(st.binary(min_size=1, max_size=4)) + message[at + 1 :]
        case _:
            return message + b"\x2b" * draw(st.integers(1, 2000))  # groups within groups


@st.composite
def strange_calls(draw: st.DrawFn) -> Ask:
    """Draw a call of a method that is not ours, or is not there."""
    streams = (draw(st.booleans()), draw(st.booleans()))
    messages = draw(st.lists(st.binary(max_size=20), max_size=3)) if streams[0] else [draw(st.binary(max_size=20))]
    return Ask("strange methods", draw(st.sampled_from(STRANGE)), streams, messages, draw(metadata()), 0.5)


@st.composite
def giant_calls(draw: st.DrawFn) -> Ask:
    """Draw a call with more metadata, or a larger message, than is taken."""
    asked = draw(field_calls())
    if draw(st.integers(0, 5)) == 0 and asked.messages:
        return asked._replace(kind="giant messages", messages=[b"\x0a" * ((4 << 20) + 1)])
    size = draw(st.sampled_from((4 << 10, 15 << 10, 16 << 10, 17 << 10, 64 << 10, 1 << 20)))
    return asked._replace(kind="giant metadata", metadata=(("x-giant", "a" * size),))


CALLS = (field_calls,) * 6 + (impatient_calls, wire_calls, wire_calls, strange_calls, giant_calls)
"""What calls are drawn of, as often as each is to come."""


@st.composite
def any_call(draw: st.DrawFn) -> Ask:
    """Draw a call of any kind."""
    asked: Ask = draw(draw(st.sampled_from(CALLS))())
    return asked


def twisted(asked: Ask, chance: random.Random) -> Ask:
    """Return a call like this one, with other bytes or less patience."""
    if asked.kind == "strange methods":
        return asked
    asked = asked._replace(timeout=PATIENT, cancel_after=None)
    messages = list(asked.messages)
    match chance.randrange(5):
        case 0:
            return asked._replace(kind="deadlines", timeout=10 ** chance.uniform(-4.5, -1.0))
        case 1:
            return asked._replace(kind="cancelled", cancel_after=10 ** chance.uniform(-4.5, -1.0))
        case _ if messages:
            at = chance.randrange(len(messages))
            messages[at] = _mutated(messages[at], chance)
    return asked._replace(kind="wire", messages=messages)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with some of them changed, gone, or doubled."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + chance.randint(1, 9)]
            case 2:
                changed[at:at] = changed[: chance.randint(1, 20)]
            case _:
                changed[at:at] = b"\xff\xff\xff\xff\x0f"
    return bytes(changed)
