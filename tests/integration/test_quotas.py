"""Quotas as clients meet them: what a server lets through of more than a client may send. `-s` prints the figures."""

import os
import time
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.clients import token_digest
from tests.serving import Gate, LiveServer, loaded, reversing, wait_until

SECONDS = float(os.environ.get("DRAGOMAN_QUOTA_SECONDS", "0"))
"""How long each quota is tried. A short trial checks the upper bound alone: a busy machine keeps the client waiting."""
SHORT_SECONDS = 2.0
OFFERED = 100.0
"""Calls per second."""
TOKEN = "token"  # noqa: S105  of these tests alone
METADATA = (("authorization", f"Bearer {TOKEN}"),)


def clients(folder: Path, quota: str) -> Path:
    """Write a file of one client with a quota."""
    path = folder / "clients.yaml"
    path.write_text(f"web: {{token_sha256: [{token_digest(TOKEN)}], {quota}}}")
    return path


def attempt(live: LiveServer, text: str) -> bool:
    """Send a text; return whether it was let through."""
    call = live.stub.Translate.future(pb.TranslateRequest(texts=[text]), timeout=20.0, metadata=METADATA)
    code = call.code()
    assert code in {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    return code is grpc.StatusCode.OK


def offer(live: LiveServer, text: str, rate: float) -> tuple[int, int, float]:
    """Use the quota up, then send texts at a rate without waiting; return how many, how many got through, seconds.

    These begin before the first refusal and end with the last answer: the quota fills up all the time between.
    """
    asked = pb.TranslateRequest(texts=[text])
    calls = []
    began = 0.0

    def is_spent() -> bool:
        nonlocal began
        began = time.monotonic()
        return not attempt(live, text)

    wait_until(is_spent, "the quota is used up", 60.0)
    count = round(rate * (SECONDS or SHORT_SECONDS))
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        calls.append(live.stub.Translate.future(asked, timeout=20.0, metadata=METADATA))
    codes = [call.code() for call in calls]
    return count, codes.count(grpc.StatusCode.OK), time.monotonic() - began


@pytest.mark.parametrize(
    ("quota", "rate", "text"), [("requests_per_second", 20, "ab"), ("characters_per_second", 60, "abc")]
)
def test_a_rate_holds_within_five_percent(tmp_path: Path, quota: str, rate: int, text: str) -> None:
    """Whoever sends more than his rate gets his rate, requests or characters."""
    with LiveServer([loaded(reversing())], clients=clients(tmp_path, f"{quota}: {rate}")) as live:
        offered, admitted, seconds = offer(live, text, OFFERED)
    size = len(text) if quota == "characters_per_second" else 1
    found = admitted * size / seconds
    print(  # noqa: T201
        f"{quota}: {rate} allowed, {offered * size / seconds:.0f} offered, {found:.2f} let through "
        f"({100 * (found / rate - 1):+.1f} %) over {seconds:.1f} s"
    )
    assert found <= 1.05 * rate + size / seconds
    assert not SECONDS or found >= 0.95 * rate


def test_calls_in_flight_hold_exactly(tmp_path: Path) -> None:
    """Of eight calls at once, four are let in; when they have ended, the next is."""
    gate = Gate()
    with LiveServer([loaded(reversing(gate))], clients=clients(tmp_path, "in_flight: 4")) as live:
        asked = pb.TranslateRequest(texts=["abc"])
        calls = [live.stub.Translate.future(asked, timeout=20.0, metadata=METADATA) for _ in range(8)]
        wait_until(lambda: sum(call.done() for call in calls) == 4, "four are refused")
        assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {call.code() for call in calls if call.done()}
        gate.open()
        codes = [call.code() for call in calls]
        assert 4 == codes.count(grpc.StatusCode.OK)
        assert attempt(live, "abc")
    print(f"in_flight: 4 allowed, {len(calls)} at once, {codes.count(grpc.StatusCode.OK)} let through")  # noqa: T201
