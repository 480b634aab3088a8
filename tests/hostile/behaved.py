"""A well-behaved client beside the hostile ones: it must get right answers all the time."""

import threading
import time
import urllib.request

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.rpc.channel import Connection
from service.rpc.probe import probe

TEXTS = ("안녕하세요.", "오늘은 비가 옵니다.", "문을 닫아 주세요.", "파일을 열 수 없습니다.")
PATIENCE = 60.0
"""Seconds after which it takes a server for one that hangs, on a machine that others use too."""
PAUSE = 0.03
KINDS = 10
"""Turns in which it asks everything once."""


class Behaved:
    """A thread that asks one thing after another, from entering to leaving, and notes what goes wrong."""

    def __init__(self, address: str, metrics_url: str, health_address: str) -> None:
        self._address = address
        self._metrics_url = metrics_url
        self._health = Connection(health_address)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="behaved")
        self._known: dict[str, str] = {}
        self.answers = 0
        self.slowest = 0.0
        """Of all answers, in seconds."""
        self.faults: list[str] = []

    def __enter__(self) -> "Behaved":
        """Learn the right answers while nobody disturbs, then begin."""
        with grpc.insecure_channel(self._address) as channel:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            for text in TEXTS:
                self._known[text] = self._translate(stub, text)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join()

    def catch_up(self) -> None:
        """Wait until one call of each kind that begins now is answered: calls before it have been taken up then."""
        enough = self.answers + KINDS + 1
        while self.answers < enough and self._thread.is_alive():
            time.sleep(PAUSE)

    def _ask_on(self) -> None:
        with grpc.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = translation_pb2_grpc.TranslationServiceStub(channel)
            turn = 0
            while not self._ended.wait(PAUSE):
                turn += 1
                started = time.monotonic()
                try:
                    self._ask(stub, turn)
                except Exception as error:  # noqa: BLE001  whatever it is, it must not be
                    self.faults.append(f"turn {turn} after {time.monotonic() - started:.1f} s: {error!r}"[:600])
                self.answers += 1
                self.slowest = max(self.slowest, time.monotonic() - started)

    def _ask(self, stub: "translation_pb2_grpc.TranslationServiceStub", turn: int) -> None:
        text = TEXTS[turn % len(TEXTS)]
        match turn % KINDS:
            case 0:
                parts = stub.StreamTranslate(pb.StreamTranslateRequest(text=text), timeout=PATIENCE)
                self._compare(text, "".join(part.text_delta for part in parts))
            case 1:
                asked = (pb.TranslateSegmentsRequest(segment_id=text, text=text) for text in TEXTS)
                for answer in stub.TranslateSegments(asked, timeout=PATIENCE):
                    self._compare(answer.segment_id, answer.translation.hypotheses[0].text)
            case 2:
                if "SERVING" != (health := probe(self._health, "", PATIENCE)):
                    raise AssertionError(f"health says {health}")
            case 3:
                with urllib.request.urlopen(self._metrics_url, timeout=PATIENCE) as page:  # noqa: S310
                    if b"dragoman_requests_running" not in page.read():
                        raise AssertionError("the page of metrics is not whole")
            case _:
                self._compare(text, self._translate(stub, text))

    def _translate(self, stub: "translation_pb2_grpc.TranslationServiceStub", text: str) -> str:
        answer = stub.Translate(pb.TranslateRequest(texts=[text]), timeout=PATIENCE)
        return answer.translations[0].hypotheses[0].text

    def _compare(self, text: str, translation: str) -> None:
        if translation != self._known[text]:
            raise AssertionError(f"{text!r} became {translation!r}, not {self._known[text]!r}")
