"""Calls that find a full server: refused unread at the door, or behind it where that takes their message."""

import gc
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.clients import token_digest
from service.rpc.status import Details, read_details
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until

PLAIN = "plain"
CODES = grpc.StatusCode
OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Channel options, for a connection that no other channel has."""
REJECTED = 'dragoman_requests_rejected_total{model="toy",reason="OVERLOADED"}'
HANDLED = (
    'grpc_server_handled_total{grpc_code="ResourceExhausted",grpc_method="Translate",'
    'grpc_service="dragoman.v1.TranslationService",grpc_type="unary"}'
)
CLIENTS = """
plain: {token_sha256: [PLAIN]}
counted: {token_sha256: [COUNTED], characters_per_second: 1000}
spent: {token_sha256: [SPENT], requests_per_second: 0.001}
"""


class Full:
    """A server whose one place is taken until the gate opens."""

    def __init__(self, gate: Gate, **settings: Any) -> None:
        self._gate = gate
        self.live = LiveServer([loaded(reversing(gate))], max_rows=1, max_waiting=0, **settings)

    def __enter__(self) -> "Full":
        """Take the place."""
        self.live.__enter__()
        self.taken = self.live.stub.Translate.future(
            pb.TranslateRequest(texts=["abc"]), timeout=60.0, metadata=bearer("plain")
        )
        wait_until(lambda: self.live.server.admission.admitted == 1, "the place is taken")
        return self

    def __exit__(self, *raised: Any) -> None:
        """Give it back."""
        self._gate.open()
        self.live.__exit__(*raised)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a client."""
    return (("authorization", f"Bearer {token}"),)


def clients(folder: Path) -> Path:
    """Write the file of clients; their tokens are their names."""
    text = CLIENTS
    for name in ("plain", "counted", "spent"):
        text = text.replace(name.upper(), token_digest(name))
    path = folder / "clients.yaml"
    path.write_text(text)
    return path


def refused(live: LiveServer, request_id: str = "", token: str = PLAIN, text: str = "de") -> grpc.RpcError:
    """Return the error of a call."""
    metadata = bearer(token) + ((("x-request-id", request_id),) if request_id else ())
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.Translate(pb.TranslateRequest(texts=[text]), timeout=20.0, metadata=metadata)
    return caught.value


def request_id_of(error: grpc.RpcError) -> str:
    """Return the id that the server gave back."""
    metadata: Any = error.trailing_metadata()
    return str(dict(metadata)["x-request-id"])


def lines_of(live: LiveServer, ids: list[str]) -> list[dict[str, Any]]:
    """Wait for the lines of some requests in the log, and return all of theirs."""

    def found() -> list[dict[str, Any]]:
        return [line for line in live.log_lines() if line.get("request_id") in ids]

    wait_until(lambda: len(found()) >= len(ids), "all are logged")
    return found()


def test_refused_unread_a_call_is_told_counted_and_logged_as_ever(tmp_path: Path) -> None:
    """But for its texts: of who is refused at the door and of who is refused once his message was read."""
    with Full(Gate(), clients=clients(tmp_path)) as full:
        live = full.live
        unread, read = refused(live, "an-id", "plain"), refused(live, "b-id", "counted")
        assert [CODES.RESOURCE_EXHAUSTED] * 2 == [unread.code(), read.code()]
        assert "1 texts are waiting or running, at most 1 may be; retry after 0.1 s" == unread.details()
        assert unread.details() == read.details()
        told = [read_details(error.trailing_metadata()) for error in (unread, read)]
        assert told == [
            Details("OVERLOADED", {"request_id": name, "model": "toy"}, "", 0.1) for name in ("an-id", "b-id")
        ]
        assert ["an-id", "b-id"] == [request_id_of(error) for error in (unread, read)]
        first, second = sorted(lines_of(live, ["an-id", "b-id"]), key=lambda line: str(line["request_id"]))
        for line, client in ((first, "plain"), (second, "counted")):
            assert ("Translate", "RESOURCE_EXHAUSTED", "OVERLOADED", "toy", client) == tuple(
                line[name] for name in ("method", "code", "reason", "model", "client")
            )
        assert (None, 1) == (first.get("texts"), second["texts"])
        wait_until(lambda: live.metrics()[REJECTED] == live.metrics()[HANDLED] == 2, "both are counted")
        assert 1 == live.server.admission.admitted


def test_ids_of_the_server_are_unlike_each_other() -> None:
    """Where clients give none, and where they give some that may not stand in a log."""
    with Full(Gate()) as full:
        ids = [request_id_of(refused(full.live, given)) for given in ("", "", "{}", "")]
        assert 4 == len(set(ids) - {"{}"})
        assert 4 == len(lines_of(full.live, ids))


def test_who_may_not_call_is_told_so_by_a_full_server_too(tmp_path: Path) -> None:
    """A stranger is UNAUTHENTICATED, and who has used his quota learns that; each has a line in the log."""
    with Full(Gate(), clients=clients(tmp_path)) as full:
        stranger, *errors = [refused(full.live, "", token) for token in ("stranger", "spent", "spent")]
        reasons = [read_details(error.trailing_metadata()).reason for error in (stranger, *errors)]
        assert CODES.UNAUTHENTICATED is stranger.code()
        assert ["UNAUTHENTICATED", "OVERLOADED", "QUOTA_EXCEEDED"] == reasons
        assert 3 == len(lines_of(full.live, [request_id_of(error) for error in (stranger, *errors)]))


def test_characters_of_refused_calls_count(tmp_path: Path) -> None:
    """Who may send so many characters a second has sent those of a refused call, as ever."""
    with Full(Gate(), clients=clients(tmp_path)) as full:
        errors = [refused(full.live, "", "counted", "a" * 1000) for _ in range(2)]
        assert ["OVERLOADED", "QUOTA_EXCEEDED"] == [read_details(error.trailing_metadata()).reason for error in errors]


def test_room_that_is_gone_when_a_call_gets_to_it() -> None:
    """Of calls that come at once, the door lets in more than there is room for: these are refused behind it."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=1, max_waiting=1) as live:
        live.loop.call_soon_threadsafe(time.sleep, 0.5)
        calls = [live.stub.Translate.future(pb.TranslateRequest(texts=["abc"]), timeout=60.0) for _ in range(12)]
        wait_until(lambda: sum(call.done() for call in calls) == 10, "those without room are refused")
        assert 2 == live.server.admission.admitted
        wait_until(lambda: live.metrics()[REJECTED] == 10, "they are counted")
        gate.open()
        codes = sorted(call.code().name for call in calls)
        assert ["OK"] * 2 + ["RESOURCE_EXHAUSTED"] * 10 == codes
        wait_until(lambda: live.server.admission.admitted == 0, "nobody holds a permit")


def test_messages_that_nobody_reads_leave_a_connection_as_good_as_it_was() -> None:
    """Megabytes of them, over the connection that translates afterwards."""
    gate = Gate()
    with Full(gate, max_message_bytes=8 << 20) as full:
        for _ in range(12):
            assert CODES.RESOURCE_EXHAUSTED is refused(full.live, "", text="a" * (3 << 20)).code()
        gate.open()
        assert ["cba"] == [one.hypotheses[0].text for one in full.taken.result(60.0).translations]
        wait_until(lambda: full.live.server.admission.admitted == 0, "there is room")
        assert ["fed"] == full.live.translate("def")


def test_clients_that_hang_up_while_they_are_refused() -> None:
    """Nothing of their calls stays, without a collection of garbage, and others are refused and served."""
    gate = Gate()
    with Full(gate) as full:
        live = full.live
        refused(live)
        waiting = calls_in_memory()
        gc.disable()
        try:
            for _ in range(5):
                with grpc.insecure_channel(live.ready.address, options=OF_ITS_OWN) as other:
                    stub: Any = translation_pb2_grpc.TranslationServiceStub(other)
                    calls = [stub.Translate.future(pb.TranslateRequest(texts=["a" * 9999])) for _ in range(40)]
                    calls[-1].code()
                    for call in calls:
                        call.cancel()
            wait_until(lambda: calls_in_memory() <= waiting, "their calls are freed")
        finally:
            gc.enable()
        assert CODES.RESOURCE_EXHAUSTED is refused(live).code()
        gate.open()
        full.taken.result(60.0)
        wait_until(lambda: live.server.admission.admitted == 0, "there is room")
        assert ["fed"] == live.translate("def")


def calls_in_memory() -> int:
    """Count the calls that gRPC's server holds or waits for."""
    return sum(type(held).__name__ == "RPCState" for held in gc.get_objects())


def test_where_several_models_are_the_one_that_was_meant_is_not_known() -> None:
    """A refusal names none, and is counted under the label for that."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate)), loaded(reversing(gate), "other-toy")], max_rows=1, max_waiting=0) as live:
        taken = live.stub.Translate.future(pb.TranslateRequest(texts=["abc"], model="toy"), timeout=60.0)
        wait_until(lambda: live.server.admission.admitted == 1, "the place is taken")
        details = read_details(refused(live, "an-id").trailing_metadata())
        assert Details("OVERLOADED", {"request_id": "an-id"}, "", 0.1) == details
        label = 'dragoman_requests_rejected_total{model="other",reason="OVERLOADED"}'
        wait_until(lambda: live.metrics()[label] == 1, "it is counted")
        gate.open()
        assert 1 == len(taken.result(60.0).translations)
