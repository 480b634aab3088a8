"""Rows are shared evenly between clients, by priority."""

from hypothesis import given
from hypothesis import strategies as st

from service.engine.queue import FairQueue
from service.engine.scheduler import Limits, Scheduler
from service.engine.sequence import Sequence
from service.request import DecodingParams, Priority, Request
from tests.fakes import FakePermit

NORMAL, HIGH, LOW = Priority.NORMAL, Priority.HIGH, Priority.LOW


def sequence(name: str, client: str = "", priority: Priority = NORMAL, rows: int = 1) -> Sequence:
    """Make a sequence of a client."""
    params = DecodingParams(10, beam_size=rows)
    return Sequence(Request(name, (4, 5), params, client=client, priority=priority), FakePermit(), arrived=0.0)


def drained(queue: FairQueue) -> list[str]:
    """Start everything, one after the other."""
    names = []
    while found := queue.next():
        queue.start(found)
        names.append(found.request.request_id)
    return names


def queue_of(client: str, texts: int) -> FairQueue:
    """Return a queue in which a client's first text runs, and its others wait."""
    queue = FairQueue()
    for number in range(texts):
        queue.add(sequence(f"{client}{number}", client))
    first = queue.next()
    assert first is not None
    queue.start(first)
    return queue


def test_a_client_with_one_text_goes_before_one_with_many_running() -> None:
    """Who has fewest rows running comes next, so a crowd delays a single text by one turn at most."""
    queue = queue_of("crowd", 4)
    queue.add(sequence("single", "other"))
    assert ["single", "crowd1", "crowd2", "crowd3"] == drained(queue)


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    """Clients that ask for as much get as much, in the order in which their texts came."""
    queue = FairQueue()
    for client in "ab":
        for number in range(3):
            queue.add(sequence(f"{client}{number}", client))
    assert ["a0", "b0", "a1", "b1", "a2", "b2"] == drained(queue)


def test_who_is_likely_to_come_next_can_be_seen() -> None:
    """High priority first; then clients one after the other, those without rows before those with."""
    queue = queue_of("a", 3)
    for name, client, priority in (("b0", "b", NORMAL), ("b1", "b", NORMAL), ("h0", "h", HIGH)):
        queue.add(sequence(name, client, priority))
    assert ["h0", "b0", "a1", "b1", "a2"] == [one.request.request_id for one in queue.upcoming(9)]
    assert ["h0", "b0"] == [one.request.request_id for one in queue.upcoming(2)]
    assert ["h0", "b0", "a1", "b1", "a2"] == drained(queue)


def test_wide_beams_count_as_rows() -> None:
    """A client whose texts take four rows each gets its next turn when others have four."""
    queue = FairQueue()
    for number in range(2):
        queue.add(sequence(f"wide{number}", "wide", rows=4))
    for number in range(5):
        queue.add(sequence(f"slim{number}", "slim"))
    assert ["wide0", "slim0", "slim1", "slim2", "slim3", "wide1", "slim4"] == drained(queue)


def test_priority_goes_before_fairness() -> None:
    """What is urgent joins first, whoever asks for it; what is not waits for all else."""
    queue = FairQueue()
    for name, priority in (("a", LOW), ("b", NORMAL), ("c", HIGH), ("d", NORMAL), ("e", HIGH)):
        queue.add(sequence(name, "one", priority))
    assert ["c", "e", "b", "d", "a"] == drained(queue)


def test_a_client_that_has_ended_counts_anew() -> None:
    """Rows that were given back give their client its turn again."""
    queue = FairQueue()
    running = [sequence(f"a{number}", "a") for number in range(3)]
    for one in running[:2]:
        queue.add(one)
    drained(queue)
    queue.add(running[2])
    for number in range(2):
        queue.add(sequence(f"b{number}", "b"))
    for one in running[:2]:
        queue.end(one)
    assert ["b0", "a2", "b1"] == drained(queue)


actions = st.lists(
    st.tuples(
        st.sampled_from(("add", "join", "leave", "withdraw")),
        st.sampled_from("abc"),
        st.sampled_from(Priority),
        st.integers(1, 3),
    ),
    max_size=60,
)


@given(actions, st.randoms(use_true_random=False))
def test_everybody_gets_a_turn(actions: list[tuple[str, str, Priority, int]], random: object) -> None:
    """Over random arrivals and departures nobody is lost, and in the end everything has run."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    expected, joined = set[str](), set[str]()
    for number, (action, client, priority, rows) in enumerate(actions):
        if action == "add":
            scheduler.add(sequence(str(number), client, priority, rows))
            expected.add(str(number))
        elif action == "withdraw" and expected - joined:
            gone = min(expected - joined)
            assert scheduler.withdraw(gone) is not None
            expected.remove(gone)
        elif action == "leave" and scheduler.running:
            left, _, _ = max(scheduler.rosters, key=lambda roster: len(roster.running)).leave([0])
            scheduler.leave(left)
        elif action == "join":
            scheduler.join()
            joined |= {one.request.request_id for roster in scheduler.rosters for one in roster.running}
        assert scheduler.waiting == len(expected - joined)
    while scheduler.waiting:
        scheduler.join()
        for roster in scheduler.rosters:
            joined |= {one.request.request_id for one in roster.running}
            left, _, _ = roster.leave(range(len(roster.running)))
            scheduler.leave(left)
    assert expected == joined


def test_beside_a_crowd_others_have_a_roster_of_their_own() -> None:
    """A client with many texts leaves some rows free; who asks for little runs in the express roster."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    for number in range(100):
        scheduler.add(sequence(f"crowd{number}", "crowd"))
    scheduler.join()
    assert (28, 0) == (scheduler.bulk.rows, scheduler.express.rows)
    for name in ("a", "b"):
        scheduler.add(sequence(name, name))
    scheduler.join()
    assert (28, 2) == (scheduler.bulk.rows, scheduler.express.rows)


def test_many_clients_of_many_texts_are_a_crowd_too() -> None:
    """Although each of them runs only a few at a time."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    for number in range(400):
        scheduler.add(sequence(f"crowd{number}", f"crowd{number % 20}"))
    scheduler.join()
    scheduler.add(sequence("a", "a"))
    scheduler.join()
    assert (28, 1) == (scheduler.bulk.rows, scheduler.express.rows)


def test_a_crowd_that_went_leaves_one_roster_to_all() -> None:
    """What is withdrawn or has ended counts no more: the last texts of a client are no crowd."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    for number in range(100):
        scheduler.add(sequence(f"crowd{number}", "crowd"))
    scheduler.join()
    for number in range(28, 100):
        assert scheduler.withdraw(f"crowd{number}") is not None
    left, _, _ = scheduler.bulk.leave(range(2, 28))
    scheduler.leave(left)
    scheduler.add(sequence("a", "a"))
    scheduler.join()
    assert (3, 0) == (scheduler.bulk.rows, scheduler.express.rows)


def test_without_a_crowd_all_share_one_roster() -> None:
    """Many clients with a text each fill the batch, and a client alone has all of it but what it leaves to others."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    for number in range(40):
        scheduler.add(sequence(str(number), str(number)))
    scheduler.join()
    assert (32, 0) == (scheduler.bulk.rows, scheduler.express.rows)


def test_a_wide_beam_is_no_crowd() -> None:
    """Clients with one text each share one roster, however many rows their beams take."""
    scheduler = Scheduler(Limits(max_rows=32, join_patience=0))
    for number in range(10):
        scheduler.add(sequence(str(number), str(number), rows=4))
    scheduler.join()
    assert (32, 0) == (scheduler.bulk.rows, scheduler.express.rows)


def test_a_forecast_counts_turns_not_texts() -> None:
    """Before a new client has its turn each other has one; before one more of its own, as many as it has waiting."""
    scheduler = Scheduler(Limits(max_rows=8, join_patience=0))
    for number in range(500):
        scheduler.add(sequence(f"crowd{number}", "crowd"))
    params = DecodingParams(10)
    assert 1 == scheduler.ahead_of(Request("a", (4,), params, client="single"))
    assert 500 == scheduler.ahead_of(Request("a", (4,), params, client="crowd"))
    for number in range(20):
        scheduler.add(sequence(f"other{number}", f"other{number}"))
    assert 21 == scheduler.ahead_of(Request("a", (4,), params, client="single"))
