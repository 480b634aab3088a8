"""Messages on their way through the border: read, checked, charged and written."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar, cast

from google.protobuf.message import DecodeError, Message

from service.clients import Client
from service.errors import InvalidRequestError
from service.rpc.access import Access, Context

Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)


async def send(answers: AsyncIterator[Answer], context: Context) -> None:
    """Send what a behaviour yields, which is closed whatever happens: a generator left alone would end much later."""
    async with aclosing(cast("AsyncGenerator[Answer, None]", answers)) as closing:
        async for answer in closing:
            await context.write(answer)


async def received(
    requests: AsyncIterator[Asked | DecodeError], asked: type[Asked], access: Access | None, client: Client | None
) -> AsyncGenerator[Asked, None]:
    """Yield the valid messages of a client, each charged to its quota."""
    async for request in requests:
        if access is not None and client is not None:
            access.charge(client, request)
        yield valid(request, asked)


def parser(asked: type[Asked]) -> Callable[[bytes], Asked | DecodeError]:
    """Return a parser that keeps what it cannot parse for the call, which tells the client that it is its own fault."""

    def parse(data: bytes) -> Asked | DecodeError:
        try:
            return asked.FromString(data)
        except DecodeError as error:
            return error

    return parse


def valid(request: Asked | DecodeError, asked: type[Asked]) -> Asked:
    """Return a request that could be parsed; raises InvalidRequestError."""
    if isinstance(request, DecodeError):
        raise InvalidRequestError("request", f"is no {asked.__name__}; its strings must be valid UTF-8")
    return request


def serialize(message: Message) -> bytes:
    """Write a message."""
    return message.SerializeToString()
