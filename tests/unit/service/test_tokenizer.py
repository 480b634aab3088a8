"""Text to ids and back."""

import json

import msgspec
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


def numbered(pieces: dict[str, int], **fields: object) -> Tokenizer:
    """Return a tokenizer whose SentencePiece model is numbered by a file."""
    spec = msgspec.structs.replace(manifest().tokenizer, ids_file="ids.json", source_suffix=(0,), **fields)
    files = {"source.spm": character_model(), "target.spm": character_model(), "ids.json": json.dumps(pieces).encode()}
    return Tokenizer.from_bundle(Bundle("toy", "1", msgspec.structs.replace(manifest(), tokenizer=spec), files))


def test_pieces_can_be_numbered_by_a_file() -> None:
    """Ids are the file's, a piece that it lacks is unknown, and language tokens stand around the text, not in it."""
    subject = numbered(
        {"</s>": 0, "b": 1, "a": 2, "<unk>": 3, "__en__": 4}, unknown_id=3, source_prefix=(4,), special_ids=(0, 4)
    )
    source = subject.encode("abc")

    assert (4, 2, 1, 3, 0) == source.ids
    assert ["__en__", "a", "b", "c", "</s>"] == source.pieces
    assert [None, (0, 1), (1, 2), (2, 3), None] == subject.source_spans("abc")
    assert "ab" == subject.decode([4, 2, 1, 0])
    assert [(0, 0), (0, 1), (1, 2), (2, 2)] == subject.target_spans([4, 2, 1, 0])
    assert (["__en__", "a"], 2, 4) == (subject.target_pieces([4, 2]), subject.added, subject.target_id("__en__"))


def test_a_text_cannot_write_a_special_piece() -> None:
    """What the model cuts as one unknown part is unknown, even where it reads like a special piece."""
    pieces = {"</s>": 0, "<unk>": 1, "a": 2, "##": 3}

    assert (1, 2, 1, 0) == numbered(pieces, unknown_id=1, special_ids=(3,)).encode("##a龜").ids
    assert (3, 2, 1, 0) == numbered(pieces, unknown_id=1).encode("##a龜").ids


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"a": "1"}', b"{", b"\xff"])
def test_a_file_of_ids_that_is_none_is_named(content: bytes) -> None:
    """The message names both files."""
    spec = msgspec.structs.replace(manifest().tokenizer, ids_file="ids.json")
    files = {"source.spm": character_model(), "target.spm": character_model(), "ids.json": content}
    with pytest.raises(BundleError, match=r"source\.spm of toy is no SentencePiece model, or ids\.json holds no ids"):
        Tokenizer.from_bundle(Bundle("toy", "1", msgspec.structs.replace(manifest(), tokenizer=spec), files))


def test_a_tokenizer_file_of_the_tokenizers_library() -> None:
    """A text goes there and back, its ids have characters, and nobody can write a special token."""
    library = pytest.importorskip("tokenizers")
    subject = library.Tokenizer(
        library.models.BPE({"<unk>": 0, "▁": 1, "a": 2, "b": 3, "</s>": 4}, [], unk_token="<unk>")  # noqa: S106 # A piece.
    )
    subject.pre_tokenizer = library.pre_tokenizers.Metaspace()
    subject.decoder = library.decoders.Metaspace()
    subject.add_special_tokens(["</s>"])
    spec = msgspec.structs.replace(
        manifest().tokenizer, kind="tokenizers", source_file="tokenizer.json", target_file="tokenizer.json",
        unknown_id=0, end_id=4, source_suffix=(4,), special_ids=(4,),
    )  # fmt: skip
    good = msgspec.structs.replace(manifest(), tokenizer=spec)
    tokenizer = Tokenizer.from_bundle(Bundle("toy", "1", good, {"tokenizer.json": subject.to_str().encode()}))

    assert ((1, 2, 3, 1, 2, 4), ["▁", "a", "b", "▁", "a", "</s>"]) == (
        tokenizer.encode("ab a").ids, tokenizer.encode("ab a").pieces
    )  # fmt: skip
    assert 4 not in tokenizer.encode_target("</s>")
    assert "ab a" == tokenizer.decode([1, 2, 3, 1, 2, 4])
    assert (0, 1) == tokenizer.target_spans([1, 2, 3])[1]
    with pytest.raises(BundleError, match=r"tokenizer\.json of toy is no tokenizer\.json"):
        Tokenizer.from_bundle(Bundle("toy", "1", good, {"tokenizer.json": b"{}"}))
