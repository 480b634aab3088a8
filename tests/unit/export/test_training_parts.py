"""The parts of the training recipe: schedule, weights, templates, batches, vocabulary, limits of decoding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from export import vocabulary
from export.decoding import GreedyOutput, GreedyRows, in_sorted_batches, pad_sources
from export.training import data, templates
from export.training.batches import Batches, Example, collate
from export.training.corpus import read_tsv, weigh
from export.training.evaluate import score
from export.training.recipe import Recipe
from service.bundle import Decoding

pytestmark = pytest.mark.torch


def examples(number: int, weight: float = 1.0) -> list[Example]:
    """Make examples of lengths 2 to 11 whose ids say which is which."""
    return [
        Example(np.full(2 + at % 10, at, np.int32), np.full(2 + at % 7, at, np.int32), weight) for at in range(number)
    ]


def test_learning_rate_warms_up_stays_and_falls() -> None:
    """The rate rises over the warm-up, stays, and reaches zero at the end of the budget."""
    recipe = Recipe(updates=1000, learning_rate=2e-3, warmup_updates=100, decay_share=0.2)

    assert pytest.approx(2e-5) == recipe.learning_rate_at(0)
    assert pytest.approx(1e-3) == recipe.learning_rate_at(49)
    assert [2e-3, 2e-3] == [recipe.learning_rate_at(99), recipe.learning_rate_at(800)]
    assert pytest.approx(1e-3) == recipe.learning_rate_at(900)
    assert 0.0 == recipe.learning_rate_at(1000)


def test_labels_count_less() -> None:
    """One or two words weigh the label weight, three words the mean of it and one, more words one."""
    pairs = weigh(
        iter([("가", "go"), ("나", "go there"), ("다", "go there now"), ("라", "go there now please")]), 2.0, 0.25
    )

    assert [0.5, 0.5, 1.25, 2.0] == [pair.weight for pair in pairs]


def test_bad_line_is_named(tmp_path: Path) -> None:
    """A line without two fields is named by file and number."""
    path = tmp_path / "bad.tsv"
    path.write_text("가\tgo\tsource\n나\n", encoding="utf-8")

    with pytest.raises(ValueError, match=r"bad\.tsv:2: expected source<TAB>target, got 1 field"):
        list(read_tsv(path))


@pytest.mark.parametrize(
    ("word", "expected"), [("카페", "카페는"), ("책", "책은"), ("나", "나는"), ("선생님", "선생님은")]
)
def test_particles_follow_the_final_consonant(word: str, expected: str) -> None:
    """은 after a final consonant, 는 after a vowel."""
    assert expected == templates.with_particle(word, "은", "는")


def test_templates_hold_the_article_sentence() -> None:
    """Every template sentence is there once, the one of the attention article among them."""
    sentences = list(templates.sentences())

    assert ("나는 카페에 갔다.", "I went to the cafe.") in sentences
    assert len({source for source, _ in sentences}) == len(sentences)
    assert sentences == list(templates.sentences())


def test_test_sentences_are_held_out(corpus: Path) -> None:
    """No sentence of dev or of a test set is trained on, not even as a template."""
    held_out = {source for name in (data.DEV, *data.TEST_SETS) for source, _ in read_tsv(corpus / name)}
    pairs = data.training_pairs(corpus, Recipe())

    assert len(pairs) > 200
    assert set() == held_out & {pair.source for pair in pairs}


def test_batches_are_bounded_and_complete() -> None:
    """A pass holds every example once, in batches within the bound of padded tokens."""
    batches = Batches(examples(97), max_tokens=40, seed=1).of_pass(0)
    sizes = [len(batch) * max(max(len(e.source), len(e.target)) for e in batch) for batch in batches]

    assert max(sizes) <= 40
    assert list(range(97)) == sorted(int(example.source[0]) for batch in batches for example in batch)


def test_batches_of_a_pass_are_a_function_of_its_number() -> None:
    """The same pass comes out the same, another one in another order."""

    def order(seed: int, number: int) -> list[list[int]]:
        batches = Batches(examples(97), 40, seed).of_pass(number)
        return [[int(example.source[0]) for example in batch] for batch in batches]

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(1, 4)
    assert order(1, 3) != order(2, 3)


@pytest.mark.parametrize(("weight", "least", "most"), [(0.25, 150, 350), (2.0, 2000, 2000), (1.5, 1400, 1600)])
def test_weights_are_expected_copies(weight: float, least: int, most: int) -> None:
    """A weight is how often an example is seen in a pass: by chance in its fraction, surely in its whole part."""
    batches = Batches(examples(1000, weight), 400, seed=1).of_pass(0)

    assert least <= sum(map(len, batches)) <= most


def test_collate_shifts_the_labels() -> None:
    """The decoder reads the start symbol and all but the last label."""
    batch = collate([examples(9)[8], examples(3)[2]], pad_id=0, start_id=2)

    assert [[8, 8, 8, 0], [2, 2, 2, 2]] == batch.labels.tolist()
    assert [2, 2] == batch.inputs[:, 0].tolist()
    assert batch.labels[:, :-1].tolist() == batch.inputs[:, 1:].tolist()
    assert [10, 4] == batch.source_lengths.tolist()


def test_vocabulary_reads_any_text(checkpoint_folder: Path) -> None:
    """Special ids are fixed, a source ends with its end symbol, and bytes stand in for letters never seen."""
    both = vocabulary.load_both(checkpoint_folder / "source.spm", checkpoint_folder / "target.spm")
    ids = both.source_ids("나는 카페에 갔다. 🦀")

    assert vocabulary.END_ID == ids[-1]
    assert vocabulary.UNKNOWN_ID not in ids
    assert "나는 카페에 갔다. 🦀" == both.source.decode(ids)
    assert (0, 1, 2, 3) == (both.target.pad_id(), both.target.unk_id(), both.target.bos_id(), both.target.eos_id())


def test_scores_carry_signatures() -> None:
    """A perfect translation scores 100, and the signature says how it was measured."""
    quality = score(["a small test of it"], ["a small test of it"])

    assert pytest.approx(100.0) == quality.chrf
    assert pytest.approx(100.0) == quality.bleu
    assert "version:" in quality.chrf_signature


def test_rows_end_at_their_end_symbol_or_their_limit() -> None:
    """Each row has the limit that its own length gives it; what comes after its end is ignored."""
    limits = Decoding(max_source_tokens=10, max_target_tokens=4, target_ratio=1.0, target_offset=1, length_penalty=0.0)
    rows = GreedyRows([[5], [5, 5]], 3, limits)
    for tokens in ([7, 7], [8, 3], [9, 9]):
        rows.append(tokens, [0.5, 0.5])

    assert rows.finished
    assert [[7, 8], [7]] == [output.target_ids for output in rows.outputs]
    assert [2, 2] == [len(output.margins) for output in rows.outputs]


def test_sorted_batches_keep_the_order_of_the_sources() -> None:
    """Sentences are batched by length and come back in the order in which they were given."""
    sources = [[1] * length for length in (5, 2, 9, 1, 7)]
    batches: list[list[int]] = []

    def decode(batch: Sequence[Sequence[int]]) -> list[GreedyOutput]:
        batches.append([len(source) for source in batch])
        return [GreedyOutput(list(source), []) for source in batch]

    assert sources == [output.target_ids for output in in_sorted_batches(decode, sources, rows=2)]
    assert [[1, 2], [5, 7], [9]] == batches


def test_pad_sources() -> None:
    """Ids are padded behind, lengths tell how far they go."""
    ids, lengths = pad_sources([[5, 3], [6, 7, 3]])

    assert [[5, 3, 0], [6, 7, 3]] == ids.tolist()
    assert [2, 3] == lengths.tolist()
