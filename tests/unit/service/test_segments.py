"""Long texts: every sentence is in one segment or another, and what is between segments stays between them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import bundle, segments
from service.config import EMBEDDED
from service.segments import Segment, UnsplittableError
from service.tokenizer import Tokenizer
from tests.fakes import Bystander
from tests.serving import tokenizer

KOREAN = ("안녕하세요", "저는 학생입니다", "카페에 갔다", "값은 3.5달러입니다", "이것은 책상이고 저것은 의자예요")
ENGLISH = ("Hello there", "Dr. Smith went home", "it costs 3.5 dollars", "see example.com for more", "(he said so)")


@pytest.fixture(scope="module")
def embedded() -> Tokenizer:
    """Return the tokenizer of the embedded model."""
    return Tokenizer.from_bundle(bundle.load(EMBEDDED / "ko-en" / "1"))


def cut(subject: Tokenizer, text: str, limit: int, language: str = "ko") -> list[Segment]:
    """Cut a text as the pipeline does."""
    return asyncio.run(segments.segment(subject, text, segments.sentences(text, language), limit))


@given(
    sentences=st.lists(
        st.tuples(
            st.sampled_from(KOREAN + ENGLISH), st.sampled_from([".", "!", "?"]), st.sampled_from([" ", "\n", "\r\n\t "])
        ),
        min_size=1,
        max_size=30,
    )
)
def test_no_sentence_is_dropped(embedded: Tokenizer, sentences: list[tuple[str, str, str]]) -> None:
    """There are as many segments as the document has sentences, and each of them is one of its sentences."""
    written = [sentence + mark for sentence, mark, _ in sentences]
    found = cut(embedded, "".join(map("".join, sentences)), 120)
    assert written == [segment.text for segment in found]


@given(text=st.text(alphabet=st.sampled_from("abc가나.!?,\"'()。 \t\n\r\u2028\u200b😀e\u0301"), max_size=200))
def test_every_character_is_in_one_segment_or_between_two(embedded: Tokenizer, text: str) -> None:
    """Between them is white space alone, or what the model has no token for; segments fit, whatever the text."""
    found = cut(embedded, text, 12)
    end = 0
    for start, stop in [segment.span for segment in found] + [(len(text), len(text))]:
        assert start >= end
        assert embedded.added == len(embedded.encode(text[end:start]).ids)
        end = stop
    assert all(embedded.added < len(segment.source.ids) <= 12 for segment in found)
    assert [text[start:end] for (start, end), _, _ in found] == [segment.text for segment in found]


def test_one_sentence_is_one_segment() -> None:
    """Without the white space around it."""
    assert [(2, 6)] == segments.sentences("  abc.\n", "en")


def test_too_long_a_sentence_is_cut_where_a_clause_ends() -> None:
    """Else at a space, else between two tokens; near the middle in any case."""
    subject = tokenizer()
    cuts = {
        "aaaa, bbb ccc": ["aaaa,", "bbb ccc"],
        "aaa bbb ccc ddd": ["aaa bbb", "ccc ddd"],
        "aaaaaaaabbbbbbbb": ["aaaaaaaa", "bbbbbbbb"],
        "a, bbbbbbbbbbbbb": ["a, bbbbb", "bbbbbbbb"],
    }
    for text, parts in cuts.items():
        assert parts == [segment.text for segment in cut(subject, text, 10)]


def test_one_character_may_be_too_much(embedded: Tokenizer) -> None:
    """A character of several bytes, and a limit of one token."""
    with pytest.raises(UnsplittableError):
        cut(embedded, "龜", 2)


@pytest.mark.parametrize(("language", "between"), [("en", " "), ("ja", ""), ("zh-Hant", "")])
def test_sentences_that_touch(language: str, between: str) -> None:
    """Are parted by a space where the target language writes one."""
    text = "你好。再见。"
    first, second = segments.sentences(text, "zh")
    assert ((0, 3), (3, 6)) == (first, second)
    assert between == segments.joint(text, first, second, language)


def test_white_space_stays() -> None:
    """Whatever the language."""
    assert "\n\n " == segments.joint("a.\n\n b", (0, 2), (5, 6), "ja")


async def test_others_have_their_turn() -> None:
    """A long text does not keep the event loop for itself."""
    text = "abc. " * 100
    async with Bystander() as other:
        await segments.segment(tokenizer(), text, segments.sentences(text, "en"), 20)
    assert other.turns >= 100 // segments.TURN


@given(
    text=st.text(alphabet=st.sampled_from("aB3가나é漢 ,'\"()-.!?。！…\n"), min_size=1, max_size=40),
    language=st.sampled_from(["ko", "en", "ja", "de", "hy", "el", "my", "ar", "hi", "xx"]),
)
def test_what_is_surely_one_sentence_is_one(text: str, language: str) -> None:
    """The segmenter, which is not asked then, would say the same."""
    if segments.SURELY_ONE.fullmatch(text):
        assert segments.segmented(text, language) == segments.sentences(text, language)


def test_a_stray_mark_belongs_to_the_sentence_before_it() -> None:
    """It would make no sense alone."""
    assert [(0, 9)] == segments.sentences("Go; now!)", "en")


def test_most_sentences_are_surely_one() -> None:
    """And a text of two is not."""
    for text in (*KOREAN[:3], "안녕하세요.", "He said (quietly) 'no'?", "Wait...", "정말!?"):
        assert segments.SURELY_ONE.fullmatch(text)
    for text in ("안녕. 가자", "Yes! No", "a\nb", "你好。再见"):
        assert not segments.SURELY_ONE.fullmatch(text)
