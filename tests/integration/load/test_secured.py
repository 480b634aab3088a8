"""The load generator against a server that wants TLS and a token."""

from pathlib import Path

import pytest

from service.cli import main
from service.load.report import read
from tests.integration.test_security import TOKEN, Keys, clients_file
from tests.serving import LiveServer, loaded, reversing


def test_load_over_tls_with_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every request of every connection shows the token; without it, nothing begins."""
    keys, token, texts = Keys(tmp_path), tmp_path / "token", tmp_path / "texts"
    token.write_text(TOKEN)
    texts.write_text("abc\n")
    with LiveServer([loaded(reversing())], clients=clients_file(tmp_path, "web: {token_sha256: [DIGEST]}"),
                    **keys.settings()) as live:  # fmt: skip
        command = [
            "load", "--server", live.ready.address, "--tls-authority", str(keys.authority_file), "--texts", str(texts),
            "--rate", "20", "--arrivals", "even", "--duration", "1", "--warm-up", "0", "--connections", "2",
            "--metrics-url", live.ready.metrics_url, "--json", str(tmp_path / "json"),
        ]  # fmt: skip
        assert 0 == main([*command, "--token-file", str(token)])
        assert 1 == main(command)
    assert "UNAUTHENTICATED" in capsys.readouterr().err
    phase = read(tmp_path / "json").phases[0]
    assert (20, 20) == (phase.sent, phase.ok)
