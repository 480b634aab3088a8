"""What the processes of a load tell each other, as msgpack over pipes."""

from typing import Any

import msgspec

from service.load.plan import Mode, Phase


class Job(msgspec.Struct, frozen=True):
    """What a client process is for."""

    server: str
    texts: list[str]
    mode: Mode = "unary"
    model: str = ""
    texts_per_request: int = 1
    connections: int = 1
    timeout: float = 30.0
    """For one request, in seconds."""
    shown: list[str | None] = []
    """Files of TLS and of the token, in the order of a Connection's fields."""
    index: int = 0
    processes: int = 1
    """It sends every `processes`-th request, from the `index`-th one on."""


class Start(msgspec.Struct, frozen=True):
    """Begin this phase at this time of time.monotonic, a clock that all processes of a machine share."""

    phase: Phase
    at: float


class Sample(msgspec.Struct, array_like=True):
    """One request that ended; times in seconds. In an open loop all count from when it was due, sent or not."""

    due: float
    """From the start of the phase."""
    lag: float
    """From due to sent: the client's own lateness."""
    latency: float
    code: str
    tokens: int = 0
    """Target tokens received."""
    texts: int = 1
    first: float = -1.0
    """To the first token, where the answer is a stream; -1: not known."""
    gaps: list[float] = []
    """Between the tokens of a stream."""
    queue: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    """Of the request in the server, as its answer says."""


class Batch(msgspec.Struct):
    """What a client process has seen since its last batch."""

    samples: list[Sample]
    in_flight: int = 0
    cpu: float = 0.0
    """Processor seconds that it used."""
    wall: float = 0.0
    done: bool = False
    """Whether its phase is over and everything answered."""
    error: str = ""
    """Why it cannot go on."""


def pack(message: Job | Start | Batch) -> bytes:
    """Return a message as bytes."""
    return msgspec.msgpack.encode(message)


def unpack(data: bytes, kind: type[Any]) -> Any:  # noqa: ANN401  the kind says what it is
    """Return the message of a kind."""
    return msgspec.msgpack.decode(data, type=kind)
