"""The model in the repository: made from the checkpoint beside it, and as good as its card says."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.attention_rnn_original import AttentionRnnOriginal
from export.bundle_command import check_origin
from export.cli import main
from export.training.corpus import read_tsv
from export.verify import verify
from service import bundle, trial
from service.bundle import Bundle
from service.config import EMBEDDED
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.request import DecodingParams, Request
from service.tokenizer import Tokenizer
from tests.fakes import FakePermit, Recorder

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "export/checkpoints/ko-en"
SENTENCES = ROOT / "tests/data/test.tsv"

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    """Load the embedded bundle."""
    return bundle.load(EMBEDDED / "ko-en" / "1")


def test_the_embedded_bundle_is_its_checkpoint(embedded: Bundle) -> None:
    """The bundle was made from the committed checkpoint, and computes what PyTorch computes."""
    original = AttentionRnnOriginal.load(CHECKPOINT)
    check_origin(embedded.manifest, original.facts)
    parity = verify(OnnxModel.load(embedded, "cpu"), original, list(read_tsv(SENTENCES)))
    assert len(list(read_tsv(SENTENCES))) == parity.sentences


def test_the_embedded_bundle_keeps_its_promises(embedded: Bundle) -> None:
    """Its size, its quality and its parity report are what the project asks of it."""
    manifest = embedded.manifest
    assert ("ko", "en") == (manifest.model.source_language, manifest.model.target_language)
    assert sum(map(len, embedded.contents.values())) <= 16 * 2**20
    assert manifest.parity.sentences >= 500
    quality = {one.test_set: one.chrf for one in manifest.quality}
    assert quality["test.tsv"] >= 46.1
    assert quality["everyday_test.tsv"] >= 35.0


def test_the_self_test_can_be_recorded_again(embedded: Bundle, tmp_path: Path) -> None:
    """The command chooses the same sentence, changes nothing else, and the service gets what was recorded."""
    recorded = embedded.manifest.self_test
    assert recorded is not None
    folder = shutil.copytree(EMBEDDED / "ko-en" / "1", tmp_path / "1")
    without = msgspec.structs.replace(embedded.manifest, self_test=None)
    (folder / bundle.MANIFEST).write_text(without.to_json(), encoding="utf-8")
    command = ["self-test", str(folder), "--checkpoint", str(CHECKPOINT), "--sentences", str(SENTENCES)]
    assert 0 == main(command)
    assert embedded.manifest == bundle.load(folder).manifest
    trial.prove(OnnxModel.load(embedded, "cpu"), Tokenizer.from_bundle(embedded), recorded)


def test_cafe_comes_from_cafe(embedded: Bundle) -> None:
    """A plain sentence with 카페 gives one with cafe, and its attention lies on 카페."""
    tokenizer = Tokenizer.from_bundle(embedded)
    source = tokenizer.encode("나는 어제 카페에 갔다.")
    recorder = Recorder()
    engine = Engine(OnnxModel.load(embedded, "cpu"), Limits(), recorder.deliver, recorder, recorder.fail)
    engine.submit(Request("a", source.ids, DecodingParams(50, return_attention=True)), FakePermit())
    while engine.step():
        pass
    (best,) = recorder.last("a").hypotheses
    assert "cafe" in tokenizer.decode(best.token_ids)
    assert best.attention is not None
    pieces = tokenizer.target_pieces(best.token_ids)
    row = next(index for index, piece in enumerate(pieces) if piece.startswith("▁ca"))
    hit = source.pieces[int(np.argmax(best.attention[row]))].strip("▁")
    assert hit in ("카페에", "카페", "카", "페", "페에", "에")
