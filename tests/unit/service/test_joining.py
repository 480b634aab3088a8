"""Segments become one translation: tokens, scores, attention and spans in turn."""

import numpy as np

from service.joining import Translation, joined, translation
from service.options import Options
from service.request import FinishReason, Hypothesis, Output
from service.segments import Segment
from tests.fakes import END_ID
from tests.serving import tokenizer

SUBJECT = tokenizer((END_ID,))
OPTIONS = Options(return_attention=True, return_alignments=True)


def part(text: str, start: int, *texts: str, reason: FinishReason = FinishReason.END) -> Translation:
    """Return the translation of a segment at `start`, whose first target tokens attend to its first source token."""
    source = SUBJECT.encode(text)
    hypotheses = []
    for rank, target in enumerate(texts):
        ids = SUBJECT.encode_target(target)
        weights = np.zeros((len(ids), len(source.ids)), np.float32)
        weights[:, 0] = 1.0
        hypotheses.append(Hypothesis(ids, (-0.5,) * len(ids), -1.0 - rank, reason, weights))
    output = Output("a", finish_reason=reason, hypotheses=tuple(hypotheses))
    return translation(SUBJECT, Segment((start, start + len(text)), text, source), output, OPTIONS)


def test_one_segment_is_itself() -> None:
    """Nothing is copied."""
    only = part("ab", 2, "c")
    assert only is joined([only], [])
    assert [((2, 4), (0, 1))] == only.segments
    assert [(0, 0, (0, 1), (2, 3))] == list(only.candidates[0].links)


def test_two_segments_in_turn() -> None:
    """Rank by rank, as many as both have; the gap counts in characters, not in tokens."""
    whole = joined([part("ab", 0, "cd", "c"), part("e", 4, "fgh", reason=FinishReason.LENGTH)], ["\n "])
    (best,) = whole.candidates
    assert "cd\n fgh" == best.text
    assert list("cdfgh") == best.tokens
    assert ["a", "b", "</s>", "e", "</s>"] == whole.source_tokens
    assert [((0, 2), (0, 2)), ((4, 5), (4, 7))] == whole.segments
    assert (-2.0, FinishReason.LENGTH) == (best.hypothesis.score, best.hypothesis.finish_reason)
    assert (-0.5,) * 5 == best.hypothesis.log_probs
    assert best.attention is not None
    assert (5, 5) == best.attention.shape
    assert [[0, 0], [1, 0], [2, 3], [3, 3], [4, 3]] == np.argwhere(best.attention).tolist()
    assert [(0, 0, (0, 1), (0, 1)), (1, 0, (1, 2), (0, 1))] == list(best.links[:2])
    assert (4, 3, (6, 7), (4, 5)) == best.links[-1]


def test_attention_is_not_shown_unless_asked_for() -> None:
    """Alignments need it, and do not give it away."""
    source = SUBJECT.encode("a")
    found = Hypothesis((5,), (-0.5,), -1.0, FinishReason.END, np.ones((1, 2), np.float32))
    output = Output("a", finish_reason=FinishReason.END, hypotheses=(found,))
    segment = Segment((0, 1), "a", source)
    for options, links in ((Options(return_alignments=True), 1), (Options(), 0)):
        (best,) = translation(SUBJECT, segment, output, options).candidates
        assert (None, links) == (best.attention, len(best.links))
