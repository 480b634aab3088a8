"""Pages in Prometheus's format, and what lies between two of them."""

import pytest

from service.load.scrape import Page, server_side

BEFORE = """
# TYPE grpc_server_handling_seconds histogram
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="0.1"} 10
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="0.2"} 10
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="+Inf"} 10
grpc_server_handling_seconds_sum{grpc_method="Translate"} 0.5
grpc_server_handling_seconds_count{grpc_method="Translate"} 10
# TYPE dragoman_engine_seconds counter
dragoman_engine_seconds_total{model="a",activity="step"} 1
dragoman_engine_seconds_total{model="a",activity="idle"} 5
"""
AFTER = """
# TYPE grpc_server_handling_seconds histogram
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="0.1"} 40
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="0.2"} 100
grpc_server_handling_seconds_bucket{grpc_method="Translate",le="+Inf"} 110
grpc_server_handling_seconds_bucket{grpc_method="GetModel",le="+Inf"} 7
grpc_server_handling_seconds_sum{grpc_method="Translate"} 15.5
grpc_server_handling_seconds_count{grpc_method="Translate"} 110
# TYPE dragoman_engine_seconds counter
dragoman_engine_seconds_total{model="a",activity="step"} 4
dragoman_engine_seconds_total{model="a",activity="idle"} 6
# TYPE dragoman_requests_rejected counter
dragoman_requests_rejected_total{model="a",reason="OVERLOADED"} 3
dragoman_requests_rejected_total{model="a",reason="UNAVAILABLE"} 0
# TYPE dragoman_target_tokens counter
dragoman_target_tokens_total{model="a"} 50
"""


def test_quantiles_lie_evenly_within_their_bucket() -> None:
    """30 calls up to 0.1 s, 60 more up to 0.2 s, and 10 beyond all bounds: the last bound stands for them."""
    grown = Page.read(AFTER).since(Page.read(BEFORE))
    name = "grpc_server_handling_seconds"
    assert grown.quantile(0.15, name, grpc_method="Translate") == pytest.approx(0.05)
    assert grown.quantile(0.60, name, grpc_method="Translate") == pytest.approx(0.15)
    assert grown.quantile(0.99, name, grpc_method="Translate") == pytest.approx(0.2)
    assert 0.0 == grown.quantile(0.5, "nothing")


def test_only_what_grew_counts() -> None:
    """Means, shares and counts are those of the time between the pages."""
    found = server_side(Page.read(BEFORE), Page.read(AFTER), 5.0, "Translate")
    assert found.handling_mean == pytest.approx(0.15)
    assert {"step": 0.75, "idle": 0.25} == found.engine
    assert {"OVERLOADED": 3} == found.rejected
    assert 10.0 == found.target_tokens_per_second
    assert 0.0 == found.rows_mean
