"""The least that gRPC costs: its own asyncio server, and a thread that runs the plain loop. One caller at a time."""

import asyncio
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import uvloop

from dragoman.v1 import translation_pb2 as pb
from tests.benchmark.load import Run
from tests.benchmark.offline import Offline, OnnxBatches, build_onnx

START_SECONDS = 30.0
SERVICE = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name


class BareServer:
    """Answers Translate with what the loop makes of its text; checks, counts and logs nothing."""

    def __init__(self, folder: Path) -> None:
        """Start it on a free port."""
        self._decode: Offline = build_onnx(folder, 1, OnnxBatches)
        self._inbox: queue.SimpleQueue[tuple[str, Callable[[Run], object]]] = queue.SimpleQueue()
        self._address: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()
        threading.Thread(target=lambda: uvloop.run(self._serve()), name="gRPC", daemon=True).start()

    def __call__(self, _: None) -> str:
        """Return its address, once it listens."""
        return self._address.get(timeout=START_SECONDS)

    async def _translate(self, request: pb.TranslateRequest, _: object) -> pb.TranslateResponse:
        """Wait for the thread."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Run] = loop.create_future()
        self._inbox.put((request.texts[0], lambda run: loop.call_soon_threadsafe(done.set_result, run)))
        run = await done
        hypothesis = pb.Hypothesis(text=run.translated[0].text, tokens=run.translated[0].pieces)
        timing = pb.Timing(steps=run.tokens + 1)
        return pb.TranslateResponse(translations=[pb.Translation(hypotheses=[hypothesis])], timing=timing)

    async def _serve(self) -> None:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self._translate, pb.TranslateRequest.FromString, pb.TranslateResponse.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Translate": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._address.put(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    def _work(self) -> None:
        while True:
            text, answer = self._inbox.get()
            answer(self._decode([text]))
