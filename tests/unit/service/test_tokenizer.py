"""Text to ids and back."""

import pytest

from service.bundle import Bundle
from service.errors import BundleError
from service.tokenizer import Tokenizer
from tests.fakes import END_ID, UNKNOWN_ID, manifest
from tests.serving import character_model, tokenizer


def test_there_and_back() -> None:
    """Every id has its piece, and decoding gives the text again."""
    subject = tokenizer()
    source = subject.encode("카페 abc")
    assert 6 == len(source.ids) == len(source.pieces)
    assert "카페 abc" == subject.decode(source.ids)
    assert source.pieces == subject.target_pieces(source.ids)


def test_the_suffix_has_its_piece() -> None:
    """The end symbol stands in the ids and in the pieces, so that they match the memory's length."""
    source = tokenizer((END_ID,)).encode("ab")
    assert END_ID == source.ids[-1]
    assert ["a", "b", "</s>"] == source.pieces


def test_the_unknown_is_shown_as_it_was() -> None:
    """Not as the symbol that stands for it."""
    source = tokenizer().encode("a龜b")
    assert UNKNOWN_ID == source.ids[1]
    assert ["a", "龜", "b"] == source.pieces


def test_files_of_a_bundle() -> None:
    """Both vocabularies come from the bundle; a file that is no SentencePiece model is named."""
    good = {"source.spm": character_model(), "target.spm": character_model()}
    subject = Tokenizer.from_bundle(Bundle("toy", "1", manifest(), good))
    assert ["a", "</s>"] == subject.encode("a").pieces
    with pytest.raises(BundleError, match=r"target\.spm of toy is no SentencePiece model"):
        Tokenizer.from_bundle(Bundle("toy", "1", manifest(), good | {"target.spm": b"nonsense"}))
