"""What a model must do before it serves."""

import re
from typing import Any

import msgspec
import pytest

from service import trial
from service.bundle import SelfTest
from service.errors import BundleError
from tests.serving import reversing, tokenizer

IDS = tokenizer().encode("abc").ids
RECORDED = SelfTest("abc", IDS, IDS[::-1], "cba")


def test_a_model_that_does_what_it_did() -> None:
    """It may serve."""
    trial.prove(reversing(), tokenizer(), RECORDED)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source_ids": (*IDS, 3)}, f"tokenizing 'abc' gives {IDS}, its export recorded {(*IDS, 3)}"),
        ({"target_ids": IDS}, f"translating 'abc' gives {IDS[::-1]}, its export recorded {IDS}"),
        ({"translation": "cab"}, f"the text of {IDS[::-1]} gives cba, its export recorded cab"),
    ],
)
def test_a_model_that_does_something_else(change: dict[str, Any], told: str) -> None:
    """It is refused, with what it did and what it should have done: ids, translation or text."""
    with pytest.raises(BundleError, match=re.escape(f"self-test: {told}; restore the bundle")):
        trial.prove(reversing(), tokenizer(), msgspec.structs.replace(RECORDED, **change))


def test_a_model_that_fails_while_it_tries() -> None:
    """The error is that of the step."""

    def fail(rows: int) -> None:
        raise ValueError("a kernel failed")

    with pytest.raises(Exception, match="decoding failed"):
        trial.prove(reversing(fail), tokenizer(), RECORDED)


@pytest.mark.parametrize(
    ("max_rows", "longest", "sizes", "widths"), [(64, 100, {1, 8, 64}, {8, 32}), (6, 16, {1, 6}, {8, 16})]
)
def test_the_batches_that_warm_a_model(max_rows: int, longest: int, sizes: set[int], widths: set[int]) -> None:
    """Few rows to as many as there may be, short texts to long ones, within what the model takes."""
    model = reversing(max_source_tokens=longest)
    trial.warm_up(model, max_rows)
    assert sizes <= set(model.encoded_batches)
    assert widths == set(model.widths)
