"""StreamTranslate and TranslateSegments over a real connection: what grows, what comes in any order, who waits."""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.rpc.status import read_details
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until


@pytest.fixture
def live() -> Iterator[LiveServer]:
    """Serve the reversing model, for sentences of at most 20 tokens."""
    with LiveServer([loaded(reversing(max_source_tokens=20))], max_rows=8, segments_in_flight=4) as server:
        yield server


def segment(name: str, text: str, **fields: object) -> pb.TranslateSegmentsRequest:
    """Return a segment."""
    return pb.TranslateSegmentsRequest(segment_id=name, text=text, **fields)  # type: ignore[arg-type]


def idle(server: LiveServer) -> bool:
    """Tell whether nothing is left in a server: no permit, no request in the engine or on its way."""
    page = server.metrics()
    here = page['dragoman_requests_waiting{model="toy"}'] + page['dragoman_requests_running{model="toy"}']
    return here == server.server.admission.admitted == 0


def test_a_translation_comes_as_it_grows(live: LiveServer) -> None:
    """A delta for every token, before the next is decoded; the last message has all the rest, and only that."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))]) as server:
        stream = server.stub.StreamTranslate(pb.StreamTranslateRequest(text="abc"), timeout=20.0)
        for letter in "cb":
            gate.let()
            message = next(stream)
            assert (letter, False, "") == (message.text_delta, message.HasField("translation"), message.model)
        gate.open()
        *_, last = messages = list(stream)
    assert "a" == "".join(message.text_delta for message in messages)
    best = last.translation.hypotheses[0]
    assert ("cba", pb.FINISH_REASON_END, "toy", "1") == (best.text, best.finish_reason, last.model, last.model_version)
    assert best.score == pytest.approx(-2.0)
    assert (4, True) == (last.timing.steps, last.timing.first_token.nanos > 0)


def test_segments_of_a_long_text_stream_in_order(live: LiveServer) -> None:
    """With their white space, though the short ones end first; the deltas are the text."""
    text = "abcdefghijklmn. a!\n\n" + "bc" * 20
    messages = list(live.stub.StreamTranslate(pb.StreamTranslateRequest(text=text), timeout=20.0))
    whole = messages[-1].translation
    assert whole.hypotheses[0].text == "".join(message.text_delta for message in messages)
    assert whole.hypotheses[0].text.startswith(".nmlkjihgfedcba !a\n\ncb")
    assert [False] * (len(messages) - 1) == [message.HasField("translation") for message in messages[:-1]]
    assert 4 == len(whole.segments)


def test_a_prefix_is_part_of_the_stream(live: LiveServer) -> None:
    """The deltas begin with it."""
    request = pb.StreamTranslateRequest(text="abcd", target_prefix="xy")
    messages = list(live.stub.StreamTranslate(request, timeout=20.0))
    assert "xyba" == "".join(message.text_delta for message in messages)


def test_a_stream_of_a_beam(live: LiveServer) -> None:
    """What a beam agrees on comes early; in the end it is the best hypothesis."""
    request = pb.StreamTranslateRequest(text="abcd", options=pb.DecodingOptions(beam_size=3))
    messages = list(live.stub.StreamTranslate(request, timeout=20.0))
    assert messages[-1].translation.hypotheses[0].text == "".join(message.text_delta for message in messages)


def test_a_stream_that_is_refused(live: LiveServer) -> None:
    """Names the field as this request calls it."""
    for text, prefix, field in ((" ", "", "text"), ("a", "龜", "target_prefix")):
        request = pb.StreamTranslateRequest(text=text, target_prefix=prefix)
        with pytest.raises(grpc.RpcError) as caught:
            list(live.stub.StreamTranslate(request, timeout=20.0))
        assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
        assert field == read_details(caught.value.trailing_metadata()).field


def test_a_cancelled_stream_frees_its_rows() -> None:
    """Before the next step, with its permit, though the client had read some of it."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))]) as server:
        stream = server.stub.StreamTranslate(pb.StreamTranslateRequest(text="abcdef. ghi."), timeout=20.0)
        gate.let()
        next(stream)
        stream.cancel()
        wait_until(lambda: server.server.admission.admitted == 0, "the permit is back")
        gate.let()
        wait_until(lambda: idle(server), "the rows are free")
        assert 4 >= gate.steps
        gate.open()
        assert ["cba"] == server.translate("abc")


def test_segments_are_answered_as_they_finish() -> None:
    """Each with its id, its own options and its own fate; a short one overtakes a long one."""
    gate = Gate()
    asked = [
        segment("long", "abcdefghijklmnop"),
        segment("short", "ab"),
        segment("bad", " "),
        segment("lost", "a", model="other"),
        segment("cut", "abc", options=pb.DecodingOptions(max_target_tokens=1)),
        segment("two", "ab. c!"),
    ]
    with LiveServer([loaded(reversing(gate))]) as server:
        stream = server.stub.TranslateSegments(iter(asked), timeout=20.0)
        wait_until(lambda: server.server.admission.admitted == 5, "all that is good is at work")
        gate.open()
        answers = list(stream)
        line = server.log_lines()[-1]
        assert 0 == server.server.admission.admitted
    by_id = {answer.segment_id: answer for answer in answers}
    names = [answer.segment_id for answer in answers]
    assert {request.segment_id for request in asked} == set(names)
    assert names.index("short") < names.index("long")
    texts = {name: by_id[name].translation.hypotheses[0].text for name in ("long", "short", "cut", "two")}
    assert {"long": "ponmlkjihgfedcba", "short": "ba", "cut": "c", "two": ".ba !c"} == texts
    bad, lost = by_id["bad"].error, by_id["lost"].error
    assert (3, "INVALID_REQUEST", "text: is empty; leave it out") == (bad.code, bad.reason, bad.message)
    assert (5, "MODEL_NOT_FOUND") == (lost.code, lost.reason)
    assert ("toy", "1", 3) == (by_id["short"].model, by_id["short"].model_version, by_id["short"].timing.steps)
    assert ("TranslateSegments", "OK", 6) == (line["method"], line["code"], line["texts"])


def test_a_stream_holds_no_more_than_its_room() -> None:
    """Four segments of a stream are at work, however many were sent; the fifth is not even read."""
    gate, sent = Gate(), []

    def asked() -> Iterator[pb.TranslateSegmentsRequest]:
        for number in range(2000):
            sent.append(number)
            yield segment(str(number), "abc " * 4)

    with LiveServer([loaded(reversing(gate))], segments_in_flight=4) as server:
        answers = server.stub.TranslateSegments(asked(), timeout=60.0)
        wait_until(lambda: server.server.admission.admitted == 4, "four are at work")
        gate.let()
        wait_until(lambda: gate.steps >= 2, "a step was made")
        assert 4 == server.server.admission.admitted
        gate.open()
        assert {str(number) for number in range(2000)} == {answer.segment_id for answer in answers}
        assert 2000 == len(sent)


def test_a_client_that_does_not_read_slows_itself_alone() -> None:
    """Its answers fill what the connection holds, then none of its segments is begun; others are served as ever."""

    def asked() -> Iterator[pb.TranslateSegmentsRequest]:
        for number in range(100_000):
            yield segment(str(number), "abc " * 40, options=pb.DecodingOptions(return_attention=True))

    with LiveServer([loaded(reversing(max_source_tokens=200, max_target_tokens=200))], segments_in_flight=4) as server:
        lazy = grpc.insecure_channel(server.ready.address, [("grpc.use_local_subchannel_pool", 1)])
        stream = translation_pb2_grpc.TranslationServiceStub(lazy).TranslateSegments(asked(), timeout=120.0)
        wait_until(lambda: _stands_still(server), "the server does no more of it", timeout=60.0)
        stuck = finished(server)
        assert ["cba"] * 20 == [server.translate("abc")[0] for _ in range(20)]
        answers = server.stub.TranslateSegments((segment(str(n), "abc") for n in range(20)), timeout=20.0)
        assert ["cba"] * 20 == [answer.translation.hypotheses[0].text for answer in answers]
        assert stuck + 40 == finished(server)
        read = {next(stream).segment_id for _ in range(100)}
        assert 100 == len(read)
        wait_until(lambda: finished(server) > stuck + 40, "it goes on where it is read from")
        stream.cancel()
        lazy.close()
        wait_until(lambda: idle(server), "nothing of it is left")


def finished(server: LiveServer) -> float:
    """Return how many segments were decoded to their end."""
    return server.metrics()['dragoman_requests_finished_total{finish_reason="end",model="toy"}']


def _stands_still(server: LiveServer) -> bool:
    """Tell whether nothing ended within half a second, after something had."""
    before = finished(server)
    time.sleep(0.5)
    return 0 < before == finished(server)


def test_a_client_that_vanishes_takes_its_segments_along() -> None:
    """Those that run and those that wait in line for a permit; the others go on."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=2, max_waiting=2, segments_in_flight=10) as server:
        more = threading.Event()

        def asked() -> Iterator[pb.TranslateSegmentsRequest]:
            yield from (segment(str(number), "abcdef") for number in range(10))
            more.wait(20.0)

        answers = server.stub.TranslateSegments(asked(), timeout=60.0)
        wait_until(lambda: repr(server.server.admission) == "<Admission 3/4 7 in line>", "three run, seven wait")
        answers.cancel()
        more.set()
        wait_until(lambda: repr(server.server.admission) == "<Admission 0/4>", "all permits are back")
        gate.open()
        assert ["cba"] == server.translate("abc")
        wait_until(lambda: idle(server), "nothing is left")


def test_who_waits_in_line_leaves_room_for_others() -> None:
    """Segments wait for three quarters of the capacity; a unary call finds room in the rest."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=2, max_waiting=2, segments_in_flight=10) as server:
        stream = server.stub.TranslateSegments((segment(str(n), "ab") for n in range(10)), timeout=60.0)
        wait_until(lambda: server.server.admission.admitted == 3, "segments take what they may")
        call = server.stub.Translate.future(pb.TranslateRequest(texts=["abc"]), timeout=20.0)
        wait_until(lambda: server.server.admission.admitted == 4, "the call is in")
        gate.open()
        assert "cba" == call.result().translations[0].hypotheses[0].text
        assert 10 == len(list(stream))


def test_draining_refuses_segments_that_come_later() -> None:
    """Each by itself, with UNAVAILABLE; those in line too."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], max_rows=1, max_waiting=1) as server:
        stream = server.stub.TranslateSegments((segment(str(n), "ab") for n in range(3)), timeout=60.0)
        wait_until(lambda: repr(server.server.admission) == "<Admission 1/2 2 in line>", "one runs")
        server.loop.call_soon_threadsafe(server.server.admission.close, "going away")
        refused = [next(stream).error, next(stream).error]
        assert ["UNAVAILABLE"] * 2 == [error.reason for error in refused]
        gate.open()
        assert "ba" == next(stream).translation.hypotheses[0].text


def test_methods_are_counted_by_their_kind(live: LiveServer) -> None:
    """grpc_type says which streams they are; a segment that is refused is counted as such."""
    list(live.stub.StreamTranslate(pb.StreamTranslateRequest(text="a"), timeout=20.0))
    list(live.stub.TranslateSegments(iter([segment("a", " ")]), timeout=20.0))
    page = live.metrics()
    for kind, method in (("server_stream", "StreamTranslate"), ("bidi_stream", "TranslateSegments")):
        labels = f'grpc_method="{method}",grpc_service="dragoman.v1.TranslationService",grpc_type="{kind}"'
        assert 1 == page[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}']
    assert 1 == page['dragoman_requests_rejected_total{model="toy",reason="INVALID_REQUEST"}']


def test_a_deadline_out_of_reach_is_refused_at_once() -> None:
    """RESOURCE_EXHAUSTED, with a reason of its own that is counted, by what others took; nothing is decoded."""
    with LiveServer([loaded(reversing(lambda rows: time.sleep(0.02)))]) as server:
        server.translate("abcdefgh")
        ended = finished(server)
        for send in (_unary, _streamed):
            with pytest.raises(grpc.RpcError) as caught:
                send(server, "abc" * 30, 1.0)
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
            assert "DEADLINE_UNREACHABLE" == read_details(caught.value.trailing_metadata()).reason
        assert (ended, 0) == (finished(server), server.server.admission.admitted)
        assert 2 == server.metrics()['dragoman_requests_rejected_total{model="toy",reason="DEADLINE_UNREACHABLE"}']
        assert ["cba"] == server.translate("abc")


def _unary(server: LiveServer, text: str, timeout: float) -> None:
    server.stub.Translate(pb.TranslateRequest(texts=[text]), timeout=timeout)


def _streamed(server: LiveServer, text: str, timeout: float) -> None:
    list(server.stub.StreamTranslate(pb.StreamTranslateRequest(text=text), timeout=timeout))
