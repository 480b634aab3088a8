"""Hard alignments: the best source token of each target token, among those with characters."""

import numpy as np

from service.alignment import Link, align


def test_the_most_attended_source_token() -> None:
    """The end symbol has no characters: the best of the others counts, however little it has."""
    weights = np.array([[0.1, 0.6, 0.3], [0.2, 0.1, 0.7]], np.float32)
    assert [Link(0, 1, (0, 2), (1, 2)), Link(1, 0, (2, 3), (0, 1))] == align(
        weights, [(0, 1), (1, 2), None], [(0, 2), (2, 3)]
    )


def test_nothing_to_align() -> None:
    """An empty translation, and a source without characters."""
    assert [] == align(np.zeros((0, 2), np.float32), [(0, 1), None], [])
    assert [] == align(np.ones((1, 1), np.float32), [None], [(0, 1)])


def test_a_link_of_a_later_segment() -> None:
    """What stands before its segment is counted on both sides."""
    assert Link(11, 22, (103, 104), (1005, 1006)) == Link(1, 2, (3, 4), (5, 6)).shifted((10, 20), (100, 1000))
