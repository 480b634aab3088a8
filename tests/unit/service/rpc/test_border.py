"""What a call leaves behind when it has gone through the border."""

import asyncio
import gc
import io
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.errors import OverloadedError
from service.logs import RequestLog
from service.metrics import Metrics
from service.rpc.batches import open_server
from service.rpc.border import Border, Call, Passage
from service.rpc.health import SERVICE
from tests.serving import wait_until

CALLS = 20


async def refuse(_: pb.TranslateRequest, call: Call) -> pb.TranslateResponse:
    """Refuse to answer once."""
    raise OverloadedError(f"no room for {call.request_id}", retry_after=1.0)


async def refuse_stream(_: pb.StreamTranslateRequest, call: Call) -> AsyncIterator[pb.StreamTranslateResponse]:
    """Refuse to answer many times."""
    for number in range(2):
        if not number:
            raise OverloadedError(f"no room for {call.request_id}", retry_after=1.0)
        yield pb.StreamTranslateResponse()


def call_all(address: str) -> list[str]:
    """Make calls of both kinds; return the codes that they end with."""
    codes = []
    with grpc.insecure_channel(address) as channel:
        stub: Any = translation_pb2_grpc.TranslationServiceStub(channel)
        for _ in range(CALLS):
            with pytest.raises(grpc.RpcError) as unary:
                stub.Translate(pb.TranslateRequest(texts=["a"]))
            with pytest.raises(grpc.RpcError) as stream:
                list(stub.StreamTranslate(pb.StreamTranslateRequest(text="a")))
            codes += [unary.value.code().name, stream.value.code().name]
    return codes


def no_passage_is_left() -> bool:
    """Whether nothing holds a passage; asked for by type, as proxies of what has gone have no class."""
    return not any(type(left) is Passage for left in gc.get_objects())


async def test_a_refused_call_is_freed_without_a_collection() -> None:
    """As garbage in a cycle, hundreds of refused calls would be freed at once, while others wait to be refused."""
    server, border = open_server([]), Border(Metrics.create(), RequestLog(io.StringIO(), text=False, enabled=False))
    methods = {
        "Translate": border.unary(SERVICE, "Translate", pb.TranslateRequest, refuse),
        "StreamTranslate": border.server_stream(SERVICE, "StreamTranslate", pb.StreamTranslateRequest, refuse_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.disable()
    try:
        codes = await asyncio.to_thread(call_all, f"127.0.0.1:{port}")
        assert ["RESOURCE_EXHAUSTED"] * 2 * CALLS == codes
        await asyncio.to_thread(wait_until, no_passage_is_left, "the last calls have gone")
    finally:
        gc.enable()
        await server.stop(0)
