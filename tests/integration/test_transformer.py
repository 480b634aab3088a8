"""The Transformer beside the embedded model: one server for both families, and what its own bundle promises."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service import bundle, models
from service.config import Settings
from tests.serving import LiveServer

BUNDLES = Path(__file__).resolve().parents[2] / "models"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """Serve all that is in the repository's own folder of models."""
    repository = models.Repository(Settings(model_repository=BUNDLES, provider="cpu"))
    with LiveServer([repository.load(found) for found in repository.find()]) as server:
        yield server


def test_both_families_translate(live: LiveServer) -> None:
    """Each is found by its name; a request that names neither is told what there is."""
    asked = pb.TranslateRequest(texts=["파일을 열 수 없습니다.", "나는 어제 카페에 갔다."])
    for name, family in (("ko-en", "attention-rnn"), ("ko-en-transformer", "marian")):
        asked.model = name
        answered = live.stub.Translate(asked, timeout=60.0)
        held = next(
            one for one in live.stub.ListModels(pb.ListModelsRequest(), timeout=20.0).models if one.name == name
        )
        assert (name, family) == (answered.model, held.family)
        assert all(translation.hypotheses[0].text for translation in answered.translations)
    asked.model = ""
    with pytest.raises(grpc.RpcError) as caught:
        live.stub.Translate(asked, timeout=20.0)

    assert "several would do, name one: ko-en, ko-en-transformer" in str(caught.value.details())


def test_beams_and_attention(live: LiveServer) -> None:
    """The Transformer's options are those of every model: hypotheses, and attention over the source's tokens."""
    options = pb.DecodingOptions(beam_size=4, num_hypotheses=2, return_attention=True)
    asked = pb.TranslateRequest(texts=["파일을 열 수 없습니다."], model="ko-en-transformer", options=options)
    (translation,) = live.stub.Translate(asked, timeout=60.0).translations
    attention = translation.hypotheses[0].attention

    assert 2 == len(translation.hypotheses)
    assert (len(translation.hypotheses[0].tokens), len(translation.source_tokens)) == (
        attention.rows,
        attention.columns,
    )
    for row in range(attention.rows):
        weights = attention.weights[row * attention.columns :][: attention.columns]
        assert sum(weights) == pytest.approx(1.0, abs=1e-3)


def test_the_bundle_is_what_its_card_says() -> None:
    """It is small enough to be cloned, made of real sentences' proof, and as good in int8 as in PyTorch."""
    made = bundle.load(BUNDLES / "ko-en-transformer/1")
    parity = made.manifest.parity

    assert sum(map(len, made.contents.values())) <= 16 * MEBIBYTE
    assert ("marian", "int8", "ko", "en") == tuple(
        getattr(made.manifest.model, name) for name in ("family", "precision", "source_language", "target_language")
    )
    assert parity.sentences >= 490
    assert parity.chrf_difference is not None
    assert parity.beam is not None
    assert max(abs(parity.chrf_difference), abs(parity.beam.chrf_difference)) <= 0.3
