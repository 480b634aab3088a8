"""Alignments and streams of the embedded model: real subwords, real attention."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.v1 import translation_pb2 as pb
from service import config, models
from service.config import EMBEDDED
from tests.serving import LiveServer

SENTENCES = sorted((Path(__file__).parents[1] / "data").glob("*.tsv"))

pytestmark = pytest.mark.skipif(not any(EMBEDDED.glob("*/*/bundle.json")), reason="no embedded bundle")


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """Serve the embedded model."""
    source = models.Repository(config.Settings(provider="cpu"))
    with LiveServer([source.load(found) for found in source.find()]) as started:
        yield started


def test_cafe_comes_from_the_korean_word(live: LiveServer) -> None:
    """The characters of its first subword, in a text with others around it; spans hold no space."""
    text = "  안녕하세요.\n나는  어제 카페에 갔다."
    request = pb.TranslateRequest(texts=[text], options=pb.DecodingOptions(return_alignments=True))
    translation = live.stub.Translate(request, timeout=20.0).translations[0]
    best = translation.hypotheses[0]
    at, origin = best.text.index("cafe"), text.index("카페")
    (link,) = [link for link in best.alignments if link.target.start == at]
    assert (origin, origin + 2) >= (link.source.start, link.source.end) > (origin, origin)
    assert link.source.start >= origin
    assert translation.source_tokens[link.source_token].lstrip("\u2581") in "카페"
    for found in best.alignments:
        for whole, span in ((text, found.source), (best.text, found.target)):
            assert whole[span.start : span.end] in {" ", whole[span.start : span.end].strip()}
        assert best.tokens[found.target_token].lstrip("\u2581") in {
            "",
            best.text[found.target.start : found.target.end],
        }


def test_deltas_are_the_text_for_every_sentence(live: LiveServer) -> None:
    """None is taken back, none is missing, and the stream says what a single call says."""
    sources = [line.split("\t")[0] for file in SENTENCES for line in file.read_text(encoding="utf-8").splitlines()]
    streams = [live.stub.StreamTranslate(pb.StreamTranslateRequest(text=text), timeout=60.0) for text in sources]
    for text, stream in zip(sources, map(list, streams), strict=True):
        whole = stream[-1].translation.hypotheses[0]
        assert whole.text == "".join(message.text_delta for message in stream)
        assert [whole.text] == live.translate(text)
        assert "\ufffd" not in "".join(message.text_delta for message in stream[:-1])
