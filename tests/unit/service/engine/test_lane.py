"""A lane's caches hold what its rows have been through, however rows move, come and go."""

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.lane import HostLanes, Lane, Move
from service.engine.session import Arrays, Stepped
from service.request import Int64
from tests.fakes import START_ID, CachingModel


class WatchedModel(CachingModel):
    """Keeps what the caches held at its last step."""

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Note each row's tokens, this step's among them, and the number that its source gave it."""
        stepped = super().step(token_ids, carried, k, attention)
        rows = zip(carried["tokens"][:, 0, :, 0], carried["lengths"], strict=True)
        self.pasts = [tokens[: length + 1].astype(int).tolist() for tokens, length in rows]
        self.starts = carried["position"][:, 0].tolist()
        return stepped


def any_moves(random: Random, rows: int, size: int) -> list[Move]:
    """Let some rows of each group continue others of it, which stay."""
    moves = []
    for first in range(0, rows, size):
        group = list(range(first, first + size))
        random.shuffle(group)
        staying = random.randint(1, size)
        moves += [(row, random.choice(group[:staying])) for row in group[staying:]]
    return moves


def join(lane: Lane, model: CachingModel, source: list[int]) -> int:
    """Append a group for a source; return the number that stands for it."""
    encoded = model.encode(np.array([source]), np.array([len(source)]))
    lane.insert(encoded, np.array([len(source)]), [0], START_ID)
    return model.start(source)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 5))
def test_rows_carry_their_pasts_whatever_moves_joins_and_leaves(seed: int, size: int) -> None:
    """After any moves a row's cache begins with all that the row that it continues has read, its own tokens behind."""
    random = Random(seed)  # noqa: S311  nothing secret
    model = WatchedModel(20)
    lane = HostLanes(model).open(size)
    pasts: list[list[int]] = []
    starts: list[int] = []
    for step in range(40):
        if not pasts or random.random() < 0.1:
            starts += [join(lane, model, [5 + step, 6])] * size
            pasts += [[] for _ in range(size)]
            lane.tokens[-size:] = START_ID
        pasts = [[*past, int(token)] for past, token in zip(pasts, lane.tokens, strict=True)]
        lane.advance(1, attention=False)
        assert pasts == model.pasts
        assert starts == model.starts
        if moves := any_moves(random, len(pasts), size) if random.random() < 0.8 else []:
            lane.reorder(moves)
            parents = {row: row for row in range(len(pasts))} | dict(moves)
            pasts = [pasts[parents[row]] for row in range(len(pasts))]
        lane.tokens = np.array([random.randrange(4, 20) for _ in pasts])
        groups = len(pasts) // size
        if groups > 1 and random.random() < 0.1:
            staying = list(range(groups - 1))
            gone = random.randrange(groups)
            if gone < groups - 1:
                staying[gone] = groups - 1
            lane.keep(staying)
            kept = [group * size + row for group in staying for row in range(size)]
            pasts, starts = [pasts[row] for row in kept], [starts[row] for row in kept]
