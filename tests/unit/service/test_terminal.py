"""What the commands show, compared as a reader sees it."""

from service.terminal import AttentionPicture, aligned_words, pad, shown, table, width

SOURCE = ["▁카페", "에서", "▁만나", "</s>"]
TARGET = ["▁Meet", "▁at", "▁the", "▁caf", "e"]
WEIGHTS = [
    [0.0, 0.0, 0.9, 0.1],
    [0.3, 0.7, 0.0, 0.0],
    [0.6, 0.4, 0.0, 0.0],
    [1.0, 0.0, 0.0, 0.0],
    [0.5, 0.3, 0.2, 0.0],
]


def test_korean_is_two_columns_wide() -> None:
    """Width and padding count columns, not characters."""
    assert (4, 2, 1) == (width("카페"), width("ab"), width("e\u0301"))
    assert "카페 " == pad("카페", 5)
    assert "A     B\n카페  x" == table(["A", "B"], [["카페", "x"]])


def test_pieces_are_shown_for_reading() -> None:
    """A word's first piece bare, its others behind a dot, symbols as they are."""
    assert ["cafe", "·s", "</s>", "▁"] == [shown(piece) for piece in ("▁cafe", "s", "</s>", "▁")]


def test_picture() -> None:
    """Each weight stands under its source token and beside its target token."""
    assert [
        "      카페 ·에서 만나 </s>",
        "Meet             ██90 ░░10",
        "  at  ▒▒30 ▓▓▓70",
        " the  ▓▓60 ▒▒▒40",
        " caf  ██99",
        "  ·e  ▓▓50 ▒▒▒30 ░░20",
    ] == AttentionPicture(SOURCE, TARGET, WEIGHTS).draw(80, colour=False).splitlines()


def test_a_narrow_terminal_gets_panels_with_words_downwards() -> None:
    """No line is wider than the terminal, and every column is there."""
    drawn = AttentionPicture(SOURCE, TARGET, WEIGHTS).draw(20, colour=False)
    assert 2 == len(drawn.split("\n\n"))
    assert max(map(width, drawn.splitlines())) <= 20
    assert set("카페에서만나") <= set(drawn)


def test_colour_changes_nothing_but_colour() -> None:
    """Every weight that shows without colour shows with it."""
    painted = AttentionPicture(SOURCE, TARGET, WEIGHTS).draw(80, colour=True)
    shown_weights = sum(weight >= 0.05 for row in WEIGHTS for weight in row)
    assert shown_weights == painted.count("\x1b[0m") == painted.count("\x1b[48;5;")


def test_alignments_join_pieces_into_words() -> None:
    """A target word's share of a source word is the mean over its pieces of the sum over the source word's."""
    assert [
        "Meet <- 만나 (0.90)",
        "  at <- 카페에서 (1.00)",
        " the <- 카페에서 (1.00)",
        "cafe <- 카페에서 (0.90)",
    ] == AttentionPicture(SOURCE, TARGET, WEIGHTS).alignments()


def test_nothing_to_draw() -> None:
    """A translation without tokens has no picture and no words."""
    empty = AttentionPicture(SOURCE, [], [])
    assert [] == empty.alignments()
    assert "카페" in empty.draw(80, colour=False)


def test_words_that_belong_together() -> None:
    """Links of subwords become lines of words, in the order of the translation; spaces are nobody's."""
    source, target = "나는 카페에 갔다", "I went to the cafe"
    links = [
        ((0, 1), (0, 2)),
        ((1, 2), (2, 3)),
        ((2, 6), (7, 9)),
        ((14, 16), (3, 4)),
        ((16, 18), (4, 5)),
        ((7, 9), (5, 6)),
    ]
    assert ["   I <- 나는", "went <- 갔다", "  to <- 카페에", "cafe <- 카페에"] == aligned_words(source, target, links)
