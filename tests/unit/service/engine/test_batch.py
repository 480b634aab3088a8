"""The batch keeps each row's memory and state together, whatever comes and goes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batch import WIDTH_STEP, Batch, MemoryBuffer
from service.request import Int64
from tests.fakes import ReversingModel


def encode(model: ReversingModel, *sources: list[int]) -> tuple[object, Int64, Int64]:
    """Return what Batch.insert takes for these sources, one row each."""
    lengths = np.array([len(source) for source in sources])
    ids = np.zeros((len(sources), lengths.max()), np.int64)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = source
    return model.encode(ids, lengths), lengths, np.ones(len(sources), np.int64)


def test_a_group_of_rows_shares_its_source() -> None:
    """Several rows of one sequence start with the same memory and state."""
    model = ReversingModel()
    batch = Batch(model)
    encoded, lengths, _ = encode(model, [5, 6], [7])
    batch.insert(encoded, lengths, np.array([3, 1]))  # type: ignore[arg-type]
    stepped = batch.advance(1, attention=False)
    assert 4 == len(batch)
    assert [6, 6, 6, 7] == stepped.ids[:, 0].tolist()


def test_reordering_moves_state_by_parent() -> None:
    """After reorder, a row continues where its parent was."""
    model = ReversingModel()
    batch = Batch(model)
    encoded, lengths, _ = encode(model, [5, 6, 7])
    batch.insert(encoded, lengths, np.array([2]))  # type: ignore[arg-type]
    stepped = batch.advance(1, attention=False)
    stepped.state["position"][1] = 1
    batch.reorder(np.array([1, 1]))
    batch.feed(np.array([4, 4]))
    assert [5, 5] == batch.advance(1, attention=False).ids[:, 0].tolist()


def test_the_width_follows_the_longest_source() -> None:
    """The width grows at once, and shrinks when much less is needed."""
    model = ReversingModel()
    batch = Batch(model)
    for source in ([5] * 3, [6] * 30):
        encoded, lengths, rows = encode(model, source)
        batch.insert(encoded, lengths, rows)  # type: ignore[arg-type]
        batch.advance(1, attention=False)
    batch.keep([0])
    encoded, lengths, rows = encode(model, [7] * 9)
    batch.insert(encoded, lengths, rows)  # type: ignore[arg-type]
    batch.advance(1, attention=False)
    assert [WIDTH_STEP, 4 * WIDTH_STEP, 2 * WIDTH_STEP] == model.widths


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=25))
def test_a_memory_buffer_equals_a_plain_list(changes: list[tuple[int, int, int]]) -> None:
    """Over random inserts and departures the buffer holds what a list of rows would, padded with zeros."""
    rng = np.random.default_rng(0)
    buffer = MemoryBuffer(np.zeros((0, 0, 3), np.float32))
    rows: list[np.ndarray] = []
    for joining, length, leaving in changes:
        values = rng.random((joining, length, 3), np.float32) + 1
        rows += list(values)
        width = max(len(row) for row in rows)
        buffer.insert(values, width)
        assert (len(rows), width, 3) == buffer.view.shape
        assert buffer.view.flags.c_contiguous
        for row, expected in zip(buffer.view, rows, strict=True):
            np.testing.assert_array_equal(expected, row[: len(expected)])
            assert not row[len(expected) :].any()
        staying = max(0, len(rows) - leaving)
        kept = np.sort(rng.permutation(len(rows))[:staying])
        buffer.keep(kept, np.nonzero(kept != np.arange(staying))[0])
        rows = [rows[index] for index in kept]
