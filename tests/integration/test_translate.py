"""Translate, ListModels and GetModel over a real connection, with what clients get wrong."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.rpc.status import Details, read_details
from tests.serving import LiveServer, loaded, reversing


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """Serve two versions of one model, for texts of at most 20 tokens and 60 bytes, 4 in a request."""
    models = [loaded(reversing(max_source_tokens=20, max_target_tokens=30), version=version) for version in ("9", "10")]
    with LiveServer(models, max_texts_per_request=4, max_text_bytes=60, max_rows=8) as server:
        yield server


def refused(live: LiveServer, code: grpc.StatusCode, **fields: Any) -> tuple[str, Details]:
    """Send a request that must fail with this code; return the message and the details."""
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.Translate(pb.TranslateRequest(**fields), timeout=20.0)
    assert code is caught.value.code()
    return str(caught.value.details()), read_details(caught.value.trailing_metadata())


def test_one_text(live: LiveServer) -> None:
    """A text comes back translated, with its tokens, score, reason and the model that did it."""
    response = live.stub.Translate(pb.TranslateRequest(texts=["abc"]), timeout=20.0)
    (translation,) = response.translations
    (best,) = translation.hypotheses
    assert "cba" == best.text
    assert ["c", "b", "a"] == list(best.tokens)
    assert [-0.5, -0.5, -0.5] == list(best.token_log_probs)
    assert best.score == pytest.approx(-2.0)
    assert pb.FINISH_REASON_END == best.finish_reason
    assert ["a", "b", "c"] == list(translation.source_tokens)
    assert ("toy", "10") == (response.model, response.model_version)
    assert 4 == response.timing.steps
    assert not best.HasField("attention")


def test_many_texts_come_back_in_order(live: LiveServer) -> None:
    """translations[i] belongs to texts[i], though the short ones end first."""
    assert ["gfedcba", "a", "edcba", "ba"] == live.translate("abcdefg", "a", "abcde", "ab")


def test_attention_has_a_row_per_target_and_a_column_per_source_token(live: LiveServer) -> None:
    """The weights come row by row: this model attends to the token that it gives."""
    request = pb.TranslateRequest(texts=["abc"], options=pb.DecodingOptions(return_attention=True))
    attention = live.stub.Translate(request, timeout=20.0).translations[0].hypotheses[0].attention
    assert (3, 3) == (attention.rows, attention.columns)
    assert [0, 0, 1, 0, 1, 0, 1, 0, 0] == list(attention.weights)


def test_a_long_text_is_split_and_joined(live: LiveServer) -> None:
    """Sentences, lines and what is too long become segments; all are there, with their white space between them."""
    text = "  abc. de!\n\nfg\t\n" + "h" * 25 + " \n"
    request = pb.TranslateRequest(texts=[text, "a"], options=pb.DecodingOptions(return_attention=True))
    translation, other = live.stub.Translate(request, timeout=20.0).translations
    best = translation.hypotheses[0]
    assert f".cba !ed\n\ngf\t\n{'h' * 12} {'h' * 13}" == best.text
    pairs = [
        (text[part.source.start : part.source.end], best.text[part.target.start : part.target.end])
        for part in translation.segments
    ]
    assert [("abc.", ".cba"), ("de!", "!ed"), ("fg", "gf"), ("h" * 12, "h" * 12), ("h" * 13, "h" * 13)] == pairs
    assert "abc.de!fg" + "h" * 25 == "".join(translation.source_tokens)
    assert ".cba!edgf" + "h" * 25 == "".join(best.tokens)
    assert len(best.tokens) == len(best.token_log_probs) == best.attention.rows == best.attention.columns
    assert [0, 0, 0, 1, 0] == list(best.attention.weights)[:5]
    assert 34 == sum(best.attention.weights)
    assert best.score == pytest.approx(-0.5 * (34 + 5))
    assert ["a"] == [hypothesis.text for hypothesis in other.hypotheses]


def test_alignments_point_at_characters(live: LiveServer) -> None:
    """Pairs of tokens, and spans of both texts, through segments and white space; attention stays at home."""
    text = " ab. \n카페"
    request = pb.TranslateRequest(texts=[text], options=pb.DecodingOptions(return_alignments=True))
    (best,) = live.stub.Translate(request, timeout=20.0).translations[0].hypotheses
    assert ".ba \n페카" == best.text
    assert [(0, 2), (1, 1), (2, 0), (3, 4), (4, 3)] == [
        (link.target_token, link.source_token) for link in best.alignments
    ]
    assert [(".", "."), ("b", "b"), ("a", "a"), ("페", "페"), ("카", "카")] == [
        (best.text[link.target.start : link.target.end], text[link.source.start : link.source.end])
        for link in best.alignments
    ]
    assert not best.HasField("attention")


def test_a_translation_begins_with_its_prefix(live: LiveServer) -> None:
    """Each text has its own; an empty one is none."""
    assert ["xba", "ed"] == live.translate("abc", "de", target_prefixes=["x", ""])


def test_lengths_by_the_length_of_the_source(live: LiveServer) -> None:
    """The stricter maximum and the larger minimum count."""
    short = {"max_target_tokens": 5, "max_target_ratio": 0.5}
    assert ["fed"] == live.translate("abcdef", options=short)
    assert ["fedcb"] == live.translate("abcdef", options={"max_target_tokens": 5, "max_target_ratio": 2.0})


def test_too_much_attention_is_refused(live: LiveServer) -> None:
    """It grows with the square of a text of several segments."""
    with LiveServer([loaded(reversing())]) as server:
        request = pb.TranslateRequest(texts=["abc. " * 200], options=pb.DecodingOptions(return_attention=True))
        with pytest.raises(grpc.RpcError) as caught:
            server.stub.Translate(request, timeout=20.0)
    assert "options.return_attention" == read_details(caught.value.trailing_metadata()).field


def test_a_limit_of_target_tokens_ends_a_translation(live: LiveServer) -> None:
    """It ends with FINISH_REASON_LENGTH."""
    request = pb.TranslateRequest(texts=["abc"], options=pb.DecodingOptions(max_target_tokens=2))
    (best,) = live.stub.Translate(request, timeout=20.0).translations[0].hypotheses
    assert ("cb", pb.FINISH_REASON_LENGTH) == (best.text, best.finish_reason)


@pytest.mark.parametrize("model", ["", "toy", "toy@9"])
def test_a_model_is_chosen(live: LiveServer, model: str) -> None:
    """By nothing, by its name, and by its version; the newest version where there are several."""
    response = live.stub.Translate(pb.TranslateRequest(texts=["ab"], model=model), timeout=20.0)
    assert {"toy@9": "9"}.get(model, "10") == response.model_version


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"texts": []}, "texts", "at least one"),
        ({"texts": ["a"] * 5}, "texts", "5 texts are more than the 4"),
        ({"texts": ["a", ""]}, "texts[1]", "leave it out"),
        ({"texts": [" \n\t\u3000"]}, "texts[0]", "leave it out"),
        ({"texts": ["\u200b"]}, "texts[0]", "leave it out"),
        ({"texts": ["가" * 21]}, "texts[0]", "63 bytes, at most 60"),
        ({"texts": ["ab" * 11], "options": {"segmentation": 2}}, "texts[0]", "22 tokens, toy takes at most 20"),
        ({"texts": ["ab" * 11], "target_prefixes": ["a"]}, "texts[0]", "22 tokens, toy takes at most 20"),
        ({"texts": ["a", "b"], "target_prefixes": ["a"]}, "target_prefixes", "1 for 2 texts"),
        ({"texts": ["a", "b"], "target_prefixes": ["", "龜"]}, "target_prefixes[1]", "cannot write"),
        ({"texts": ["a"], "target_prefixes": ["a" * 30]}, "options.target_prefix", "has 30 tokens"),
        ({"texts": ["a"], "priority": 9}, "priority", "9 has no meaning"),
        ({"texts": ["a"], "source_language_code": "xx"}, "source_language_code", "use ko"),
        ({"texts": ["a"], "target_language_code": "xx"}, "target_language_code", "use en"),
        ({"texts": ["a"], "options": {"beam_size": 0}}, "options.beam_size", "from 1"),
        ({"texts": ["a"], "options": {"beam_size": 1000}}, "options.beam_size", "from 1"),
        ({"texts": ["a"], "options": {"beam_size": 9}}, "options.beam_size", "takes 9 rows, this server has 8"),
        ({"texts": ["a"], "options": {"num_hypotheses": 2}}, "options.num_hypotheses", "the beam size"),
        ({"texts": ["a"], "options": {"num_hypotheses": 9, "sampling": {}}}, "options.num_hypotheses", "has 8"),
        ({"texts": ["a"], "options": {"beam_size": 2, "sampling": {}}}, "options.beam_size", "when sampling"),
        ({"texts": ["a"], "options": {"sampling": {"top_k": 0}}}, "options.sampling.top_k", "from 1"),
        ({"texts": ["a"], "options": {"length_penalty": -1.0}}, "options.length_penalty", "from 0"),
        ({"texts": ["a"], "options": {"length_penalty": float("nan")}}, "options.length_penalty", "from 0"),
        ({"texts": ["a"], "options": {"length_penalty_kind": 7}}, "options.length_penalty_kind", "7 has no meaning"),
        ({"texts": ["a"], "options": {"segmentation": 7}}, "options.segmentation", "7 has no meaning"),
        ({"texts": ["a"], "options": {"suppressed_tokens": ["a", "xy"]}}, "options.suppressed_tokens", "'xy'"),
        ({"texts": ["a"], "options": {"min_target_tokens": -1}}, "options.min_target_tokens", "at least 0"),
        ({"texts": ["a"], "options": {"max_target_ratio": 0.0}}, "options.max_target_ratio", "above 0"),
        ({"texts": ["a"], "options": {"min_target_ratio": float("nan")}}, "options.min_target_ratio", "above 0"),
        ({"texts": ["a"], "options": {"max_target_tokens": 0}}, "options.max_target_tokens", "at least 1"),
        ({"texts": ["a"], "options": {"max_target_tokens": 31}}, "options.max_target_tokens", "31 is more than"),
    ],
)
def test_a_field_at_fault_is_named(live: LiveServer, fields: dict[str, Any], field: str, says: str) -> None:
    """INVALID_ARGUMENT names the field and says what would do."""
    message, details = refused(live, grpc.StatusCode.INVALID_ARGUMENT, **fields)
    assert ("INVALID_REQUEST", field) == (details.reason, details.field)
    assert says in message


@pytest.mark.parametrize("model", ["other", "toy@11", "@1", "x" * 1000])
def test_an_unknown_model_is_not_found(live: LiveServer, model: str) -> None:
    """NOT_FOUND lists the models that are there; a long name does not fill the message."""
    message, details = refused(live, grpc.StatusCode.NOT_FOUND, texts=["a"], model=model)
    assert "MODEL_NOT_FOUND" == details.reason
    assert message.endswith("this server holds toy@9, toy@10")
    assert len(message) < 150


def test_bytes_that_are_no_utf8_are_the_clients_fault(live: LiveServer) -> None:
    """INVALID_ARGUMENT, where gRPC by itself would blame nobody."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = live.channel.unary_unary(
        "/dragoman.v1.TranslationService/Translate"
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a\x02\xff\xfe", timeout=20.0)
    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
    assert "UTF-8" in str(caught.value.details())


def test_a_message_beyond_the_limit_is_refused_by_grpc(live: LiveServer) -> None:
    """RESOURCE_EXHAUSTED, before it is parsed."""
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.Translate(pb.TranslateRequest(texts=["a" * (5 << 20)]), timeout=20.0)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()


def test_the_request_id_comes_back(live: LiveServer) -> None:
    """A sane one of the client's is kept, another is replaced; it stands in the error and in the log."""
    for given, kept in (("my-id.1", True), ("not sane", False), ("x" * 65, False)):
        request = pb.TranslateRequest(texts=["ab"])
        _, call = live.stub.Translate.with_call(request, timeout=20.0, metadata=(("x-request-id", given),))
        assert kept == (given == dict(call.trailing_metadata())["x-request-id"])
    _, details = refused(live, grpc.StatusCode.NOT_FOUND, texts=["a"], model="other")
    assert details.metadata is not None
    assert details.metadata["request_id"] == live.log_lines()[-1]["request_id"]


def test_the_same_request_id_twice_at_once(live: LiveServer) -> None:
    """Clients that share an id do not get each other's translations."""
    calls = [
        live.stub.Translate.future(
            pb.TranslateRequest(texts=[text]), timeout=20.0, metadata=(("x-request-id", "same"),)
        )
        for text in ("abc", "def", "ghi")
    ]
    assert ["cba", "fed", "ihg"] == [call.result().translations[0].hypotheses[0].text for call in calls]


def test_models_are_listed_and_described(live: LiveServer) -> None:
    """ListModels sorts by version as a number; GetModel describes one, and says which there are."""
    listed = live.stub.ListModels(pb.ListModelsRequest(), timeout=20.0).models
    assert [("toy", "9"), ("toy", "10")] == [(model.name, model.version) for model in listed]
    model = live.stub.GetModel(pb.GetModelRequest(model="toy@9"), timeout=20.0).model
    assert ("9", "reversing", "ko", "en") == (
        model.version, model.family, model.source_language_code, model.target_language_code
    )  # fmt: skip
    assert (True, 20, 30, "cpu") == (
        model.has_attention, model.max_source_tokens, model.max_target_tokens, model.provider
    )  # fmt: skip
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.GetModel(pb.GetModelRequest(model="toy@1"), timeout=20.0)
    assert grpc.StatusCode.NOT_FOUND is caught.value.code()


def test_the_log_tells_sizes_and_never_text(live: LiveServer) -> None:
    """One line per request, refused ones too; not a letter of any text."""
    before = len(live.log_lines())
    live.translate("abc", "zyxw")
    refused(live, grpc.StatusCode.INVALID_ARGUMENT, texts=["zyxw", ""])
    done, failed = live.log_lines()[before:]
    assert ("OK", 2, 7, 7, "toy") == (
        done["code"], done["texts"], done["source_tokens"], done["target_tokens"], done["model"]
    )  # fmt: skip
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == (failed["code"], failed["reason"])
    assert "zyxw" not in live.log.getvalue()
    assert "wxyz" not in live.log.getvalue()


def test_reflection_shows_the_service(live: LiveServer) -> None:
    """Tools find the service without its proto."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # noqa: PLC0415
        ProtoReflectionDescriptorDatabase,
    )

    assert "dragoman.v1.TranslationService" in ProtoReflectionDescriptorDatabase(live.channel).get_services()
