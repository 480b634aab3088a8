"""Text to ids and back."""

import pytest

from service.bundle import Bundle, load
from service.config import EMBEDDED
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


def test_spans_of_pieces() -> None:
    """Characters of the text as it was written; the end symbol has none."""
    subject = tokenizer((END_ID,))
    assert [(1, 2), (2, 3), (3, 4), (4, 5), None] == subject.source_spans(" ab 가 ")
    assert [(0, 1), (1, 2), (2, 3)] == subject.target_spans(subject.encode_target("a 가"))


def test_pieces_have_ids() -> None:
    """Those of the vocabulary; others have none."""
    subject = tokenizer()
    assert subject.encode_target("a") == (subject.target_id("a"),)
    assert subject.target_id("ab") is None


def test_bytes_share_the_span_of_their_character() -> None:
    """Where a character is spelled in bytes, each of them stands for the whole character, on both sides."""
    subject = Tokenizer.from_bundle(load(EMBEDDED / "ko-en" / "1"))
    assert [(2, 3), (2, 3), (2, 3), None] == subject.source_spans("a 龜")[-4:]
    assert [(2, 3)] * 3 == subject.target_spans(subject.encode_target("a 龜"))[-3:]
