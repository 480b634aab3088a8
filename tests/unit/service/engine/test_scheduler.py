"""The scheduler keeps order and bounds, and loses nobody."""

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service.engine.scheduler import Limits, Scheduler, similar_lengths
from service.engine.sequence import Sequence
from service.request import DecodingParams, Request
from tests.fakes import FakePermit


def sequence(name: str, tokens: int = 3, deadline: float | None = None) -> Sequence:
    """Make a sequence of so many source tokens."""
    return Sequence(Request(name, (4,) * tokens, DecodingParams(10), deadline), FakePermit(), arrived=0.0)


def join(scheduler: Scheduler) -> list[Sequence]:
    """Let join who can; return who did."""
    running = len(scheduler.bulk.running)
    scheduler.join()
    return scheduler.bulk.running[running:]


def leave(scheduler: Scheduler, leaving: Iterable[int]) -> tuple[list[int], list[int]]:
    """Let running sequences leave; return what stays, as indices and as rows."""
    left, order, kept = scheduler.bulk.leave(leaving)
    scheduler.leave(left)
    return order, kept


def names(sequences: list[Sequence]) -> list[str]:
    """Return the request ids."""
    return [one.request.request_id for one in sequences]


def test_sequences_join_in_order_of_arrival_while_rows_are_left() -> None:
    """First come, first served, up to max_rows."""
    scheduler = Scheduler(Limits(max_rows=2))
    for name in "abc":
        scheduler.add(sequence(name))
    assert ["a", "b"] == names(join(scheduler))
    assert [] == join(scheduler)
    assert (1, 2) == (scheduler.waiting, scheduler.rows)


def test_joining_is_bounded_by_padded_tokens() -> None:
    """What is encoded between two steps is bounded, but one sequence always joins."""
    scheduler = Scheduler(Limits(max_rows=9, max_join_tokens=12))
    for name, tokens in (("a", 50), ("b", 4), ("c", 4), ("d", 7)):
        scheduler.add(sequence(name, tokens))
    assert ["a"] == names(join(scheduler))
    assert ["b", "c"] == names(join(scheduler))
    assert ["d"] == names(join(scheduler))


def test_caches_are_bounded_by_what_they_may_become() -> None:
    """Rows join while all of them, grown to the longest limit among them, fit into the bound."""
    scheduler = Scheduler(Limits(max_cache_tokens=3 * 64, join_patience=0))
    for name, limit in (("a", 60), ("b", 10), ("c", 20), ("d", 20)):
        request = Request(name, (4,), DecodingParams(limit))
        scheduler.add(Sequence(request, FakePermit(), arrived=0.0))
    assert {"a", "b", "c"} == set(names(join(scheduler)))
    assert [] == join(scheduler)
    leave(scheduler, [next(i for i, one in enumerate(scheduler.bulk.running) if one.request.request_id == "a")])
    assert ["d"] == names(join(scheduler))
    assert not Limits(max_cache_tokens=100).fit(4, 30)


def test_joiners_of_a_full_batch_wait_a_moment_for_company() -> None:
    """Beside many running rows, a lone joiner waits at most join_patience steps; enough of them join at once."""
    scheduler = Scheduler(Limits(max_rows=99, join_share=4, join_patience=2))
    for number in range(8):
        scheduler.add(sequence(str(number)))
    assert 8 == len(join(scheduler))
    scheduler.add(sequence("a"))
    assert [[], [], ["a"]] == [names(join(scheduler)) for _ in range(3)]
    scheduler.add(sequence("b"))
    scheduler.add(sequence("c"))
    assert ["b", "c"] == names(join(scheduler))


def test_a_queue_fills_free_rows_together() -> None:
    """Behind a full batch, a single free row waits for others to get free: what joins counts, not what waits.

    With nobody left over, who comes joins as beside any other batch.
    """
    scheduler = Scheduler(Limits(max_rows=8, join_share=8, full_join_share=2, join_patience=1))
    for number in range(20):
        scheduler.add(sequence(str(number)))
    assert 8 == len(join(scheduler))
    leave(scheduler, [0])
    assert [] == join(scheduler)
    leave(scheduler, [0])
    assert 2 == len(join(scheduler))
    assert [] == join(scheduler)
    scheduler.clear()
    for number in range(7):
        scheduler.add(sequence(f"few {number}"))
    assert 7 == len(join(scheduler))
    scheduler.add(sequence("alone"))
    assert ["alone"] == names(join(scheduler))


def test_joiners_are_encoded_in_groups_of_similar_length() -> None:
    """A long source does not pad many short ones; a few tokens more or less make no group of their own."""
    joining = [sequence(str(tokens), tokens) for tokens in (40, 38, 10, 9, 9, 8)]
    assert [["40", "38"], ["10", "9", "9", "8"]] == [names(group) for group in similar_lengths(joining)]
    assert [["12", "11"]] == [names(group) for group in similar_lengths([sequence("12", 12), sequence("11", 11)])]
    assert [] == similar_lengths([])


def test_holes_are_filled_from_the_tail() -> None:
    """Only as many rows move as leave, and the running list tells where each went."""
    scheduler = Scheduler(Limits(max_rows=9))
    for name in "abcdef":
        scheduler.add(sequence(name))
    join(scheduler)
    assert ([0, 5, 2, 4], [0, 5, 2, 4]) == leave(scheduler, [1, 3])
    assert ["a", "f", "c", "e"] == names(scheduler.bulk.running)


def test_groups_of_rows_close_ranks() -> None:
    """Where sequences take several rows, the rows of those that stay keep their order."""
    scheduler = Scheduler(Limits(max_rows=9))
    for name, rows in (("a", 2), ("b", 1), ("c", 3)):
        grouped = sequence(name)
        grouped.rows = rows
        scheduler.add(grouped)
    join(scheduler)
    assert [0, 1, 3, 4, 5] == leave(scheduler, [1])[1]
    assert (["a", "c"], 5) == (names(scheduler.bulk.running), scheduler.rows)


def test_deadlines_are_told_once_and_in_order() -> None:
    """An expired id is returned when its time has come, and not again."""
    scheduler = Scheduler(Limits())
    scheduler.add(sequence("late", deadline=2.0))
    scheduler.add(sequence("soon", deadline=1.0))
    scheduler.add(sequence("never"))
    assert [] == scheduler.expired(0.9)
    assert ["soon", "late"] == scheduler.expired(2.0)
    assert [] == scheduler.expired(3.0)


def test_the_state_is_readable() -> None:
    """The scheduler shows its lists by their sizes."""
    scheduler = Scheduler(Limits(max_rows=1))
    scheduler.add(sequence("a"))
    scheduler.add(sequence("b"))
    join(scheduler)
    assert "<Scheduler waiting=1 running=1 rows=1>" == repr(scheduler)


@given(
    st.lists(st.sampled_from(["add", "join", "leave", "withdraw"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_nobody_is_lost_or_doubled(actions: list[str], random: Random) -> None:
    """Over random actions, each sequence is in exactly one place and running rows stay within their bound."""
    scheduler, added = Scheduler(Limits(max_rows=3)), 0
    inside: set[str] = set()
    for action in actions:
        if action == "add":
            inside.add(str(added))
            scheduler.add(sequence(str(added)))
            added += 1
        elif action == "join":
            join(scheduler)
        elif action == "leave" and scheduler.bulk.running:
            before = names(scheduler.bulk.running)
            leaving = random.sample(range(len(before)), random.randint(1, len(before)))
            inside -= {before[index] for index in leaving}
            _, kept = leave(scheduler, leaving)
            assert [before[row] for row in kept] == names(scheduler.bulk.running)
            assert all(row >= index for index, row in enumerate(kept))
        elif action == "withdraw" and inside:
            name = random.choice(sorted(inside))
            if scheduler.withdraw(name):
                inside.remove(name)
        assert scheduler.rows == len(scheduler.bulk.running) <= 3
        assert len(inside) == scheduler.waiting + len(scheduler.bulk.running)
    assert inside == set(names(scheduler.clear()))
