"""Which words of a sample belong together, and which layer's attention says so."""

import numpy as np
import pytest

from export.transformer.alignment import align

pytestmark = pytest.mark.torch


def test_words_that_occur_together_are_aligned() -> None:
    """Three pairs of two words are enough to tell all of them apart, in any order."""
    pairs = [([1, 2], [11, 12]), ([2, 3], [13, 12]), ([3, 1], [11, 13])]
    found = align(pairs)

    assert [[0, 1], [1, 0], [1, 0]] == [alignment.argmax(axis=1).tolist() for alignment in found]
    assert all(np.allclose(1.0, alignment.sum(axis=1)) for alignment in found)


def test_a_single_pair_says_nothing() -> None:
    """Without another sentence, every source word is as likely."""
    assert [[0.5, 0.5]] == align([([1, 2], [11])])[0].tolist()
