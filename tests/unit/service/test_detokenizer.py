"""Text that grows: deltas add up to the text, and nothing given out is ever taken back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import bundle
from service.config import EMBEDDED
from service.detokenizer import Detokenizer
from service.tokenizer import Tokenizer
from tests.serving import tokenizer

SENTENCES = sorted((Path(__file__).parents[2] / "data").glob("*.tsv"))
BYTES = range(4, 260)
"""Ids of the pieces that are single bytes, in the embedded model's target vocabulary."""


@pytest.fixture(scope="module")
def embedded() -> Tokenizer:
    """Return the tokenizer of the embedded model, which spells rare characters in bytes."""
    return Tokenizer.from_bundle(bundle.load(EMBEDDED / "ko-en" / "1"))


def grown(decode: Callable[..., str], ids: list[int], sizes: list[int]) -> str:
    """Push ids in portions of these sizes, over and over; return all that came, with the rest that the end brings."""
    subject, text, start = Detokenizer(decode), "", 0
    while start < len(ids):
        size = sizes[start % len(sizes)]
        text += subject.push(ids[start : start + size])
        start += size
        assert decode(ids).startswith(text)
    assert len(text) == subject.length
    return text + decode(ids)[subject.length :]


def test_a_character_waits_until_it_is_whole(embedded: Tokenizer) -> None:
    """The three bytes of 龜 give nothing, nothing, and the character; the word before it came at once."""
    subject = Detokenizer(embedded.decode)
    ids = embedded.encode_target("to 龜")
    assert ["to", " ", "", "", "龜"] == [subject.push([token]) for token in ids]


def test_no_space_before_the_first_word(embedded: Tokenizer) -> None:
    """And one before each further word, also where the window of ids was cut."""
    ids = embedded.encode_target("the " * 100)
    subject = Detokenizer(embedded.decode)
    assert ["the", *[" the"] * 99] == [subject.push([token]) for token in ids]


def test_every_sentence_of_the_test_set(embedded: Tokenizer) -> None:
    """Token by token, the deltas are the text."""
    lines = [line for file in SENTENCES for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 90
    for text in [text for line in lines for text in line.split("\t")[:2]]:
        ids = list(embedded.encode_target(text))
        assert embedded.decode(ids) == grown(embedded.decode, ids, [1])


@given(
    ids=st.lists(st.one_of(st.integers(0, 7999), st.sampled_from(BYTES), st.sampled_from([0, 1, 2, 3])), max_size=120),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_any_ids_at_all(embedded: Tokenizer, ids: list[int], sizes: list[int]) -> None:
    """Broken characters, control symbols, the unknown: still the deltas are the text."""
    assert embedded.decode(ids) == grown(embedded.decode, ids, sizes)


def test_single_characters() -> None:
    """A vocabulary without word marks works the same way."""
    subject = tokenizer()
    ids = list(subject.encode_target("카페 abc 가나다 " * 10))
    assert subject.decode(ids) == grown(subject.decode, ids, [1, 3])
