"""/metrics of a server that has worked."""

import urllib.request

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.request import FinishReason
from tests.serving import LiveServer, loaded, reversing

HISTOGRAMS = [
    "dragoman_queue_time_seconds",
    "dragoman_encode_seconds",
    "dragoman_step_seconds",
    "dragoman_time_to_first_token_seconds",
    "dragoman_inter_token_latency_seconds",
    "dragoman_decode_seconds",
    "dragoman_batch_rows",
]


def test_one_text_leaves_its_marks() -> None:
    """Three tokens and the end: four steps, three of which somebody waited for; every name of the contract is there."""
    with LiveServer([loaded(reversing())]) as live:
        live.translate("abc")
        with pytest.raises(grpc.RpcError):
            live.translate("abc", model="made-up")
        samples = live.metrics()
    counts = {name: samples[f'{name}_count{{model="toy"}}'] for name in HISTOGRAMS}
    assert dict(zip(HISTOGRAMS, [1, 1, 4, 1, 3, 1, 4], strict=True)) == counts
    assert 3 == samples['dragoman_source_tokens_total{model="toy"}']
    assert 4 == samples['dragoman_target_tokens_total{model="toy"}']
    assert 0.25 == samples['dragoman_model_load_seconds{model="toy"}']
    info = 'dragoman_model_info{family="reversing",model="toy",precision="fp32",provider="cpu",version="1"}'
    assert 1 == samples[info]
    assert 1 == samples['dragoman_requests_rejected_total{model="other",reason="MODEL_NOT_FOUND"}']
    ended = {reason.value: samples[f'dragoman_requests_finished_total{{finish_reason="{reason.value}",model="toy"}}']
             for reason in FinishReason}  # fmt: skip
    assert {reason.value: float(reason is FinishReason.END) for reason in FinishReason} == ended
    method = 'grpc_method="Translate",grpc_service="dragoman.v1.TranslationService",grpc_type="unary"'
    assert 2 == samples[f"grpc_server_started_total{{{method}}}"]
    assert 2 == samples[f"grpc_server_handling_seconds_count{{{method}}}"]
    for code in ("OK", "NotFound"):
        assert 1 == samples[f'grpc_server_handled_total{{grpc_code="{code}",{method}}}']
    assert any(name.startswith("dragoman_build_info{") for name in samples)
    assert "process_resident_memory_bytes" in samples
    assert (64, 1024) == (samples["dragoman_max_rows"], samples["dragoman_max_waiting"])


def test_clients_cannot_make_labels_up() -> None:
    """However many models they ask for, the page does not grow."""
    with LiveServer([loaded(reversing())]) as live:
        with pytest.raises(grpc.RpcError):
            live.translate("abc", model="made-up-0")
        before = live.metrics().keys()
        for number in range(1, 5):
            with pytest.raises(grpc.RpcError):
                live.stub.GetModel(pb.GetModelRequest(model=f"made-up-{number}"), timeout=20.0)
            with pytest.raises(grpc.RpcError):
                live.translate("abc", model=f"made-up-{number}")
        grown = {name for name in live.metrics().keys() - before if "GetModel" not in name}
    assert set() == grown


def test_versions_of_a_model_are_counted_together() -> None:
    """The label is the model; which versions there are stands in dragoman_model_info."""
    with LiveServer([loaded(reversing(), version=version) for version in ("1", "2")]) as live:
        live.translate("abc", model="toy@1")
        live.translate("abc", model="toy@2")
        samples = live.metrics()
    assert 2 == samples['dragoman_decode_seconds_count{model="toy"}']
    assert 2 == sum(name.startswith("dragoman_model_info") for name in samples)


def test_openmetrics_is_spoken_to_those_who_ask() -> None:
    """The same page in the other format."""
    with LiveServer([loaded(reversing())]) as live:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        with urllib.request.urlopen(urllib.request.Request(live.ready.metrics_url, headers=accept)) as page:  # noqa: S310
            assert page.headers["Content-Type"].startswith("application/openmetrics-text")
            assert page.read().endswith(b"# EOF\n")
