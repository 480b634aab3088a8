"""The batch keeps each row's memory and state together, whatever comes and goes."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batch import Batch, choose_lane
from service.engine.buffer import Buffer, capacity
from service.engine.lane import WIDTH_STEP, HostLanes, Load
from service.engine.layout import Layout
from service.request import Int64
from tests.fakes import CachingModel, ReversingModel

RUN_PRICE = HostLanes.run_price


def encode(model: ReversingModel, *sources: list[int]) -> tuple[object, Int64, list[int]]:
    """Return what Batch.insert takes for these sources, one row each."""
    lengths = np.array([len(source) for source in sources])
    ids = np.zeros((len(sources), lengths.max()), np.int64)
    for row, source in zip(ids, sources, strict=True):
        row[: len(source)] = source
    return model.encode(ids, lengths), lengths, [1] * len(sources)


def test_a_group_of_rows_shares_its_source() -> None:
    """Several rows of one sequence start with the same memory and state."""
    model = ReversingModel()
    batch = Batch(HostLanes(model))
    encoded, lengths, _ = encode(model, [5, 6], [7])
    batch.insert(encoded, lengths, [3, 1])  # type: ignore[arg-type]
    stepped = batch.advance(1, attention=False)
    assert 4 == len(batch)
    assert [6, 6, 6, 7] == stepped.ids[:, 0].tolist()


def test_reordering_moves_state_by_parent() -> None:
    """After reorder, a row continues where its parent was."""
    model = ReversingModel()
    batch = Batch(HostLanes(model))
    encoded, lengths, _ = encode(model, [5, 6, 7])
    batch.insert(encoded, lengths, [2])  # type: ignore[arg-type]
    stepped = batch.advance(1, attention=False)
    stepped.state["position"][1] = 1
    batch.reorder([(0, 1)])
    batch.feed(np.array([4, 4]))
    assert [5, 5] == batch.advance(1, attention=False).ids[:, 0].tolist()


def test_reordering_goes_by_lanes() -> None:
    """Groups of different widths lie in lanes of their own, in the batch's order too, and none takes another's rows."""
    model = ReversingModel()
    batch = Batch(HostLanes(model))
    encoded, lengths, _ = encode(model, [5, 6, 7], [8, 9])
    batch.insert(encoded, lengths, [2, 3])  # type: ignore[arg-type]
    first = batch.advance(1, attention=False).ids[:, 0]
    batch.reorder([(0, 1), (2, 4), (3, 4)])
    batch.feed(first)
    assert [2, 3] == batch.lanes
    assert [6, 6, 8, 8, 8] == batch.advance(1, attention=False).ids[:, 0].tolist()


def test_the_width_follows_the_longest_source() -> None:
    """The width grows at once, and shrinks when much less is needed."""
    model = ReversingModel()
    batch = Batch(HostLanes(model))
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
    buffer = Buffer((0, 3), 1, np.dtype(np.float32))
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
        buffer.keep(kept.tolist())
        rows = [rows[index] for index in kept]


def test_a_few_rows_share_a_lane_whatever_their_lengths() -> None:
    """While padding is cheaper than a run, all rows run together."""
    assert 0 == choose_lane([Load(1, 2, 8, 12)], 1, 100, RUN_PRICE)


def test_a_long_source_does_not_widen_a_full_lane() -> None:
    """Where widening would cost more than a run, a new lane opens, and short ones keep to the narrow one."""
    narrow = Load(1, 60, 16, 60 * 14)
    assert 1 == choose_lane([narrow], 1, 100, RUN_PRICE)
    assert 0 == choose_lane([narrow, Load(1, 1, 104, 100)], 1, 12, RUN_PRICE)
    assert 1 == choose_lane([narrow, Load(1, 1, 104, 100)], 1, 90, RUN_PRICE)


def test_a_wide_lane_takes_short_sources_only_up_to_the_price_of_a_run() -> None:
    """Short sources do not pile up beside a long one."""
    loads = [Load(1, 0, 0, 0).plus(96)]
    placed = 0
    while choose_lane(loads, 1, 8, RUN_PRICE) == 0:
        loads[0] = loads[0].plus(8)
        placed += 1
    assert RUN_PRICE // (96 - 8) == placed


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.randoms()), min_size=1, max_size=12)
)
def test_lanes_do_not_show(rounds: list[tuple[list[int], Random]]) -> None:
    """Over random arrivals and departures, each row gives its own source's tokens, wherever it runs."""
    model = ReversingModel()
    batch = Batch(HostLanes(model))
    rows: list[tuple[list[int], int]] = []
    for lengths, random in rounds:
        joining = [[random.randint(4, 99) for _ in range(length)] for length in lengths]
        encoded, source_lengths, rows_each = encode(model, *joining)
        batch.insert(encoded, source_lengths, rows_each)  # type: ignore[arg-type]
        rows += [(source, len(source)) for source in joining]
        for _ in range(3):
            stepped = batch.advance(1, attention=True)
            expected = [source[left - 1] if left > 0 else 3 for source, left in rows]
            assert expected == stepped.ids[:, 0].tolist()
            assert stepped.attention is not None
            assert [max(left - 1, 0) for _, left in rows] == stepped.attention.argmax(axis=1).tolist()
            batch.feed(stepped.ids[:, 0])
            rows = [(source, left - 1) for source, left in rows]
        staying = sorted(random.sample(range(len(rows)), random.randint(1, len(rows))))
        kept = sorted(staying, key=lambda row: (row >= len(staying), row))
        batch.keep(kept)
        rows = [rows[row] for row in kept]
        assert sum(batch.lanes) == len(rows) == len(batch)


def test_capacity_grows_in_few_buckets() -> None:
    """No bucket is a third larger than what it must hold, beyond the first, and there are few of them."""
    buckets = sorted({capacity(tokens) for tokens in range(1, 513)})
    assert [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512] == buckets
    assert all(tokens <= capacity(tokens) <= max(16, 3 * tokens // 2) for tokens in range(1, 513))


def test_a_layout_knows_what_caches_cost() -> None:
    """Caches cost what their fixed axes hold; a model without caches costs nothing for each token."""
    assert 4 == Layout.of(CachingModel(10).manifest).token_bytes
    assert 0 == Layout.of(ReversingModel().manifest).token_bytes
